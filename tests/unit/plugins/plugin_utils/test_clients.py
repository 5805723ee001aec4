# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import subprocess

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.selfhosted.llm.plugins.filter.clients import FilterModule
from ansible_collections.selfhosted.llm.plugins.plugin_utils.clients import CLIENTS, ClientError, client_settings

KEY = "sk-of-a-client-4d1f"


def body(client: str, key: str = "", embedding: str = "embed") -> str:
    return "\n".join(client_settings("https://api.example", "default", embedding, key, client))


@pytest.mark.parametrize("client", CLIENTS)
def test_every_client_gets_address_and_model_and_no_key(client: str) -> None:
    text = body(client)
    assert "https://api.example/v1" in text
    assert body(client) == "\n".join(client_settings("https://api.example/v1/", "default", "embed", "", client))
    assert KEY not in text
    assert KEY in body(client, KEY)
    if client != "open-webui":
        assert "default" in text


def test_all_are_there_one_after_the_other() -> None:
    text = "\n".join(client_settings("https://api.example/v1/", "default"))
    assert [title for title, _ in CLIENTS.values()] == [line.strip("- ") for line in text.splitlines() if line.startswith("---")]
    assert "/v1/v1" not in text


def test_aiterm_s_settings_are_its_file() -> None:
    settings = json.loads(body("aiterm", KEY).split(":\n\n", 1)[1])
    assert settings == {"api_endpoint": "https://api.example/v1/chat/completions", "api_token": KEY, "model": "default", "shell": "auto"}


def test_continue_s_settings_are_its_file() -> None:
    settings = yaml.safe_load(body("continue", KEY).split(":\n\n", 1)[1])
    assert [model["model"] for model in settings["models"]] == ["default", "embed"]
    assert settings["models"][1]["roles"] == ["embed"]
    assert len(yaml.safe_load(body("continue", KEY, "").split(":\n\n", 1)[1])["models"]) == 1
    assert yaml.safe_load(body("continue").split(":\n\n", 1)[1])["models"][0]["apiKey"] == "${{ secrets.LLM_API_KEY }}"


@pytest.mark.parametrize("key", ["", KEY])
def test_the_shell_takes_curl_s_lines(key: str) -> None:
    subprocess.run(["bash", "-n", "-c", "\n".join(body("curl", key).splitlines()[2:])], check=True)


def test_python_takes_the_lines_of_its_sdk() -> None:
    code = body("openai-python").split("pip install openai\n", 1)[1]
    compile(code, "client.py", "exec")


def test_mistakes() -> None:
    with pytest.raises(ClientError, match="no model to chat with"):
        client_settings("http://x", "")
    with pytest.raises(AnsibleFilterError, match=r"llm_client: 'emacs' is not known\. Known are: all, curl"):
        FilterModule().filters()["client_settings"]("http://x", "m", client="emacs")
