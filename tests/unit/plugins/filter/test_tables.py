# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.selfhosted.llm.plugins.filter.tables import FilterModule


def test_filter() -> None:
    lines = FilterModule().filters()["status_table"](["a"], {"a": {}}, "_status")
    assert lines[-1].split() == ["a", "-", "unreachable", "-", "-", "-"]
