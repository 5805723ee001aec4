# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.selfhosted.llm.plugins.filter.verify import FilterModule, verify_gateways, verify_topology


def test_results_go_to_their_gateways_without_the_options_of_the_task() -> None:
    api = {"results": [{"item": "gw2", "checks": [2], "invocation": {"module_args": "secret"}}, {"item": "gw1", "checks": [1]}]}
    sdk = {"results": [{"item": "gw1", "stdout": "{}", "rc": 0, "cmd": ["x"], "stdin": "secret"}]}
    assert verify_gateways({"gw1": "http://1", "gw2": "http://2"}, api, sdk) == [
        {"name": "gw1", "url": "http://1", "documents": [{"checks": [1]}, {"stdout": "{}", "rc": 0}]},
        {"name": "gw2", "url": "http://2", "documents": [{"checks": [2]}]},
    ]


def test_a_task_that_did_not_run_leaves_no_document() -> None:
    assert verify_gateways({"gw": "u"}, {"skipped": True}) == [{"name": "gw", "url": "u", "documents": []}]


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


def test_names() -> None:
    assert set(FilterModule().filters()) == {"verify_gateways", "verify_topology"}
