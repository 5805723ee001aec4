# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host after side_effect.yml: torn down and brought back."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://llama-gpu"]

KEY = "sk-Vq8kT2wLz5rH9ncE3yUb7"
PORTS = (8080, 8081, 8090)


def ask(host: Host, port: int, path: str, payload: Any = None, key: str = "") -> tuple[int, Any]:
    """Status and JSON body of an answer."""
    command = f"curl -s -w '\\n%{{http_code}}' http://127.0.0.1:{port}{path}"
    if payload is not None:
        command += f" -H 'Content-Type: application/json' -d '{json.dumps(payload)}'"
    if key:
        command += f" -H 'Authorization: Bearer {key}'"
    body, status = host.check_output(command).rsplit("\n", 1)
    return int(status), json.loads(body)


@pytest.mark.parametrize("port", PORTS)
def test_each_is_a_service(host: Host, port: int) -> None:
    service = host.service(f"llama-server-{port}")
    assert service.is_running
    assert service.is_enabled
    pid = host.check_output("systemctl show --property MainPID --value %s", f"llama-server-{port}")
    assert host.check_output("ps -o user= -p %s", pid) == "llama-server"


def test_nothing_failed(host: Host) -> None:
    assert host.check_output("systemctl --failed --no-legend --plain") == ""
    assert host.service("llama-server-firewall").is_enabled


@pytest.mark.parametrize("port", PORTS)
def test_hardening(host: Host, port: int) -> None:
    summary = host.check_output(f"systemd-analyze security llama-server-{port} --no-pager").splitlines()[-1]
    exposure = re.search(r"([0-9.]+) [A-Z]+", summary)
    assert exposure, summary
    assert float(exposure.group(1)) <= 3.0


@pytest.mark.parametrize("port", [8080, 8081])
def test_chat(host: Host, port: int) -> None:
    status, answer = ask(host, port, "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8})
    assert status == 200
    assert answer["model"] == "tiny-chat"
    assert answer["usage"]["completion_tokens"] > 0


def test_embeddings(host: Host) -> None:
    status, answer = ask(host, 8090, "/v1/embeddings", {"input": ["one", "two"], "model": "tiny-embed"}, KEY)
    assert status == 200
    assert [len(item["embedding"]) for item in answer["data"]] == [64, 64]


@pytest.mark.parametrize("key", ["", "sk-wrong", f"{KEY}x"])
def test_nobody_gets_in_without_the_key(host: Host, key: str) -> None:
    assert ask(host, 8090, "/v1/embeddings", {"input": "one"}, key)[0] == 401
    assert ask(host, 8090, "/health")[0] == 200


def test_it_does_what_it_was_told(host: Host) -> None:
    status, props = ask(host, 8080, "/props")
    assert status == 200
    assert props["total_slots"] == 2
    assert re.fullmatch(r"/var/lib/llama-server/models/[0-9a-f]{12}/tiny\.gguf", props["model_path"])
    assert host.check_output("systemctl show --property MemoryMax --value llama-server-8090") == str(2 << 30)
    assert "--log-prefix" in host.check_output("systemctl show --property ExecStart --value llama-server-8090")


def test_each_has_its_gpu(host: Host) -> None:
    for port, gpu in ((8080, 'CUDA_VISIBLE_DEVICES="0"'), (8081, 'CUDA_VISIBLE_DEVICES="1"'), (8090, 'LLAMA_ARG_DEVICE="none"')):
        assert gpu in host.file(f"/etc/llama-server/llama-server-{port}.env").content_string.splitlines()
    for port, private in ((8081, "no"), (8090, "yes")):
        shown = host.check_output("systemctl show --property DevicePolicy --property PrivateDevices %s", f"llama-server-{port}")
        assert set(shown.split()) == {"DevicePolicy=closed", f"PrivateDevices={private}"}


def test_the_key_is_roots_alone(host: Host) -> None:
    for name in ("env", "secrets"):
        file = host.file(f"/etc/llama-server/llama-server-8090.{name}")
        assert (file.user, file.mode) == ("root", 0o600)
    assert host.file("/etc/llama-server").mode == 0o700
    found = host.run(f"grep -rlF -- {KEY} /etc /var/lib /var/log /run/log /tmp")
    assert found.stdout.split() == ["/etc/llama-server/llama-server-8090.secrets"]
    assert KEY not in host.check_output("ps -eo args=")
    assert host.run(f"journalctl --no-pager | grep -cF -- {KEY}").stdout.strip() == "0"


def test_the_service_cannot_change_its_models(host: Host) -> None:
    folder = host.check_output("ls -d /var/lib/llama-server/models/*")
    for path in ("/var/lib/llama-server", "/var/lib/llama-server/models", folder, f"{folder}/tiny.gguf"):
        file = host.file(path)
        assert file.user == "root"
        assert not file.mode & 0o022


def test_a_server_that_is_killed_comes_back(host: Host) -> None:
    before = host.check_output("systemctl show --property MainPID --value llama-server-8081")
    host.check_output("systemctl kill --signal KILL llama-server-8081")
    # The other one serves the model meanwhile.
    assert ask(host, 8080, "/health")[0] == 200
    assert host.run("curl -sf --retry 30 --retry-delay 1 --retry-all-errors http://127.0.0.1:8081/health").rc == 0
    assert host.check_output("systemctl show --property MainPID --value llama-server-8081") != before


def test_a_boot(host: Host) -> None:
    """Stopped and started in the order of a boot, the servers come up guarded."""
    units = " ".join(f"llama-server-{port}" for port in PORTS)
    host.check_output(f"systemctl stop {units} llama-server-firewall")
    host.check_output(f"systemctl start {units}")
    assert host.service("llama-server-firewall").is_running
    assert "selfhosted_llama_server" in host.check_output("nft list tables")
    for port in PORTS:
        assert host.run(f"curl -sf --retry 30 --retry-delay 1 --retry-all-errors http://127.0.0.1:{port}/health").rc == 0
