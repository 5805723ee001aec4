# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.selfhosted.llm.plugins.plugin_utils.hosts import (
    addresses,
    edge_proxies,
    edge_url,
    edge_urls,
    host_ports,
    host_urls,
)
from ansible_collections.selfhosted.llm.plugins.plugin_utils.inventory import inventory_problems

HOSTVARS: dict[str, dict[str, t.Any]] = {
    "plain": {},
    "connected": {"ansible_host": "10.0.0.2"},
    "named": {"ansible_host": "10.0.0.3", "llm_address": "gpu.internal"},
    "six": {"ansible_host": "fd00::1", "ollama_backend_port": 8000},
    "empty": {"ansible_host": "", "ollama_backend_port": None},
}
MODELS = [{"name": "a", "ollama": {"model": "phi3"}}]
GROUPS = {"all": ["gpu", "api"], "llm": ["gpu"], "litellm": ["api"], "webui": ["api"]}


def test_addresses() -> None:
    assert addresses(list(HOSTVARS), HOSTVARS) == ["plain", "10.0.0.2", "gpu.internal", "fd00::1", "empty"]


def test_host_urls() -> None:
    assert host_urls(list(HOSTVARS), HOSTVARS, "ollama_backend_port", 11434) == {
        "plain": "http://plain:11434",
        "connected": "http://10.0.0.2:11434",
        "named": "http://gpu.internal:11434",
        "six": "http://[fd00::1]:8000",
        "empty": "http://empty:11434",
    }


def test_a_host_that_is_reached_in_another_way() -> None:
    hostvars = {"a": {"url": "https://gateway.example"}, "b": {"url": ""}}
    assert host_urls(["a", "b"], hostvars, "port", 80, "url") == {"a": "https://gateway.example", "b": "http://b:80"}
    assert host_urls(["a"], hostvars, "port", 80) == {"a": "http://a:80"}


def test_host_ports() -> None:
    assert host_ports(["named", "six"], HOSTVARS, "ollama_backend_port", 11434) == [
        {"host": "gpu.internal", "port": 11434},
        {"host": "fd00::1", "port": 8000},
    ]


def test_edge_urls() -> None:
    hostvars: dict[str, dict[str, t.Any]] = {
        "a": {"names": ["api.example", "other.example"]},
        "b": {"names": ["fd00::1"], "reverse_proxy_https_port": 8443},
        "c": {"names": []},
        "d": {},
    }
    assert edge_urls(list(hostvars), hostvars, "names") == {"a": "https://api.example", "b": "https://[fd00::1]:8443"}


@pytest.mark.parametrize(
    ("edges", "url"),
    [
        ([], ""),
        ([{}], ""),
        ([{"names": ["chat.example"]}], "https://chat.example"),
        ([{"names": ["fd00::1"], "reverse_proxy_https_port": 8443}], "https://[fd00::1]:8443"),
        # Two that share an address, and one for something else.
        ([{"names": ["chat.example"]}, {"names": ["chat.example"]}, {"names": []}], "https://chat.example"),
        # Which of them users type, the inventory does not say.
        ([{"names": ["chat.example", "chat.other.example"]}], ""),
        ([{"names": ["chat.example"]}, {"names": ["chat.other.example"]}], ""),
        ([{"names": ["chat.example"]}, {"names": ["chat.example"], "reverse_proxy_https_port": 8443}], ""),
    ],
)
def test_edge_url(edges: list[dict[str, t.Any]], url: str) -> None:
    hostvars = {str(number): values for number, values in enumerate(edges)}
    assert edge_url(list(hostvars), hostvars, "names") == url


def test_edge_proxies() -> None:
    hostvars: dict[str, dict[str, t.Any]] = {
        "a": {"names": ["chat.example"], "ansible_host": "192.0.2.11"},
        "b": {"names": ["chat.example"], "ansible_host": "192.0.2.12", "llm_address": "fd00::2"},
        # It passes nothing of this kind on.
        "c": {"names": [], "ansible_host": "192.0.2.13"},
        # Whoever compares addresses does not know it by its name.
        "d": {"names": ["chat.example"], "ansible_host": "edge.internal"},
    }
    assert edge_proxies(list(hostvars), hostvars, "names") == ["192.0.2.11", "fd00::2"]


