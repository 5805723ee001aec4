# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What tests change while the server runs: speed, faults, and the counters they read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Callable

_FAILURES = ("", "drop", "runner")


def _fraction(value: Any) -> float:
    """How much of a model sits on a GPU: true, false, or a share."""
    if isinstance(value, bool):
        return 1.0 if value else 0.0
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return 1.0 if value.lower() == "true" else 0.0
    share = float(value)
    if not 0 <= share <= 1:
        raise ValueError("vram is true, false or a share between 0 and 1")
    return share


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("1", "true", "yes"):
        return True
    if str(value).lower() in ("", "0", "false", "no"):
        return False
    raise ValueError(f"{value!r} is neither true nor false")


def _number(value: Any) -> float:
    number = float(value)
    if number < 0:
        raise ValueError("must not be negative")
    return number


def _count(value: Any) -> int:
    return int(_number(value))


def _failure(value: Any) -> str:
    text = "" if value in (None, False) else str(value)
    if text not in _FAILURES and not (text.isdigit() and 400 <= int(text) <= 599):
        raise ValueError("fail is empty, drop, runner, or a status from 400 to 599")
    return text


# name: (how it is read, default)
SETTINGS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "tokens_per_second": (_number, 100.0),  # of one request; 0 is as fast as it goes
    "prompt_tokens_per_second": (_number, 0.0),  # 0 is at once
    "delay": (_number, 0.0),  # seconds a request holds its slot before the first token
    "load_seconds": (_number, 0.25),
    "pull_bytes_per_second": (_number, 1e9),
    "pull_bytes": (_count, 0),  # size of the model layer of what is pulled; 0 is the catalogue's
    "reply": (str, ""),  # what the models say; empty is a sentence that names the model and repeats the question
    "reply_tokens": (_count, 0),  # length of an answer; 0 is as long as the reply
    "vram": (_fraction, 0.0),
    "hang": (_boolean, False),  # takes requests, answers none, freezes streams
    "fail": (_failure, ""),  # how model requests fail
    "registry": (str, "up"),  # anything else: the registry's name does not resolve
}


class Control:
    """The settings, the gate that `hang` shuts, and the counters."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.values: dict[str, Any] = {}
        for name, (read, default) in SETTINGS.items():
            given = environ.get("OLLAMA_STANDIN_" + name.upper())
            try:
                self.values[name] = default if given in (None, "") else read(given)
            except ValueError as error:
                raise SystemExit(f"Error: OLLAMA_STANDIN_{name.upper()}: {error}") from error
        self._gate = asyncio.Event()
        self.reset()
        self.in_flight = self.running = 0
        self.update({})

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["values"][name]
        except KeyError:
            raise AttributeError(name) from None

    def reset(self) -> None:
        self.requests: dict[str, int] = {}
        self.statuses: dict[str, int] = {}
        self.max_in_flight = self.max_running = 0

    def update(self, changes: Mapping[str, Any]) -> None:
        """Take new settings, all or none; ValueError says what is wrong with them."""
        unknown = sorted(set(changes) - set(SETTINGS))
        if unknown:
            raise ValueError(f"unknown: {', '.join(unknown)}; known: {', '.join(SETTINGS)}")
        read = {}
        for name, value in changes.items():
            try:
                read[name] = SETTINGS[name][0](value)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name}: {error}") from error
        self.values.update(read)
        if self.values["hang"]:
            self._gate.clear()
        else:
            self._gate.set()

    async def gate(self) -> None:
        """Pass at once, or never while the server hangs."""
        if not self._gate.is_set():
            await self._gate.wait()

    # A request is in flight from its head to the end of its answer, and running while it holds a slot of a model.
    def enter(self) -> None:
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def leave(self) -> None:
        self.in_flight -= 1

    def start(self) -> None:
        self.running += 1
        self.max_running = max(self.max_running, self.running)

    def stop(self) -> None:
        self.running -= 1

    def count(self, path: str) -> None:
        self.requests[path] = self.requests.get(path, 0) + 1

    def count_status(self, status: int) -> None:
        self.statuses[str(status)] = self.statuses.get(str(status), 0) + 1

    def state(self) -> dict[str, Any]:
        counters = {
            "requests": self.requests,
            "statuses": self.statuses,
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "running": self.running,
            "max_running": self.max_running,
        }
        return {**self.values, "counters": counters}
