# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.selfhosted.llm.plugins.module_utils.openai_load import (
    MOST_AT_A_TIME,
    MOST_REQUESTS,
    Load,
    LoadSize,
    Sample,
    analyse,
    skew,
)


@pytest.mark.parametrize(
    ("backends", "given", "size"),
    [
        (0, {}, (40, 8)),
        (2, {}, (40, 8)),
        (6, {}, (120, 24)),
        (8, {}, (160, 32)),
        (2, {"processes": 4}, (160, 32)),
        (8, {"processes": 4}, (640, 128)),
        (16, {"processes": 4}, (640, 128)),
        (80, {}, (1600, 160)),
        (200, {}, (2000, 400)),
        (8, {"requests": 12}, (12, 32)),
        (8, {"concurrency": 4}, (160, 16)),
        (8, {"concurrency": 64}, (320, 64)),
        (2, {"requests": 12, "concurrency": 4}, (12, 4)),
    ],
)
def test_a_load_grows_with_the_backends(backends: int, given: dict[str, int], size: tuple[int, int]) -> None:
    assert LoadSize.of(backends, **given) == size


@pytest.mark.parametrize("backends", range(1, 33))
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_it_is_enough_to_judge_by_and_bounded(backends: int, processes: int) -> None:
    size = LoadSize.of(backends, processes=processes)
    assert size.concurrency >= 4 * backends
    assert size.requests >= 20 * backends
    assert size.concurrency <= MOST_AT_A_TIME
    assert size.requests <= MOST_REQUESTS
    assert size.doubled() == (2 * size.requests, 2 * size.concurrency)


def numbers(answers: dict[str, int], declared: list[str]) -> dict[str, t.Any]:
    return analyse(Load([Sample(0.1, name) for name, number in answers.items() for _index in range(number)], 1.0), declared)


def test_skew() -> None:
    declared = [f"m@{letter}" for letter in "abcdef"]
    assert skew(numbers(dict.fromkeys(declared, 20), declared), declared, 0.25) == {}
    # The fair share of six is 20 of 120, a quarter of it 5.
    assert skew(numbers({**dict.fromkeys(declared[:5], 23), "m@f": 5}, declared), declared, 0.25) == {}
    assert skew(numbers({**dict.fromkeys(declared[:5], 24)}, declared), declared, 0.25) == {
        "m@f": "m@f answered 0 of 120 requests (0 %, at least 4.17 % wanted)"
    }
