# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible_collections.selfhosted.llm.plugins.plugin_utils.tables import status_table, text_table


def service(name: str, **changes: t.Any) -> dict[str, t.Any]:
    up = {"name": name, "unit": "active", "enabled": True, "restarts": 0, "release": "1.0-abc", "models": ["a", "b"], "health": "ok"}
    return {**up, **changes}


def test_text_table() -> None:
    assert text_table(("A", "LONG"), [("wide cell", 1), ("x", None)]) == [
        "A          LONG",
        "---------  ----",
        "wide cell  1",
        "x          None",
    ]
    assert text_table(("A",), []) == ["A", "-"]


def test_status_table() -> None:
    hostvars: dict[str, t.Any] = {
        "api": {"_status": {"services": [service("litellm"), service("webui", models=[], release="", restarts=3, health="answered 503")]}},
        "gpu-1": {"_status": {"services": [service("ollama", unit="failed", enabled=False)]}},
        "gpu-2": {"_status": {"services": [service("ollama", unit="not installed", enabled=False, health="not asked")]}},
        "gpu-3": {"_status": {"unreachable": True}},
        "gpu-4": {},
        "idle": {"_status": {"services": []}},
    }
    assert status_table(list(hostvars), hostvars, "_status") == [
        "HOST   SERVICE  UNIT                 RELEASE  MODELS  HEALTH",
        "-----  -------  -------------------  -------  ------  ------------",
        "api    litellm  active               1.0-abc  a, b    ok",
        "api    webui    active, 3 restarts   -        -       answered 503",
        "gpu-1  ollama   failed, not enabled  1.0-abc  a, b    ok",
        "gpu-2  ollama   not installed        1.0-abc  a, b    not asked",
        "gpu-3  -        unreachable          -        -       -",
        "gpu-4  -        unreachable          -        -       -",
    ]


def test_servers_in_the_status_table() -> None:
    def asked(name: str, via: str, message: str) -> dict[str, t.Any]:
        return {"name": f"{name} is well", "message": message, "details": {"endpoint": name, "via": via}}

    checks = [asked("gpu-1:8080", "tunnel", "HTTP 200, ok, through a tunnel"), asked("gpu-2:8080", "lan", "no answer in time")]
    hostvars: dict[str, t.Any] = {
        "gw": {"_status": {"services": [service("litellm")]}, "_servers": {"checks": checks}},
        "gw2": {"_status": {"services": []}, "_servers": {"skipped": True}},
        "edge": {"_status": {"services": []}},
    }
    assert status_table(list(hostvars), hostvars, "_status", "_servers") == [
        "HOST  SERVICE     UNIT       RELEASE  MODELS  HEALTH",
        "----  ----------  ---------  -------  ------  ------------------------------",
        "gw    litellm     active     1.0-abc  a, b    ok",
        "gw    gpu-1:8080  by tunnel  -        -       HTTP 200, ok, through a tunnel",
        "gw    gpu-2:8080  by lan     -        -       no answer in time",
    ]
    assert len(status_table(list(hostvars), hostvars, "_status")) == 3
