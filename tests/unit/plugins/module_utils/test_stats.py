# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.selfhosted.llm.plugins.module_utils.stats import percentile, summary, thin


@pytest.mark.parametrize(("percent", "value"), [(0, 1.0), (50, 3.0), (95, 4.8), (100, 5.0), (25, 2.0)])
def test_percentile(percent: float, value: float) -> None:
    assert percentile([5, 1, 4, 2, 3], percent) == pytest.approx(value)


def test_percentile_of_one_and_of_none() -> None:
    assert percentile([7.0], 99) == 7.0
    with pytest.raises(ValueError):
        percentile([], 50)


def test_summary() -> None:
    assert summary([]) == {"count": 0}
    assert summary([0.1, 0.3]) == {"count": 2, "mean": 0.2, "min": 0.1, "p50": 0.2, "p95": 0.29, "p99": 0.298, "max": 0.3}


def test_thin_keeps_the_ends_and_the_shape() -> None:
    values = [index / 1000.0 for index in range(5000)]
    kept = thin(values, 100)
    assert len(kept) == 100
    assert kept[0] == 0.0
    assert kept[-1] == 4.999
    assert kept[50] == pytest.approx(2.5, abs=0.05)
    assert thin([3.0, 1.0]) == [1.0, 3.0]
