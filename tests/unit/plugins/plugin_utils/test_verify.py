# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.selfhosted.llm.plugins.plugin_utils.verify import (
    verify_edges,
    verify_gateways,
    verify_page_requests,
    verify_pages,
    verify_topology,
)


def test_results_go_to_their_gateways_without_the_options_of_the_task() -> None:
    api = {"results": [{"item": "gw2", "checks": [2], "invocation": {"module_args": "secret"}}, {"item": "gw1", "checks": [1]}]}
    sdk = {"results": [{"item": "gw1", "stdout": "{}", "rc": 0, "cmd": ["x"], "stdin": "secret"}]}
    assert verify_gateways({"gw1": "http://1", "gw2": "http://2"}, api, sdk) == [
        {"name": "gw1", "group": "litellm", "url": "http://1", "documents": [{"checks": [1]}, {"stdout": "{}", "rc": 0}]},
        {"name": "gw2", "group": "litellm", "url": "http://2", "documents": [{"checks": [2]}]},
    ]


def test_a_task_that_did_not_run_leaves_no_document() -> None:
    assert verify_gateways({"gw": "u"}, {"skipped": True}) == [{"name": "gw", "group": "litellm", "url": "u", "documents": []}]


def test_versions_are_those_of_the_live_releases() -> None:
    hostvars = {
        "gw": {
            "looked": {"results": [{"item": "litellm", "stat": {"exists": True, "lnk_target": "/opt/litellm/releases/1.106.2-0a1b2c"}}]}
        },
        "llm01": {"looked": {"results": [{"item": "llm", "stat": {"lnk_target": "releases/0.32.15"}}]}},
        "llm02": {"looked": {"results": [{"item": "llm", "stat": {"exists": False}}]}},
        "web": {"looked": {"unreachable": True}},
        "never": {},
    }
    urls = {"litellm": {"gw": "http://gw"}, "llm": {"llm01": "u1", "llm02": "u2"}, "webui": {"web": "w", "never": "n"}}
    found = {entry["name"]: entry["version"] for entry in verify_topology(urls, hostvars, "looked")}
    assert found == {"gw": "1.106.2", "llm01": "0.32.15", "llm02": "", "web": "", "never": ""}
    assert verify_topology({"llm": {"llm01": "u1"}}, hostvars, "looked") == [
        {"name": "llm01", "group": "llm", "url": "u1", "version": "0.32.15"}
    ]


def test_servers_are_part_of_the_topology() -> None:
    endpoints = [
        {"name": "gpu-1:8080", "url": "http://192.0.2.11:8080"},
        {"name": "gpu-2:8080", "url": "http://127.0.0.1:8080", "via": "tunnel"},
    ]
    assert verify_topology({}, {}, "looked", endpoints) == [
        {"name": "gpu-1:8080", "group": "server", "url": "http://192.0.2.11:8080", "version": "", "via": "lan"},
        {"name": "gpu-2:8080", "group": "server", "url": "http://127.0.0.1:8080", "version": "", "via": "tunnel"},
    ]


def test_results_of_edges() -> None:
    checked = {"results": [{"item": {"name": "edge-1", "url": "x"}, "checks": [1]}, {"item": {"name": "edge-1"}, "checks": [2]}]}
    assert verify_gateways({"edge-1": "https://api"}, checked, group="edge") == [
        {"name": "edge-1", "group": "edge", "url": "https://api", "documents": [{"checks": [1]}, {"checks": [2]}]}
    ]


