# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.selfhosted.llm.plugins.filter.collections import FilterModule


def test_filter() -> None:
    installed = FilterModule().filters()["collection_installed"]
    assert installed("selfhosted.llm")
    assert not installed("selfhosted.no_such_collection")
    assert not installed("no_such_namespace.at_all")
