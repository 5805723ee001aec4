# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far long work is: a module writes it to a file, the action plugin of the same name reads and shows it.

A module cannot print. The file is replaced atomically, so a reader sees a whole state or none.
"""

from __future__ import annotations

import json
import time
import typing as t
from pathlib import Path

_WRITE_EVERY = 0.5
_RATE_WINDOW = 10.0


class Progress:
    """Where a module says what it is doing. Without a path it keeps quiet."""

    def __init__(self, path: str | None, clock: t.Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._key: tuple[str, str] | None = None
        self._samples: list[tuple[float, int]] = []
        self._written = float("-inf")

    def update(self, name: str, step: str, done: int = 0, total: int = 0) -> None:
        """`name` is what is worked on, `step` what happens to it, `done` and `total` are bytes where they are known."""
        if not self._path:
            return
        now = self._clock()
        new_step = self._key != (name, step)
        if new_step:
            self._key = (name, step)
            self._samples = []
        self._samples = [sample for sample in self._samples if now - sample[0] <= _RATE_WINDOW] + [(now, done)]
        if not new_step and now - self._written < _WRITE_EVERY:
            return
        self._written = now
        self._write({"name": name, "step": step, "done": done, "total": total, "rate": self._rate()})

    def _rate(self) -> float:
        first, last = self._samples[0], self._samples[-1]
        seconds = last[0] - first[0]
        return max(0.0, (last[1] - first[1]) / seconds) if seconds > 0 else 0.0

    def _write(self, state: dict[str, t.Any]) -> None:
        temporary = Path(f"{self._path}.new")
        try:
            temporary.write_text(json.dumps(state), encoding="utf-8")
            temporary.replace(str(self._path))
        except OSError:
            # Only the display suffers; the work goes on.
            self._path = None


def human_bytes(number: float) -> str:
    """1234567 -> 1.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.0f} {unit}" if number >= 100 or unit == "B" else f"{number:.1f} {unit}"
        number /= 1000.0
    return f"{number:.1f} TB"


def human_seconds(seconds: float) -> str:
    """5000 -> 1 h 23 min."""
    whole = int(seconds + 0.5)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def line(state: dict[str, t.Any]) -> str:
    """The line shown for a state: phi3:3.8b  pulling  42 %  1.1 GB of 2.6 GB  31 MB/s  48 s left."""
    done, total, rate = state.get("done", 0), state.get("total", 0), state.get("rate", 0.0)
    parts = [str(state.get("name", "")), str(state.get("step", ""))]
    if total:
        parts += [f"{100 * done // total} %", f"{human_bytes(done)} of {human_bytes(total)}"]
    elif done:
        parts.append(human_bytes(done))
    if rate >= 1:
        parts.append(f"{human_bytes(rate)}/s")
        if total > done:
            parts.append(f"{human_seconds((total - done) / rate)} left")
    return "  ".join(parts)
