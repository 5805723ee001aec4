# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts after side_effect.yml: upgraded to 0.32.16 after several things that went wrong."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://llm"]

API = "http://127.0.0.1:11434"


def api(host: Host, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    data = "" if body is None else f"-d '{json.dumps(body)}'"
    answer: dict[str, Any] = json.loads(host.check_output(f"curl -sf -m 20 {data} {API}{path}"))
    return answer


def other(host: Host) -> str:
    return "ollama-trixie" if host.check_output("hostname") == "ollama-bookworm" else "ollama-bookworm"


def test_account(host: Host) -> None:
    user = host.user("ollama")
    assert user.shell == "/usr/sbin/nologin"
    assert user.home == "/var/lib/ollama"
    assert user.uid < 1000
    assert "video" in user.groups


@pytest.mark.parametrize(
    ("path", "owner", "mode"),
    [
        ("/opt/ollama/current/bin/ollama", "root", 0o755),
        ("/etc/ollama/ollama.env", "root", 0o600),
        ("/etc/systemd/system/ollama.service", "root", 0o644),
        ("/etc/selfhosted-llm/ollama-firewall.nft", "root", 0o644),
        ("/var/lib/ollama", "ollama", 0o750),
    ],
)
def test_files(host: Host, path: str, owner: str, mode: int) -> None:
    file = host.file(path)
    assert (file.user, file.mode) == (owner, mode)


def test_the_service_cannot_write_its_release(host: Host) -> None:
    assert host.run("find -L /opt/ollama -writable -user ollama").stdout == ""
    assert host.run("runuser -u ollama -- test -w /opt/ollama/current/bin/ollama").rc != 0


def test_service(host: Host) -> None:
    for unit in ("ollama", "ollama-firewall"):
        assert host.service(unit).is_enabled
        assert host.service(unit).is_running
    assert host.check_output("systemctl --failed --no-legend --plain") == ""
    assert host.check_output("ps -o user= -C ollama | sort -u") == "ollama"


def test_no_candidate_is_left(host: Host) -> None:
    assert host.run("systemctl cat ollama-candidate").rc != 0
    assert not host.file("/run/ollama-candidate").exists


def test_hardening(host: Host) -> None:
    summary = host.check_output("systemd-analyze security ollama --no-pager").splitlines()[-1]
    exposure = re.search(r"([0-9.]+) [A-Z]+", summary)
    assert exposure, summary
    assert float(exposure.group(1)) <= 3.0


def test_devices_of_gpus_are_open_and_no_others(host: Host) -> None:
    shown = host.check_output("systemctl show ollama --property DevicePolicy,DeviceAllow")
    assert "DevicePolicy=closed" in shown
    for device in ("char-nvidia*", "char-drm", "char-kfd"):
        assert f"DeviceAllow={device} rw" in shown


def test_release(host: Host) -> None:
    assert api(host, "/api/version") == {"version": "0.32.16"}
    assert "0.32.16" in host.file("/opt/ollama/current").linked_to
    kept = host.check_output("ls -A /opt/ollama/releases").splitlines()
    assert len(kept) <= 2
    assert not [name for name in kept if name.startswith(".")]
    assert "0.32.16" in host.check_output("ollama --version")


def test_settings(host: Host) -> None:
    settings = host.file("/etc/ollama/ollama.env").content_string
    for line in ('OLLAMA_HOST="0.0.0.0:11434"', 'OLLAMA_NUM_PARALLEL="2"', 'OLLAMA_KEEP_ALIVE="30m"', 'OLLAMA_NO_CLOUD="true"'):
        assert line in settings.splitlines()
    assert "OLLAMA_CONTEXT_LENGTH" not in settings


def test_models(host: Host) -> None:
    assert {model["name"] for model in api(host, "/api/tags")["models"]} == {"phi3:3.8b", "nomic-embed-text:latest", "phi3-terse:latest"}


def test_custom_model(host: Host) -> None:
    shown = api(host, "/api/show", {"model": "phi3-terse"})
    assert shown["system"] == "You answer in one sentence."
    assert shown["details"]["parent_model"] == "phi3:3.8b"
    parameters = [line.split() for line in shown["parameters"].splitlines()]
    assert ["num_ctx", "2048"] in parameters
    assert [value for name, value in parameters if name == "stop"] == ['"END"', '"STOP"']


def test_preloaded_for_ever(host: Host) -> None:
    loaded = {model["name"]: model["expires_at"] for model in api(host, "/api/ps")["models"]}
    assert int(loaded["phi3:3.8b"][:4]) > 2100


def test_it_answers(host: Host) -> None:
    answer = api(host, "/v1/chat/completions", {"model": "phi3:3.8b", "messages": [{"role": "user", "content": "Hello"}]})
    assert answer["choices"][0]["message"]["content"]


def test_port(host: Host) -> None:
    assert host.socket("tcp://0.0.0.0:11434").is_listening


def test_the_firewall_survived_a_start_and_a_reload_of_nftables(host: Host) -> None:
    rules = host.check_output("nft list table inet selfhosted_ollama")
    assert "tcp dport != 11434 accept" in rules
    assert "192.0.2.0/24" in rules
    assert "198.51.100.7" not in rules


def test_an_allowed_client_is_admitted(host: Host) -> None:
    assert json.loads(host.check_output(f"curl -sf -m 10 http://{other(host)}:11434/api/version"))["version"] == "0.32.16"


def test_a_stranger_is_not(host: Host) -> None:
    name = host.check_output("hostname")
    mirror = Host.get_host("docker://ollama-mirror")
    blocked = mirror.run(f"curl -s -m 3 http://{name}:11434/api/version")
    assert blocked.rc == 28, "the connection should have timed out"
    # Only that port is closed.
    assert mirror.run(f"ping -c 1 -W 3 {name}").rc == 0
