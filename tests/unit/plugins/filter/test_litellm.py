# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.selfhosted.llm.plugins.filter.litellm import FilterModule

FILTERS = FilterModule().filters()


def test_config() -> None:
    config = FILTERS["litellm_config"]([{"model_name": "a"}], {"num_retries": 2}, {"general_settings": {"x": 1}})
    assert config["router_settings"] == {"num_retries": 2}
    assert config["general_settings"]["x"] == 1
    assert FILTERS["litellm_config"]([{"model_name": "a"}], {})["router_settings"] == {}


def test_mistakes_are_errors_of_a_filter() -> None:
    with pytest.raises(AnsibleFilterError, match="the model list is empty"):
        FILTERS["litellm_config"]([], {})


def test_problems() -> None:
    settings = {"timeout": 1, "stream_timeout": 1, "cache": "none", "cache_ttl": 0}
    found = FILTERS["litellm_problems"](settings, master_key="", version="1", lock="litellm==1", model_list=[{}], secrets={})
    assert [problem.partition(":")[0] for problem in found] == ["litellm_proxy_master_key"]
