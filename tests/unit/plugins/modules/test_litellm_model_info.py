# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.selfhosted.llm.plugins.modules import litellm_model_info
from ansible_collections.selfhosted.llm.tests.unit.scripted_gateway import CONNECTION, NO_DATABASE_KEY, ScriptedGateway
from ansible_collections.selfhosted.llm.tests.unit.scripted_http import run_module

GROUPS = {
    "data": [
        {"model_group": "embed", "mode": "embedding", "input_cost_per_token": None, "output_cost_per_token": None},
        {"model_group": "chat", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06},
    ]
}
DEPLOYMENTS = {
    "data": [
        {
            "model_name": "chat",
            "litellm_params": {"model": "ollama_chat/phi3", "api_base": "http://a"},
            "model_info": {"id": "chat@a", "db_model": False},
        },
        {
            "model_name": "chat",
            "litellm_params": {"model": "ollama_chat/phi3", "api_base": "http://b"},
            "model_info": {"id": "chat@b", "db_model": False},
        },
    ]
}


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[ScriptedGateway]:
    scripted = ScriptedGateway(monkeypatch)
    yield scripted
    scripted.done()


def test_models(gateway: ScriptedGateway, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.expect("GET", "/model_group/info", answer=GROUPS)
    gateway.expect("GET", "/v1/model/info", answer=DEPLOYMENTS)
    result = run_module(capsys, litellm_model_info.main, dict(CONNECTION), check_mode=True)
    assert not result["changed"]
    chat, embed = result["models"]
    assert [deployment["id"] for deployment in chat["deployments"]] == ["chat@a", "chat@b"]
    assert chat["input_cost_per_token"] == 1e-06
    assert embed == {"name": "embed", "mode": "embedding", "input_cost_per_token": None, "output_cost_per_token": None, "deployments": []}


def test_some_models(gateway: ScriptedGateway, capsys: pytest.CaptureFixture[str]) -> None:
    for _run in range(2):
        gateway.expect("GET", "/model_group/info", answer=GROUPS)
        gateway.expect("GET", "/v1/model/info", answer=DEPLOYMENTS)
    assert [model["name"] for model in run_module(capsys, litellm_model_info.main, {**CONNECTION, "names": ["embed"]})["models"]] == [
        "embed"
    ]
    result = run_module(capsys, litellm_model_info.main, {**CONNECTION, "names": ["nope"]})
    assert result["msg"] == "nope: the gateway does not offer it. It has chat, embed"


def test_a_wrong_key_without_a_database(gateway: ScriptedGateway, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.expect("GET", "/model_group/info", status=400, answer=NO_DATABASE_KEY)
    assert "or the master key is wrong" in run_module(capsys, litellm_model_info.main, dict(CONNECTION))["msg"]
