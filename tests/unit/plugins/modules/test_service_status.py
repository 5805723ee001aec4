# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import shutil
import socket
import typing as t
from pathlib import Path
from urllib.error import URLError

import pytest

from ansible_collections.selfhosted.llm.plugins.modules import service_status
from ansible_collections.selfhosted.llm.plugins.modules.service_status import model_names
from ansible_collections.selfhosted.llm.tests.unit.scripted_http import ScriptedHttp, run_module

UP = "LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\nUnitFileState=enabled\nNRestarts=2\nJob=\n"
MISSING = "LoadState=not-found\nActiveState=inactive\nSubState=dead\nResult=success\nJob=\n"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[ScriptedHttp]:
    scripted = ScriptedHttp(monkeypatch)
    yield scripted
    scripted.done()


@pytest.fixture
def units(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    answers = {"litellm.service": UP}

    def run_command(_self: t.Any, command: list[str], **_options: t.Any) -> tuple[int, str, str]:
        if command[:3] == ["docker", "container", "inspect"]:
            return (0, answers[command[3]], "") if command[3] in answers else (1, "[]", f"No such container: {command[3]}")
        if command[0] == "check-tunnel":
            return (0, "", "") if command[1] == "up" else (1, "", "a warning\nnot connected\n")
        assert command[0] == "systemctl", "it reads only"
        if command[1] == "list-unit-files":
            return 0, answers.get(f"files {command[-1]}", ""), ""
        if command[1] == "list-units":
            return 0, answers.get(f"units {command[-1]}", ""), ""
        assert command[1] == "show", "it reads only"
        return 0, answers.get(command[-1], MISSING), ""

    monkeypatch.setattr(service_status.AnsibleModule, "run_command", run_command)
    return answers


Look = t.Callable[..., dict[str, t.Any]]


@pytest.fixture
def look(tmp_path: Path, units: dict[str, str], capsys: pytest.CaptureFixture[str]) -> Look:
    def call(**changes: t.Any) -> dict[str, t.Any]:
        service = {"name": "litellm", "current": str(tmp_path / "current"), "url": "http://127.0.0.1:4000", "health": "/health", **changes}
        result = run_module(capsys, service_status.main, {"services": [service]})
        assert result["changed"] is False
        return t.cast("dict[str, t.Any]", result["services"][0])

    return call


def test_a_healthy_service(look: Look, server: ScriptedHttp, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("/opt/litellm/releases/1.2.3-abc")
    server.expect("GET", "/health", answer="ok")
    server.expect("GET", "/v1/models", answer={"data": [{"id": "b"}, {"id": "a"}]})
    assert look(models="/v1/models", token="sk-1") == {
        "name": "litellm",
        "unit": "active",
        "enabled": True,
        "restarts": 2,
        "release": "1.2.3-abc",
        "healthy": True,
        "health": "ok",
        "models": ["a", "b"],
    }
    assert server.requests[1]["headers"]["Authorization"] == "Bearer sk-1"
    assert server.requests[0]["use_proxy"] is False


def test_one_without_models_and_token(look: Look, server: ScriptedHttp) -> None:
    server.expect("GET", "/health")
    found = look()
    assert (found["healthy"], found["models"], found["release"]) == (True, [], "")
    assert "Authorization" not in server.requests[0]["headers"]


def test_one_that_is_not_installed_is_not_asked(look: Look, server: ScriptedHttp) -> None:
    found = look(name="open-webui")
    assert (found["unit"], found["enabled"], found["healthy"], found["health"]) == ("not installed", False, False, "not asked")


@pytest.mark.parametrize(("listens", "words"), [(True, "ok"), (False, "port")])
def test_one_that_speaks_no_http(look: Look, server: ScriptedHttp, units: dict[str, str], listens: bool, words: str) -> None:
    units["redis-server.service"] = UP
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        if listens:
            bound.listen()
        found = look(name="redis-server", current="", url="", health="", port=bound.getsockname()[1])
    assert found["healthy"] is listens
    assert found["health"].startswith(words)
    assert found["release"] == ""


def test_a_stopped_one_that_speaks_no_http(look: Look, server: ScriptedHttp, units: dict[str, str]) -> None:
    units["redis-server.service"] = UP.replace("ActiveState=active", "ActiveState=failed")
    assert look(name="redis-server", url="", health="", port=1)["health"] == "the unit is failed"


def test_one_that_has_no_port(look: Look, server: ScriptedHttp, units: dict[str, str]) -> None:
    units["keepalived.service"] = UP
    assert look(name="keepalived", url="", health="")["health"] == "ok"
    units["keepalived.service"] = UP.replace("ActiveState=active", "ActiveState=activating")
    found = look(name="keepalived", url="", health="")
    assert (found["healthy"], found["health"]) == (False, "the unit is activating")


def test_a_pattern(units: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    units["files llm-tunnel-*.service"] = (
        "llm-tunnel-gw-1.service enabled enabled\nllm-tunnel-gw-2.service enabled enabled\nllm-tunnel-check@.service static -\n"
    )
    units["units llm-tunnel-*.service"] = (
        "llm-tunnel-check@gw-1.service loaded inactive dead Health check\n"
        "llm-tunnel-check@gw-2.service loaded failed failed Health check\n"
        "llm-tunnel-gw-1.service loaded active running Tunnel\n"
    )
    units["llm-tunnel-gw-1.service"] = UP
    units["llm-tunnel-gw-2.service"] = UP.replace("ActiveState=active", "ActiveState=inactive")
    units["llm-tunnel-check@gw-1.service"] = UP.replace("=enabled", "=static").replace("ActiveState=active", "ActiveState=inactive")
    units["llm-tunnel-check@gw-2.service"] = UP.replace("=enabled", "=static").replace("ActiveState=active", "ActiveState=failed")
    result = run_module(capsys, service_status.main, {"services": [{"name": "llm-tunnel-*"}, {"name": "llama-server-*"}]})
    assert [(service["name"], service["healthy"], service["health"]) for service in result["services"]] == [
        ("llm-tunnel-check@gw-2", False, "the unit is failed"),
        ("llm-tunnel-gw-1", True, "ok"),
        ("llm-tunnel-gw-2", False, "the unit is inactive"),
    ]


@pytest.mark.parametrize(("answer", "health"), [("up", "ok"), ("down", "not connected")])
def test_one_that_a_command_tells_of(look: Look, server: ScriptedHttp, units: dict[str, str], answer: str, health: str) -> None:
    units["tunnel.service"] = UP
    found = look(name="tunnel", current="", url="", health="", command=["check-tunnel", answer])
    assert (found["healthy"], found["health"]) == (health == "ok", health)
    units["tunnel.service"] = UP.replace("ActiveState=active", "ActiveState=failed")
    assert look(name="tunnel", url="", health="", command=["check-tunnel", answer])["health"] == "the unit is failed"


def test_a_stopped_one(look: Look, server: ScriptedHttp, units: dict[str, str]) -> None:
    units["litellm.service"] = UP.replace("ActiveState=active", "ActiveState=failed").replace("=enabled", "=disabled")
    server.expect("GET", "/health", error=URLError(ConnectionRefusedError(111, "Connection refused")))
    found = look()
    assert (found["unit"], found["enabled"], found["healthy"]) == ("failed", False, False)
    assert "cannot connect" in found["health"]


def container(status: str = "running", health: str = "healthy", image: str = "registry:5000/litellm:v1.2.3", **changes: t.Any) -> str:
    raw = {
        "Config": {"Image": image},
        "State": {"Status": status, **({"Health": {"Status": health}} if health else {})},
        "HostConfig": {"RestartPolicy": {"Name": "unless-stopped"}},
        "RestartCount": 1,
        **changes,
    }
    return json.dumps([raw])


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: "/usr/bin/docker")


@pytest.mark.usefixtures("docker")
def test_a_container_that_answers(look: Look, server: ScriptedHttp, units: dict[str, str]) -> None:
    units["llm-proxy-1"] = container()
    server.expect("GET", "/health")
    server.expect("GET", "/v1/models", answer={"data": [{"id": "a"}]})
    assert look(name="litellm-proxy", container="llm-proxy-1", models="/v1/models") == {
        "name": "litellm-proxy",
        "unit": "running",
        "enabled": True,
        "restarts": 1,
        "release": "v1.2.3",
        "healthy": True,
        "health": "ok",
        "models": ["a"],
    }


@pytest.mark.usefixtures("docker")
@pytest.mark.parametrize(
    ("state", "health"),
    [
        ({}, "ok"),
        ({"health": ""}, "ok"),
        ({"health": "unhealthy"}, "the container is unhealthy"),
        ({"health": "starting"}, "the container is starting"),
        ({"status": "exited"}, "the container is exited"),
    ],
)
def test_a_container_without_http(look: Look, server: ScriptedHttp, units: dict[str, str], state: dict[str, str], health: str) -> None:
    units["llm-db-1"] = container(image=f"postgres:16@sha256:{'0' * 64}", **state)
    found = look(name="litellm-db", container="llm-db-1", url="", health="")
    assert (found["healthy"], found["health"], found["release"]) == (health == "ok", health, "16")


@pytest.mark.usefixtures("docker")
def test_a_container_that_nobody_starts_at_boot(look: Look, server: ScriptedHttp, units: dict[str, str]) -> None:
    units["llm-db-1"] = container(image="sha256:0123", HostConfig={"RestartPolicy": {"Name": "no"}})
    assert look(container="llm-db-1", url="", health="")["enabled"] is False


@pytest.mark.parametrize("installed", [True, False])
def test_a_container_that_is_not_there(look: Look, server: ScriptedHttp, monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: "/usr/bin/docker" if installed else None)
    found = look(container="llm-proxy-1")
    assert (found["unit"], found["healthy"], found["health"]) == ("not installed", False, "not asked")


@pytest.mark.parametrize(
    ("reply", "words"), [({"status": 401, "answer": {"error": "bad key"}}, "answered 401: bad key"), ({"answer": "<html>"}, "not JSON")]
)
def test_a_list_of_models_that_cannot_be_had(look: Look, server: ScriptedHttp, reply: dict[str, t.Any], words: str) -> None:
    server.expect("GET", "/health")
    server.expect("GET", "/v1/models", **reply)
    found = look(models="/v1/models")
    assert (found["healthy"], found["models"]) == (False, [])
    assert words in found["health"]


def test_a_folder_in_place_of_the_link_is_no_failure(look: Look, server: ScriptedHttp, tmp_path: Path) -> None:
    (tmp_path / "current").mkdir()
    server.expect("GET", "/health")
    assert look()["release"] == ""


def test_the_token_is_not_in_the_result(look: Look, server: ScriptedHttp) -> None:
    server.expect("GET", "/health", status=500, answer="the key was sk-a-long-secret-token")
    assert "sk-a-long-secret-token" not in str(look(token="sk-a-long-secret-token"))


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        ({"data": [{"id": "b"}, {"id": "a"}]}, ["a", "b"]),
        ({"models": [{"name": "phi3:3.8b"}]}, ["phi3:3.8b"]),
        ({"data": None}, []),
        ({"data": ["a", {"id": "b"}]}, ["b"]),
        ({}, []),
        ([], []),
        ("text", []),
    ],
)
def test_model_names(answer: t.Any, names: list[str]) -> None:
    assert model_names(answer) == names
