# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest

from ansible_collections.selfhosted.llm.plugins.module_utils import progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def state(path: Path) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", json.loads(path.read_text()))


def test_the_rate_is_that_of_the_last_seconds(tmp_path: Path) -> None:
    path, clock = tmp_path / "p", Clock()
    work = progress.Progress(str(path), clock)
    work.update("phi3:3.8b", "pulling", 0, 1000)
    for done in (100, 200, 300):
        clock.now += 1
        work.update("phi3:3.8b", "pulling", done, 1000)
    assert state(path) == {"name": "phi3:3.8b", "step": "pulling", "done": 300, "total": 1000, "rate": 100.0}
    clock.now += 60
    work.update("phi3:3.8b", "pulling", 301, 1000)
    assert state(path)["rate"] == 0.0


def test_writes_seldom_but_never_misses_a_step(tmp_path: Path) -> None:
    path, clock = tmp_path / "p", Clock()
    work = progress.Progress(str(path), clock)
    work.update("a", "pulling", 1, 9)
    work.update("a", "pulling", 2, 9)
    assert state(path)["done"] == 1
    work.update("a", "loading")
    assert state(path)["step"] == "loading"
    assert [entry.name for entry in tmp_path.iterdir()] == ["p"]


def test_keeps_quiet_without_a_file_or_where_it_cannot_write(tmp_path: Path) -> None:
    progress.Progress(None).update("a", "pulling")
    work = progress.Progress(str(tmp_path / "missing" / "p"))
    work.update("a", "pulling")
    work.update("b", "pulling")


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (31_000_000, "31.0 MB"), (310_000_000, "310 MB"), (2.6e9, "2.6 GB"), (3e12, "3.0 TB")],
)
def test_human_bytes(number: float, text: str) -> None:
    assert progress.human_bytes(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0 s"), (48, "48 s"), (119, "119 s"), (300, "5 min"), (8000, "2 h 13 min")])
def test_human_seconds(seconds: float, text: str) -> None:
    assert progress.human_seconds(seconds) == text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"name": "phi3:3.8b", "step": "pulling", "done": 1_100_000_000, "total": 2_600_000_000, "rate": 31_000_000.0},
            "phi3:3.8b  pulling  42 %  1.1 GB of 2.6 GB  31.0 MB/s  48 s left",
        ),
        ({"name": "a", "step": "loading", "done": 0, "total": 0, "rate": 0.0}, "a  loading"),
        ({"name": "a", "step": "pulling", "done": 9, "total": 9, "rate": 3.0}, "a  pulling  100 %  9 B of 9 B  3 B/s"),
        ({"name": "a", "step": "downloading", "done": 900, "total": 0, "rate": 0.0}, "a  downloading  900 B"),
    ],
)
def test_line(given: dict[str, t.Any], text: str) -> None:
    assert progress.line(given) == text
