# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The readiness probe of a deploy: one GET whose answer is compared with what was declared."""

from __future__ import annotations

import typing as t

from ansible_collections.selfhosted.llm.plugins.module_utils.http import ApiClient, ApiError, classify_status


class Probe(t.NamedTuple):
    """A GET of `path`. `status` must match, `json` must be contained in the answer, `models` must equal its data[].id."""

    path: str
    status: int = 200
    json: t.Mapping[str, t.Any] | None = None
    models: t.Sequence[str] | None = None
    token: str | None = None


# Seconds after which the same wrong answer is taken for the last word of a service.
SETTLED = 10.0


class Different(str):
    """What is wrong with a service that is up and answers otherwise than it should: that rarely gets right by itself."""


class Patience:
    """How long to wait for a service that does not answer as it should: `timeout` seconds, or until a different answer has settled."""

    def __init__(self, timeout: float, now: float) -> None:
        self._timeout, self._deadline = timeout, now + timeout
        self._answer: str | None = None
        self._since = now

    def end(self, wrong: str, now: float) -> str | None:
        """Why it is over, or None. To be told each time what is wrong, and the time of a monotonic clock."""
        answer = wrong if isinstance(wrong, Different) else None
        if answer != self._answer:
            self._answer, self._since = answer, now
        if now >= self._deadline:
            return f"not ready after {self._timeout:.0f} s: {wrong}"
        if answer is not None and now - self._since >= SETTLED:
            return f"the same answer for {SETTLED:.0f} s: {wrong}"
        return None


def missing_part(expected: t.Any, actual: t.Any, where: str = "answer") -> str | None:
    """What of `expected` is not in `actual`, in words, or None."""
    if isinstance(expected, t.Mapping):
        if not isinstance(actual, t.Mapping):
            return f"{where} is {type(actual).__name__}, not an object"
        for key, value in expected.items():
            if key not in actual:
                return f"{where} has no {key!r}"
            found = missing_part(value, actual[key], f"{where}.{key}")
            if found:
                return found
        return None
    if expected != actual:
        return f"{where} is {actual!r}, not {expected!r}"
    return None


def model_difference(expected: t.Iterable[str], answer: t.Any) -> str | None:
    """How a /v1/models answer differs from the declared names, in words, or None."""
    data = answer.get("data") if isinstance(answer, dict) else None
    listed = {str(item.get("id")) for item in data or [] if isinstance(item, dict)}
    missing, surplus = set(expected) - listed, listed - set(expected)
    parts = []
    if missing:
        parts.append(f"models missing: {', '.join(sorted(missing))}")
    if surplus:
        parts.append(f"models not declared: {', '.join(sorted(surplus))}")
    return "; ".join(parts) or None


def answer_of(probe: Probe, url: str) -> str | None:
    """None where the service at `url` answers as expected, else what is wrong. One try, at most 5 seconds between two reads."""
    try:
        response = ApiClient(url, token=probe.token, timeout=5, use_proxy=False).call("GET", probe.path)
        if response.status != probe.status:
            raise classify_status(response.status, response.text(), url + probe.path)
        wrong = missing_part(probe.json, response.json()) if probe.json else None
        if not wrong and probe.models is not None:
            wrong = model_difference(probe.models, response.json())
    except ApiError as exc:
        return exc.message
    return Different(f"{url}{probe.path}: {wrong}") if wrong else None
