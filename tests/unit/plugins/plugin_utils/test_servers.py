# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.selfhosted.llm.plugins.filter.servers import FilterModule
from ansible_collections.selfhosted.llm.plugins.plugin_utils.inventory import inventory_problems
from ansible_collections.selfhosted.llm.plugins.plugin_utils.models import Catalogue, ModelsError
from ansible_collections.selfhosted.llm.plugins.plugin_utils.servers import (
    resolved_models,
    server_endpoints,
    server_problems,
    tunnelled_servers,
)

LAN: dict[str, dict[str, t.Any]] = {"gpu-1": {"ansible_host": "10.0.0.5"}, "gpu-2": {"llm_address": "fd00::2"}, "gw": {}}
TUNNEL = {**LAN, "gpu-1": {**LAN["gpu-1"], "llm_servers_via": "tunnel"}}


def chat(*servers: t.Any, name: str = "chat") -> list[dict[str, t.Any]]:
    return [{"name": name, "servers": list(servers)}]


def test_a_range_on_the_network() -> None:
    (entry,) = resolved_models(chat({"host": "gpu-1", "ports": "8080-8081", "rpm": 5}, "http://elsewhere:1/v1"), LAN)
    assert entry["servers"] == [
        {"url": "http://10.0.0.5:8080/v1", "name": "gpu-1:8080", "rpm": 5},
        {"url": "http://10.0.0.5:8081/v1", "name": "gpu-1:8081", "rpm": 5},
        "http://elsewhere:1/v1",
    ]


def test_the_same_declaration_through_tunnels() -> None:
    models = chat({"host": "gpu-1", "ports": 8080, "tunnel_ports": 18080}, {"host": "gpu-2", "ports": 8080})
    (entry,) = resolved_models(models, TUNNEL)
    assert [server["url"] for server in entry["servers"]] == ["http://127.0.0.1:18080/v1", "http://[fd00::2]:8080/v1"]
    assert tunnelled_servers(models, TUNNEL) == [
        {"host": "gpu-1", "port": 8080, "tunnel_port": 18080, "scheme": "http", "health": "/health"}
    ]
    assert tunnelled_servers(models, LAN) == []


def test_deployments_are_called_the_same_both_ways() -> None:
    models = chat({"host": "gpu-1", "ports": "8080-8081"})
    for hostvars in (LAN, TUNNEL):
        assert Catalogue(resolved_models(models, hostvars)).expected()[0]["backends"] == ["chat@gpu-1:8080", "chat@gpu-1:8081"]


def test_a_host_that_is_not_in_the_inventory() -> None:
    (entry,) = resolved_models(chat({"host": "192.0.2.9", "ports": 443, "scheme": "https", "path": "/openai/v1"}), TUNNEL)
    assert entry["servers"][0]["url"] == "https://192.0.2.9:443/openai/v1"


def test_each_server_is_asked_once() -> None:
    models = [
        *chat({"host": "gpu-1", "ports": "8080-8081", "api_key": "k"}),
        *chat({"host": "gpu-1", "ports": 8080, "api_key": "k"}, {"host": "gpu-2", "ports": 9, "health": ""}, name="again"),
    ]
    assert server_endpoints(models, TUNNEL) == [
        {"name": "gpu-1:8080", "url": "http://127.0.0.1:8080", "path": "/health", "via": "tunnel", "token": "k"},
        {"name": "gpu-1:8081", "url": "http://127.0.0.1:8081", "path": "/health", "via": "tunnel", "token": "k"},
    ]
    assert [server["port"] for server in tunnelled_servers(models, TUNNEL)] == [8080, 8081]


