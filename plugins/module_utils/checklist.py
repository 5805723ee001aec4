# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of checks: what was tried, how it went, and the document made of it.

One check is {name, group, status, layer, message, seconds, details}; status is passed, failed or skipped,
and a skipped one says why in its message.
"""

from __future__ import annotations

import time
import typing as t

from ansible_collections.selfhosted.llm.plugins.module_utils.http import ApiError

PASSED = "passed"
FAILED = "failed"
SKIPPED = "skipped"


class CheckError(Exception):
    """Raised by a check that found something wrong which is not a failed call."""

    def __init__(self, layer: str, message: str, details: dict[str, t.Any] | None = None) -> None:
        super().__init__(message)
        self.layer = layer
        self.message = message
        self.details = details or {}


class SkippedError(Exception):
    """Raised by a check that cannot say anything; the text is the reason."""


class CheckList:
    """Runs checks and keeps their results, in order. No check ends the others."""

    def __init__(self, hide: t.Sequence[str] = ()) -> None:
        self.checks: list[dict[str, t.Any]] = []
        self._hide = [text for text in hide if text]

    def hide(self, text: str) -> None:
        """From now on this must not appear in a message."""
        self._hide.append(text)

    def _add(
        self, name: str, group: str, status: str, layer: str | None, message: str, seconds: float, details: dict[str, t.Any]
    ) -> dict[str, t.Any]:
        # A server may repeat the key in its error.
        for text in self._hide:
            message = message.replace(text, "[hidden]")
        check = {
            "name": name,
            "group": group,
            "status": status,
            "layer": layer,
            "message": message,
            "seconds": round(seconds, 4),
            "details": details,
        }
        self.checks.append(check)
        return check

    def skip(self, name: str, group: str, reason: str) -> None:
        self._add(name, group, SKIPPED, None, reason, 0.0, {})

    def run(self, name: str, group: str, check: t.Callable[[dict[str, t.Any]], str]) -> bool:
        """Runs one check. It fills the dictionary with details, and returns what it found in a line."""
        details: dict[str, t.Any] = {}
        started = time.monotonic()
        status, layer = PASSED, None
        try:
            message = check(details)
        except SkippedError as exc:
            status, message = SKIPPED, str(exc)
        except CheckError as exc:
            status, layer, message = FAILED, exc.layer, exc.message
            details.update(exc.details)
        except ApiError as exc:
            status, layer, message = FAILED, exc.layer, exc.message
            if exc.status is not None:
                details["http_status"] = exc.status
        self._add(name, group, status, layer, message, time.monotonic() - started, details)
        return status != FAILED

    def counts(self) -> dict[str, int]:
        return count(self.checks)


def count(checks: t.Sequence[dict[str, t.Any]]) -> dict[str, int]:
    counts = {PASSED: 0, FAILED: 0, SKIPPED: 0}
    for check in checks:
        counts[check["status"]] += 1
    return counts


def failure_message(checks: t.Sequence[dict[str, t.Any]]) -> str:
    """One line: how many failed, at which layers, and each failed check."""
    failed = [check for check in checks if check["status"] == FAILED]
    layers: list[str] = []
    for check in failed:
        if check["layer"] not in layers:
            layers.append(check["layer"])
    listed = " | ".join(f"{check['name']} [{check['layer']}]: {check['message']}" for check in failed)
    return f"{len(failed)} of {len(checks)} checks failed (layer: {', '.join(layers)}). {listed}"
