# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.selfhosted.llm.plugins.plugin_utils import hf_space

PORTS = [80, 443, 8080]
GOOD = [{"name": "a", "provider": "huggingface/Qwen/A"}]
KEY = "sk-Gw7Rn2Wq9Zt4Lb6Vm3Yc8Hd5Jf"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://api.example.com/v1", ""),
        ("https://api.example.com:8080/v1", ""),
        ("https://8.8.8.8/v1", ""),
        ("http://api.example.com/v1", "has to be encrypted"),
        ("https://10.0.0.7/v1", "private network"),
        ("https://127.0.0.1/v1", "private network"),
        ("https://[fd00::1]/v1", "private network"),
        ("https://gpu-1/v1", "private network"),
        ("https://gpu.internal/v1", "private network"),
        ("https://api.example.com:8443/v1", "this is port 8443 (llm_space_ports)"),
        ("https://", "no URL"),
        ("https://[::1", "no URL"),
    ],
)
def test_urls(url: str, words: str) -> None:
    problem = hf_space.public_problem(url, PORTS, {"https": 443})
    assert words in problem
    assert bool(problem) == bool(words)


def test_any_port() -> None:
    assert hf_space.public_problem("https://api.example.com:8443/v1", [], {"https": 443}) == ""


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (GOOD[0], ""),
        ({"name": "a", "provider": "huggingface/tgi", "api_base": "https://x.endpoints.huggingface.cloud"}, ""),
        (
            {"name": "a", "provider": "openai/x", "api_base": "http://10.0.0.1:8080/v1"},
            "llm_models (a): api_base has http://10.0.0.1:8080/v1",
        ),
        ({"name": "a", "servers": ["https://gpu.example.com/v1"]}, ""),
        ({"name": "a", "servers": [{"url": "http://gpu-1:8080/v1"}]}, "llm_models (a): servers has http://gpu-1:8080/v1"),
        ({"name": "a", "servers": [{"host": "gpu-1", "ports": [8080]}]}, "hosts of the inventory"),
        ({"name": "a", "ollama": {"model": "phi3"}}, "served by Ollama on hosts of your own network"),
    ],
)
def test_models(entry: dict[str, t.Any], words: str) -> None:
    found = hf_space.inventory_problems([entry], {}, PORTS)
    assert len(found) == bool(words)
    assert words in "".join(found)
    assert not found or "Give it a provider:" in found[0]


@pytest.mark.parametrize("models", [None, [], "a"])
def test_no_models(models: t.Any) -> None:
    assert "llm_models" in hf_space.inventory_problems(models, {}, PORTS)[0]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"llm_servers_via": "lan", "litellm_proxy_metrics": False}, ""),
        ({"llm_servers_via": "tunnel"}, "SSH tunnels end on gateways of your own"),
        ({"litellm_proxy_redis_host": "redis"}, "it is one container"),
        ({"litellm_proxy_database_url": "postgresql://u:top-secret@db.example.com:443/d"}, ""),
        ({"litellm_proxy_database_url": "postgresql://u:top-secret@db.example.com/d"}, "this is port 5432"),
        ({"litellm_proxy_database_url": "postgresql://u:top-secret@10.0.0.2:443/d"}, "private network"),
        (
            {"litellm_proxy_database_url": "postgres://u:p@d.example.com:443/d", "litellm_proxy_direct_database_url": "x"},
            "llm_direct_database_url",
        ),
        ({"litellm_proxy_custom_auth": "backend"}, "litellm_proxy_custom_auth is set, but the handler"),
        ({"litellm_proxy_metrics": True}, "nobody scrapes a Space"),
        ({"litellm_proxy_ca_bundle": "/etc/ca.pem"}, "public certificate authorities only"),
        ({"litellm_proxy_proxy_url": "http://proxy:3128"}, "no proxy of yours"),
    ],
)
def test_settings(variables: dict[str, t.Any], words: str) -> None:
    found = hf_space.inventory_problems(GOOD, variables, PORTS)
    assert len(found) == bool(words)
    assert words in "".join(found)
    assert "top-secret" not in "".join(found)


def problems(**changes: t.Any) -> list[str]:
    given: dict[str, t.Any] = {
        "repository": "somebody/gateway",
        "token": "hf_x",
        "version": "v1.106.2",
        "master_key": KEY,
        "files": {"config.yaml": "x"},
        "models": [{"name": "a"}],
        "secrets": {"LITELLM_MASTER_KEY": KEY},
        **changes,
    }
    return hf_space.problems(given.pop("repository"), **given)


def test_nothing_wrong() -> None:
    assert problems() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"repository": "gateway"}, "hf_space_repository"),
        ({"token": ""}, "hf_space_token is empty"),
        ({"token": "hf_x\n"}, "hf_space_token contains white space"),
        ({"version": "v1.82.8-stable"}, "hf_space_version: v1.82.8-stable was published with malicious code"),
        ({"master_key": "sk-1234"}, "hf_space_master_key"),
        ({"secrets": {}}, "hf_space_secrets"),
        ({"files": {}}, "hf_space_files has no config.yaml"),
        ({"models": []}, "hf_space_models is empty"),
    ],
)
def test_mistakes(changes: dict[str, t.Any], words: str) -> None:
    (found,) = problems(**changes)
    assert words in found


@pytest.mark.parametrize(
    ("repository", "url"),
    [("somebody/gateway", "https://somebody-gateway.hf.space"), ("Some_Body/My.LLM", "https://some-body-my-llm.hf.space")],
)
def test_url(repository: str, url: str) -> None:
    assert hf_space.space_url(repository) == url


def test_environment() -> None:
    gateway = {"HOST": "::", "PORT": 4000, "HOME": "/var/lib/litellm", "DISABLE_SCHEMA_UPDATE": "true", "NUM_WORKERS": 1, "MINE": "x"}
    assert hf_space.environment(gateway, {"MINE": "x"}, 7860, "/tmp") == {
        "HOME": "/tmp",
        "HOST": "0.0.0.0",
        "PORT": "7860",
        "NUM_WORKERS": "1",
    }


def test_words_of_a_dockerfile() -> None:
    assert hf_space.docker_words({"A": 'x "y" $HOME \\', "B": "ä"}) == 'A="x \\"y\\" \\$HOME \\\\" \\\n    B="ä"'
    with pytest.raises(ValueError, match="more than one line"):
        hf_space.docker_words({"A": "x\ny"})