def test_what_has_no_servers_stays_as_it_is() -> None:
    models: list[t.Any] = [{"name": "a", "ollama": {"model": "phi3"}}, {"name": "b", "servers": "wrong"}, 7]
    assert resolved_models(models, LAN) == models
    assert resolved_models(None, LAN) is None


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"host": "gpu-1"}, "ports is missing beside host 'gpu-1'"),
        ({"host": "gpu-1", "ports": 1, "url": "http://x"}, "url and host are two ways"),
        ({"host": "gpu-1", "ports": 1, "port": 2}, "unknown key 'port' beside host"),
        ({"host": 7, "ports": 1}, "host must not be a whole number"),
        ({"host": "gpu-1", "ports": True}, "ports must not be true or false"),
        ({"host": "gpu-1", "ports": "8087-8080"}, "ports has 8087-8080, and a range goes upwards"),
        ({"host": "gpu-1", "ports": 1, "tunnel_ports": "1-65535"}, "tunnel_ports has more than 256 ports"),
        ({"host": "gpu-1", "ports": []}, "ports is empty"),
        ({"host": "gpu-1", "ports": 1, "scheme": "tcp"}, "scheme must be http or https"),
        ({"host": "gpu-1", "ports": 1, "health": "health"}, "health must begin with a slash"),
        ({"host": "gpu-1", "ports": "1-2", "tunnel_ports": 1}, "has 2 ports and 1 tunnel_ports"),
    ],
)
def test_mistakes(item: dict[str, t.Any], words: str) -> None:
    with pytest.raises(ModelsError, match=words):
        resolved_models(chat(item), LAN)


def test_a_misspelt_host() -> None:
    with pytest.raises(ModelsError, match=r"host 'hc-gup-1' is not in the inventory. Did you mean hc-gpu-1\?"):
        resolved_models(chat({"host": "hc-gup-1", "ports": 1}), {"hc-gpu-1": {}})
    # Another one, that is in the network and not in the inventory.
    assert resolved_models(chat({"host": "hc-gpu-2", "ports": 1}), {"hc-gpu-1": {}})


def test_an_unknown_way() -> None:
    with pytest.raises(ModelsError, match="gpu-1: llm_servers_via must be lan or tunnel, not 'vpn'"):
        resolved_models(chat({"host": "gpu-1", "ports": 1}), {"gpu-1": {"llm_servers_via": "vpn"}})


def test_two_tunnels_that_end_at_one_port() -> None:
    hostvars = {**TUNNEL, "gpu-2": {"llm_servers_via": "tunnel"}}
    models = chat({"host": "gpu-1", "ports": 8080}, {"host": "gpu-2", "ports": 8080})
    (found,) = server_problems(models, hostvars, ["gw"])
    assert "gpu-2:8080 and gpu-1:8080 both end at port 8080" in found
    assert "tunnel_ports" in found
    models = chat({"host": "gpu-1", "ports": 8080}, {"host": "gpu-2", "ports": 8080, "tunnel_ports": 18080})
    assert server_problems(models, hostvars, ["gw"]) == []


def test_a_tunnel_that_ends_at_the_gateway_s_own_port() -> None:
    models = chat({"host": "gpu-1", "ports": 4000})
    (found,) = server_problems(models, TUNNEL, ["gw"])
    assert "port 4000 of gw, which is the gateway's own" in found
    assert server_problems(models, LAN, ["gw"]) == []


def test_one_server_with_two_ends() -> None:
    models = [*chat({"host": "gpu-1", "ports": 1}), *chat({"host": "gpu-1", "ports": 1, "tunnel_ports": 2}, name="other")]
    assert "Give both the same tunnel_ports" in server_problems(models, TUNNEL, [])[0]


def test_a_server_that_gateways_would_look_for_at_home() -> None:
    hostvars = {**LAN, "gpu-1": {"ansible_host": "127.0.0.1"}}
    (found,) = server_problems(chat({"host": "gpu-1", "ports": "1-2"}), hostvars, ["gw"])
    assert "Set llm_address" in found
    assert server_problems(chat({"host": "gpu-1", "ports": "1-2"}), hostvars, ["gpu-1"]) == []


def test_preflight_says_it() -> None:
    groups = {"litellm": ["gw"]}
    assert inventory_problems(groups, TUNNEL, chat({"host": "gpu-1", "ports": 8080})) == []
    assert "own" in inventory_problems(groups, TUNNEL, chat({"host": "gpu-1", "ports": 4000}))[0]
    assert "ports is missing" in inventory_problems(groups, TUNNEL, chat({"host": "gpu-1"}))[0]


def test_filters_say_mistakes_without_a_traceback() -> None:
    for function in FilterModule().filters().values():
        with pytest.raises(AnsibleFilterError, match="ports is missing"):
            function(chat({"host": "gpu-1"}), LAN)
