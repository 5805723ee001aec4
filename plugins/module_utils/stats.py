# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Percentiles and summaries of measured times. Everything is in seconds."""

from __future__ import annotations

import typing as t


def percentile(values: t.Sequence[float], percent: float) -> float:
    """The given percentile, linear between the two nearest values. `values` need not be sorted, and not be empty."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("a percentile of nothing")
    position = (len(ordered) - 1) * percent / 100.0
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def summary(values: t.Sequence[float]) -> dict[str, t.Any]:
    """Count, mean and the usual percentiles; only the count where there are no values."""
    if not values:
        return {"count": 0}
    return {
        "count": len(values),
        "mean": round(sum(values) / len(values), 4),
        "min": round(min(values), 4),
        "p50": round(percentile(values, 50), 4),
        "p95": round(percentile(values, 95), 4),
        "p99": round(percentile(values, 99), 4),
        "max": round(max(values), 4),
    }


def thin(values: t.Sequence[float], limit: int = 400) -> list[float]:
    """At most `limit` of the values, sorted and evenly picked: keeps the shape of the distribution and both ends."""
    ordered = sorted(values)
    if len(ordered) > limit:
        step = (len(ordered) - 1) / float(limit - 1)
        ordered = [ordered[round(index * step)] for index in range(limit)]
    return [round(value, 4) for value in ordered]