def problems(groups: dict[str, list[str]] | None = None, models: t.Any = MODELS, **hostvars: dict[str, t.Any]) -> list[str]:
    return inventory_problems(groups or GROUPS, {"gpu": {}, "api": {}, **hostvars}, models)


def test_a_sound_inventory() -> None:
    assert problems() == []


@pytest.mark.parametrize("groups", [{**GROUPS, "litellm": []}, {name: hosts for name, hosts in GROUPS.items() if name != "litellm"}])
def test_without_a_gateway(groups: dict[str, list[str]]) -> None:
    assert problems(groups) == ["The group litellm has no hosts. Name the machine that runs the gateway."]


def test_without_ollama_hosts() -> None:
    (found,) = problems({**GROUPS, "llm": []})
    assert found.startswith("llm_models (a): no host of group llm matches the pattern 'llm'")
    assert problems({**GROUPS, "llm": []}, [{"name": "a", "provider": "openai/gpt"}]) == []


def test_mistakes_in_the_models() -> None:
    assert problems(models=None)[0].startswith("llm_models must be a list")
    same_name = [{"name": name, "provider": "openai/x", "api_key": name} for name in ("a-b", "a.b")]
    assert "its api_key would be called LLM_KEY_A_B_OPENAI" in problems(models=same_name)[0]


def test_two_services_on_one_port() -> None:
    found = problems(api={"open_webui_port": "4000"})
    assert found == ["api: open_webui_port is 4000, as is litellm_proxy_port. Give one of them another port."]
    groups = {**GROUPS, "llm": ["api"], "all": ["api"]}
    assert problems(groups, api={"ollama_backend_port": 8080}) == [
        "api: open_webui_port is 8080, as is ollama_backend_port. Give one of them another port."
    ]


def test_an_edge_on_the_host_of_another_part() -> None:
    groups = {**GROUPS, "edge": ["api"]}
    assert problems(groups) == []
    assert problems(groups, api={"open_webui_port": 443}) == [
        "api: reverse_proxy_https_port is 443, as is open_webui_port. Give one of them another port."
    ]


def test_every_problem_is_told_at_once() -> None:
    found = inventory_problems({"llm": ["x"], "webui": ["x"]}, {"x": {"ollama_backend_port": 8080}}, [])
    assert len(found) == 3


@pytest.mark.parametrize("port", ["http", -1, 70000, [80]])
def test_a_port_that_is_none(port: t.Any) -> None:
    assert problems(api={"litellm_proxy_port": port}) == [f"api: litellm_proxy_port must be a port number from 1 to 65535, not {port!r}."]


def test_a_backend_that_no_gateway_can_reach() -> None:
    (found,) = problems(gpu={"ollama_backend_bind_address": "127.0.0.1"})
    assert found.startswith("gpu: ollama_backend_bind_address is loopback, but there is a gateway on another host.")
    one = {"all": ["api"], "llm": ["api"], "litellm": ["api"]}
    assert problems(one, api={"ollama_backend_bind_address": "127.0.0.1"}) == []


@pytest.mark.parametrize("address", [["10.0.0.3"], "http://gpu:1", "[fd00::1]", "10.0.0.3:22", ""])
def test_an_address_that_is_none(address: object) -> None:
    (found,) = inventory_problems(GROUPS, {"gpu": {"llm_address": address}, "api": {}}, MODELS)
    assert found.startswith("gpu: llm_address must be an address or a name by itself")


@pytest.mark.parametrize("address", ["10.0.0.3", "fd00::1", "gpu.internal", "fe80::1%eth0", None])
def test_an_address_that_is_one(address: object) -> None:
    assert inventory_problems(GROUPS, {"gpu": {"llm_address": address}, "api": {}}, MODELS) == []


def test_one_store() -> None:
    (found,) = inventory_problems({**GROUPS, "store": ["gpu", "api"]}, {"gpu": {}, "api": {}}, MODELS)
    assert found.startswith("The group store has 2 hosts, and the gateways share one.")