def test_what_to_ask_of_edges() -> None:
    hostvars: dict[str, dict[str, object]] = {
        "edge-1": {"reverse_proxy_vip": "192.0.2.10/24"},
        "edge-2": {
            "reverse_proxy_vip": "192.0.2.10/24",
            "reverse_proxy_http_port": 8000,
            "reverse_proxy_hsts_max_age": 0,
            "reverse_proxy_admin_networks": ["10.0.0.0/8"],
            "reverse_proxy_public_paths": ["/ui", "/mcp"],
            "llm_verify_edge_address": "203.0.113.5:8443",
        },
        "edge-3": {"llm_verify_edge_address": ""},
    }
    addresses = {name: f"{name}.internal" for name in hostvars}
    urls = {"edge-1": "https://api.example.com", "edge-2": "https://api.example.com:8443"}
    found = verify_edges(urls, hostvars, addresses, {"edge-2": "https://chat.example.com:8443", "edge-3": "https://chat.example.com"})
    assert [(edge["name"], edge["connect_to"], edge["shared"], edge["hsts"]) for edge in found] == [
        ("edge-1", "edge-1.internal", False, True),
        ("edge-2", "203.0.113.5:8443", False, False),
        ("edge-3", "", False, True),
        ("edge-1", "192.0.2.10", True, True),
    ]
    assert found[0]["sites"] == [
        {
            "url": "https://api.example.com",
            "kind": "api",
            "http_port": 80,
            "refused_paths": ["/ui/", "/key/list", "/model/info", "/health"],
            "admitted_networks": [],
        }
    ]
    assert found[1]["sites"] == [
        {
            "url": "https://api.example.com:8443",
            "kind": "api",
            "http_port": 8000,
            "refused_paths": ["/key/list", "/model/info", "/health"],
            "admitted_networks": ["10.0.0.0/8"],
        },
        {"url": "https://chat.example.com:8443", "kind": "webui", "http_port": 8000},
    ]
    assert (found[2]["url"], [site["kind"] for site in found[2]["sites"]]) == ("", ["webui"])
    assert verify_edges({}, {}, {}) == []


def test_further_documents_go_to_the_first_gateway() -> None:
    found = verify_gateways({"gw1": "a", "gw2": "b"}, further=[{"client": "Open WebUI on web"}])
    assert [len(gateway["documents"]) for gateway in found] == [1, 0]


def test_where_pages_are_asked_for() -> None:
    hostvars = {
        "web1": {},
        "web2": {"open_webui_host": "10.0.0.2", "open_webui_port": 80},
        "web3": {"open_webui_host": "fe80::1"},
        "web4": {"llm_verify_webui_url": "https://chat.example.org/", "open_webui_host": "127.0.0.1"},
    }
    requests = verify_page_requests(list(hostvars), hostvars)
    assert [(request["url"], request["local"]) for request in requests if request["path"] == "/health"] == [
        ("http://127.0.0.1:8080", True),
        ("http://10.0.0.2:80", True),
        ("http://[fe80::1]:8080", True),
        ("https://chat.example.org", False),
    ]
    assert {request["path"] for request in requests} == {"/health", "/"}


def test_pages() -> None:
    def item(host: str, path: str) -> dict[str, str]:
        return {"host": host, "url": f"http://{host}", "path": path}

    results = [
        {"item": item("good", "/health"), "status": 200, "json": {"status": True}, "elapsed": 1, "invocation": {"secret": 1}},
        {"item": item("good", "/"), "status": 200, "content_type": "text/html; charset=utf-8", "content": "<html>"},
        {"item": item("gone", "/health"), "status": -1, "msg": "Status code was -1: Connection refused", "elapsed": 0},
        {"item": item("gone", "/"), "unreachable": True, "msg": "no route"},
        {"item": item("ill", "/health"), "status": 200, "json": {"status": False}},
        {"item": item("ill", "/"), "status": 502, "content_type": "text/html"},
        {"item": item("odd", "/"), "status": 200, "content_type": "application/json"},
        {"item": item("new", "/"), "skipped": True},
    ]
    documents = {document["client"]: document["checks"] for document in verify_pages({"results": results})}
    assert list(documents) == ["Open WebUI on good", "Open WebUI on gone", "Open WebUI on ill", "Open WebUI on odd"]
    assert [(check["name"], check["status"], check["seconds"]) for check in documents["Open WebUI on good"]] == [
        ("is well", "passed", 1.0),
        ("the page opens", "passed", 0.0),
    ]
    bad = {name: [(check["layer"], check["message"]) for check in checks] for name, checks in documents.items()}
    assert bad["Open WebUI on gone"] == [
        ("refused", "http://gone/health: Status code was -1: Connection refused"),
        ("refused", "http://gone/: no route"),
    ]
    assert bad["Open WebUI on ill"] == [
        ("protocol", "http://ill/health: does not say that it is well"),
        ("backend", "http://ill/: answered 502"),
    ]
    assert bad["Open WebUI on odd"][0][1] == "http://odd/: answered with application/json instead of a page"
    assert verify_pages({"skipped": True}) == []
