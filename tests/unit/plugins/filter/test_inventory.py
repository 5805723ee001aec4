# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.selfhosted.llm.plugins.filter.inventory import FilterModule

FILTERS = FilterModule().filters()


def test_filters() -> None:
    hostvars = {"a": {"ansible_host": "10.0.0.1", "port": 80}}
    assert FILTERS["addresses"](["a"], hostvars) == ["10.0.0.1"]
    assert FILTERS["host_urls"](["a"], hostvars, "port", 1) == {"a": "http://10.0.0.1:80"}
    assert FILTERS["inventory_problems"]({}, {}, [{"name": "a", "provider": "openai/a"}]) == [
        "The group litellm has no hosts. Name the machine that runs the gateway."
    ]
