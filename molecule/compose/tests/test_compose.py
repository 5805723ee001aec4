# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The project as it runs after all that was done with it, from its host, and from the machine that publishes it."""

from __future__ import annotations

import json
import os
import subprocess
import time
import typing as t
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://compose"]

ROOT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
INVENTORY = str(Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent)
FOLDER = ROOT / ".cache/compose"
PROJECT = "selfhosted-llm-compose-test"
URL = "http://127.0.0.1:14000"
KEY = "sk-molecule-w8Hq3ZtVb6NkPx5RyLmS9cGd"
SECRETS = [KEY, "Kq9tX3vLm2Rp8ZsWc7Hy5JdGb4NfTe6U", "kD7vQ2xLp9TzW4nJ8sRb", "Hw5rT8yUq2LpX9vBn3KdZs7McJ4gFe6A", "key-of-$the-server"]
OWNERS = {"litellm-proxy": "65534", "litellm-db": "999"}


def docker(host: Host, command: str) -> str:
    return str(host.check_output(f"DOCKER_HOST=unix:///srv/docker.sock docker {command}"))


def container(service: str) -> str:
    return f"{PROJECT}-{service}-1"


def inspect(host: Host, service: str) -> dict[str, t.Any]:
    found: dict[str, t.Any] = json.loads(docker(host, f"inspect {container(service)}"))[0]
    return found


def ask(path: str, key: str, body: dict[str, t.Any] | None = None) -> tuple[int, t.Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            text = answer.read().decode()
            return answer.status, json.loads(text) if "json" in answer.headers["Content-Type"] else text
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def chat(key: str) -> int:
    return ask("/v1/chat/completions", key, {"model": "default", "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]})[0]


def play(playbook: str) -> str:
    command = ["ansible-playbook", "--inventory", INVENTORY, str(ROOT / "playbooks" / playbook)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stdout[-3000:]
    return result.stdout


@pytest.mark.parametrize("service", OWNERS)
def test_it_is_healthy(host: Host, service: str) -> None:
    deadline = time.monotonic() + 60
    while (state := inspect(host, service)["State"])["Health"]["Status"] == "starting" and time.monotonic() < deadline:
        time.sleep(1)
    assert (state["Status"], state["Health"]["Status"]) == ("running", "healthy")


def test_the_migration_has_ended(host: Host) -> None:
    state = inspect(host, "litellm-migrate")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 0)


@pytest.mark.parametrize("service", OWNERS)
def test_it_is_nobody_and_writes_nowhere(host: Host, service: str) -> None:
    config = inspect(host, service)["HostConfig"]
    assert config["ReadonlyRootfs"] is True
    assert config["CapDrop"] == ["ALL"]
    assert config["SecurityOpt"] == ["no-new-privileges:true"]
    assert config["Memory"] > 0
    assert config["PidsLimit"] == 512
    assert config["RestartPolicy"]["Name"] == "unless-stopped"
    assert docker(host, f"exec {container(service)} id -u") == OWNERS[service]
    script = "for folder in / /app /etc/litellm /run /var/lib; do ! touch $folder/x 2>/dev/null || echo $folder; done"
    written = docker(host, f"exec {container(service)} sh -c '{script}'")
    assert written == ""


def test_no_secret_shows(host: Host) -> None:
    """Neither to those who may ask Docker, nor in a list of processes, nor in what is logged."""
    for service in (*OWNERS, "litellm-migrate"):
        seen = docker(host, f"inspect {container(service)}") + docker(host, f"logs {container(service)} 2>&1")
        if service in OWNERS:
            seen += docker(host, f"top {container(service)} -eo pid,args")
        assert not [secret for secret in SECRETS if secret in seen], service


def test_files(host: Host) -> None:
    folder = host.file(str(FOLDER / "project"))
    assert (folder.mode, folder.user) == (0o700, "root")
    compose = host.file(str(FOLDER / "project/compose.yaml"))
    assert (compose.mode, compose.user) == (0o600, "root")
    for name, owner in (("litellm.json", 65534), ("database_password", 999)):
        secret = host.file(str(FOLDER / "project/secrets" / name))
        assert (secret.mode, secret.uid) == (0o400, owner)
    text = compose.content_string + host.file(str(FOLDER / "project/gateway/config.yaml")).content_string
    assert not [secret for secret in SECRETS if secret in text]
    assert host.check_output(f"ls -A {FOLDER}/project | sort | xargs") == "compose.yaml gateway secrets"


def test_the_database_is_for_the_gateway_alone(host: Host) -> None:
    found = inspect(host, "litellm-db")
    assert found["HostConfig"]["PortBindings"] in ({}, None)
    assert list(found["NetworkSettings"]["Networks"]) == [f"{PROJECT}_database"]
    assert docker(host, f"network inspect --format '{{{{ .Internal }}}}' {PROJECT}_database") == "true"


def test_compose_knows_it(host: Host) -> None:
    """What an operator types in the folder works."""
    listed = docker(host, f"compose --project-directory {FOLDER}/project ps --format '{{{{ .Service }}}}'").split()
    assert sorted(listed) == ["litellm-db", "litellm-proxy"]


def test_the_key_of_before_is_still_good() -> None:
    assert chat((FOLDER / "kept-key").read_text(encoding="utf-8")) == 200


def test_a_declared_key() -> None:
    """It is made with the first deploy, is in the database that outlived the project, and has nothing to change."""
    key = FOLDER / "keys/declared.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert chat(key.read_text(encoding="utf-8").strip()) == 200
    output = play("keys.yml")
    assert "Reconcile the keys" in output
    assert "changed=0" in output


def test_status_shows_it() -> None:
    output = play("status.yml")
    for words in ("compose-host", "litellm-proxy", "running", "1.106.2", "default, tiny", "litellm-db", " ok"):
        assert words in output
    assert KEY not in output


def test_a_new_key() -> None:
    status, made = ask("/key/generate", KEY, {"models": ["default"], "duration": "5m"})
    assert status == 200
    assert chat(made["key"]) == 200
    assert ask("/key/delete", KEY, {"keys": [made["key"]]})[0] == 200


def test_a_wrong_key() -> None:
    assert ask("/v1/models", "sk-this-key-is-wrong")[0] == 401


def test_the_dashboard() -> None:
    status, page = ask("/ui/", "")
    assert status == 200
    assert "<html" in page.lower()
