# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from datetime import UTC, datetime, timedelta

import pytest

from ansible_collections.selfhosted.llm.plugins.module_utils import litellm_values as values

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("30d", "30d"),
        (" 30D ", "30d"),
        ("030d", "30d"),
        ("daily", "1d"),
        ("24h", "1d"),
        ("weekly", "7d"),
        ("1w", "7d"),
        ("2w", "14d"),
        ("1mo", "30d"),
        ("monthly", "30d"),
        ("2mo", "2mo"),
        ("60m", "1h"),
        # These reset at other moments.
        ("120m", "120m"),
        ("48h", "48h"),
        (None, None),
        ("", None),
    ],
)
def test_duration(written: t.Any, found: t.Any) -> None:
    assert values.duration(written) == found


@pytest.mark.parametrize("written", ["30", "30dx", "d", "0d", "-1d", "1.5h", "30 days", "1y"])
def test_no_duration(written: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        values.duration(written)
    # LiteLLM stores it all the same.
    assert values.stored_duration(written) == written


@pytest.mark.parametrize(
    ("start", "length", "end"),
    [
        ("2026-11-21", "90d", "2027-02-19"),
        ("2026-11-30", "3mo", "2027-02-28"),
        ("2026-11-21", "1mo", "2026-12-21"),
        ("2026-12-31", "12mo", "2027-12-31"),
        ("2026-11-21", "2w", "2026-12-05"),
        ("2026-11-21", "weekly", "2026-11-28"),
    ],
)
def test_after(start: str, length: str, end: str) -> None:
    begin = values.moment(start)
    assert begin is not None
    assert values.after(begin, length) == values.moment(end)


@pytest.mark.parametrize(
    "written",
    [
        "2026-11-21T12:00:00Z",
        "2026-11-21 12:00",
        "2026-11-21T12:00:00",
        "2026-11-21T13:00:00+01:00",
        "2026-11-21T12:00:00.000000Z",
        "2026-11-21T12:00:00.0Z",
    ],
)
def test_moment(written: str) -> None:
    assert values.moment(written) == NOW


def test_no_moment() -> None:
    assert values.moment(None) is None
    assert values.moment("") is None
    with pytest.raises(ValueError, match="is not a date"):
        values.moment("soon")


def test_same_moment() -> None:
    def at(seconds: float) -> datetime:
        return NOW + timedelta(seconds=seconds)

    assert values.same_moment(None, None, NOW)
    assert not values.same_moment(at(0), None, NOW)
    assert values.same_moment(at(1000), at(1100), NOW)
    assert not values.same_moment(at(1000), at(1200), NOW)
    assert values.same_moment(at(-1000), at(-100000), NOW)
    assert not values.same_moment(at(-100), at(100), NOW)


def test_models() -> None:
    assert values.models(["b", "a", "b"]) == ["a", "b"]
    assert values.models(None) == values.models([]) == values.models(["all-proxy-models"]) == []
    assert values.models(["all-team-models"]) == ["all-team-models"]


def test_numbers() -> None:
    assert values.money(0.1 + 0.2) == 0.3
    assert values.money(None) is None
    assert values.money(0) == 0.0
    assert values.whole(0) == 0
    assert values.whole(None) is None


def test_windows_are_a_set_without_their_next_reset() -> None:
    one = [{"budget_duration": "7d", "max_budget": 5}, {"budget_duration": "24h", "max_budget": 1.0, "reset_at": "2026-11-22T00:00:00Z"}]
    other = [{"budget_duration": "daily", "max_budget": 1}, {"budget_duration": "weekly", "max_budget": 5.0}]
    assert values.windows(one) == values.windows(other)
    assert values.windows(None) == values.windows([]) == []


def test_metadata() -> None:
    stored = {"mine": 1, "gone": None, "tags": ["t"], "model_rpm_limit": {"a": 1}}
    assert values.metadata(stored) == {"mine": 1}
    assert values.reserved(stored) == {"tags": ["t"], "model_rpm_limit": {"a": 1}}
    assert values.metadata(None) == values.reserved(None) == {}


def test_key_hash() -> None:
    # As LiteLLM stores it: sha256sum of the value.
    assert values.key_hash("sk-1234") == "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b"
