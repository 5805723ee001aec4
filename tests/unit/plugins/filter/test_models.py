# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the filters add to the functions of plugin_utils: their names, and errors that Ansible shows without a traceback."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.selfhosted.llm.plugins.filter.models import FilterModule

FILTERS = FilterModule().filters()
GROUPS = {"all": ["gpu-1", "gpu-2"], "llm": ["gpu-1", "gpu-2"]}
URLS = {"gpu-1": "http://gpu-1:11434", "gpu-2": "http://gpu-2:11434"}
MODELS: list[dict[str, t.Any]] = [
    {"name": "a", "aliases": ["x"], "ollama": {"model": "phi3"}, "fallbacks": ["b"]},
    {"name": "b", "mode": "embedding", "provider": "openai/b", "api_key": "k"},
]


def apply(name: str, *arguments: t.Any) -> t.Any:
    return FILTERS[name](MODELS, GROUPS, URLS, *arguments)


def test_every_consumer_gets_its_part() -> None:
    assert [item["model_info"]["id"] for item in apply("model_list")] == ["a@gpu-1", "a@gpu-2", "b@openai"]
    assert apply("model_secrets") == {"LLM_KEY_B_OPENAI": "k"}
    assert apply("model_aliases") == {"x": "a"}
    assert apply("model_fallbacks")[0] == {"a": ["a@gpu-2", "a@gpu-1", "b"]}
    assert [model["name"] for model in apply("expected_models")] == ["a", "b"]
    assert apply("model_names") == ["a", "x", "b"]
    assert apply("model_names", "embedding") == ["b"]
    assert apply("ollama_models", "gpu-1") == [{"name": "phi3"}]


def test_groups_and_urls_may_be_left_out() -> None:
    assert FILTERS["model_names"](MODELS[1:]) == ["b"]


@pytest.mark.parametrize("name", FILTERS)
def test_mistakes_are_errors_of_a_filter(name: str) -> None:
    with pytest.raises(AnsibleFilterError, match="llm_models must be a list"):
        FILTERS[name](None)
    with pytest.raises(AnsibleFilterError, match=r"llm_models \(a\): no host of group llm"):
        FILTERS[name](MODELS, {}, {})
