# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
import typing as t
from pathlib import Path

import pytest
from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhosted.llm.plugins.modules import port_firewall
from ansible_collections.selfhosted.llm.tests.unit.scripted_http import run_module

NAMES = {"gateway": ["192.0.2.7", "2001:db8::7"], "here": ["127.0.1.1"]}


def lookup(name: str, *_args: t.Any, **_options: t.Any) -> list[t.Any]:
    if name not in NAMES:
        raise socket.gaierror(-2, "Name or service not known")
    return [(0, 0, 0, "", (address, 0)) for address in NAMES[name]]


@pytest.mark.parametrize(
    ("clients", "admitted"),
    [
        (["10.0.8.5/24"], ["10.0.8.0/24"]),
        (["192.0.2.7", "gateway"], ["192.0.2.7/32", "2001:db8::7/128"]),
        (["192.0.2.0/24", "gateway"], ["192.0.2.0/24", "2001:db8::7/128"]),
        (["here", "127.0.0.1", "::1"], []),
        (["10.0.0.0/25", "10.0.0.128/25"], ["10.0.0.0/24"]),
        ([], []),
    ],
)
def test_networks(clients: list[str], admitted: list[str]) -> None:
    assert [str(network) for network in port_firewall.networks(clients, lookup)] == admitted


@pytest.mark.parametrize(("client", "part"), [("nobody", "cannot resolve 'nobody'"), ("10.0.0.0/99", "neither"), ("$x", "neither")])
def test_a_client_that_is_none_is_refused(client: str, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        port_firewall.networks([client], lookup)


def test_ruleset() -> None:
    text = port_firewall.ruleset("my-db", [5432, 5432, 6379], port_firewall.networks(["gateway", "10.0.8.0/24"], lookup))
    assert "table inet selfhosted_my_db\ndelete table inet selfhosted_my_db\n" in text
    assert "elements = { 10.0.8.0/24, 192.0.2.7 }" in text
    assert "elements = { 2001:db8::7 }" in text
    assert "tcp dport != { 5432, 6379 } accept" in text
    assert text.rstrip().endswith("counter drop\n\t}\n}")


def test_ruleset_without_clients_has_no_empty_elements() -> None:
    assert "elements" not in port_firewall.ruleset("x", [1], [])


class Machine:
    """systemctl and nft, as far as the module uses them."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.running = self.enabled = self.loaded = False

    def run(self, command: list[str], **_options: t.Any) -> tuple[int, str, str]:
        text = " ".join(command).replace("/usr/sbin/", "")
        if text.startswith("systemctl show"):
            state = "active" if self.running else "inactive"
            return 0, f"LoadState=loaded\nActiveState={state}\nUnitFileState={'enabled' if self.enabled else 'disabled'}\n", ""
        if text.startswith("nft list"):
            return (0 if self.loaded else 1), "", ""
        self.commands.append(text)
        if "enable " in text:
            self.enabled = True
        if "start " in text or "reload-or-restart " in text:
            self.running = self.loaded = True
        return 0, "", ""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    fake = Machine()
    monkeypatch.setattr(AnsibleModule, "run_command", fake.run)
    monkeypatch.setattr(port_firewall, "UNIT_DIR", str(tmp_path / "units"))
    original = port_firewall.Firewall.__init__

    def init(self: port_firewall.Firewall, name: str) -> None:
        original(self, name)
        self.rules = str(tmp_path / "rules.nft")
        self.paths = (self.rules, self.unit_path, self.drop_in)

    monkeypatch.setattr(port_firewall.Firewall, "__init__", init)
    return fake


def apply(capsys: pytest.CaptureFixture[str], check_mode: bool = False, **options: t.Any) -> dict[str, t.Any]:
    return run_module(capsys, port_firewall.main, {"name": "ollama", "ports": [11434], "clients": ["10.0.8.0/24"], **options}, check_mode)


def test_written_loaded_and_left_alone(machine: Machine, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    first = apply(capsys)
    assert first["changed"]
    assert first["addresses"] == ["10.0.8.0/24"]
    assert machine.commands == [
        "systemctl daemon-reload",
        "systemctl enable ollama-firewall.service",
        "systemctl start ollama-firewall.service",
    ]
    assert (tmp_path / "units/nftables.service.d/ollama-firewall.conf").exists()
    assert not apply(capsys)["changed"]
    assert apply(capsys, clients=["10.0.9.0/24"])["changed"]
    assert machine.commands[-1] == "systemctl reload-or-restart ollama-firewall.service"


def test_a_port_is_kept_until_the_move_is_done(machine: Machine, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert apply(capsys, keep_ports=True)["changed"]
    assert apply(capsys, ports=[11999], keep_ports=True)["changed"]
    assert "dport != { 11434, 11999 } accept" in (tmp_path / "rules.nft").read_text()
    assert not apply(capsys, ports=[11999], keep_ports=True)["changed"]
    assert apply(capsys, ports=[11999])["changed"]
    assert "dport != { 11999 } accept" in (tmp_path / "rules.nft").read_text()


def test_rules_that_were_flushed_come_back(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    apply(capsys)
    machine.loaded = False
    result = apply(capsys)
    assert result["changed"]
    assert result["diff"] == []
    assert machine.loaded


def test_check_mode_touches_nothing(machine: Machine, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    result = apply(capsys, check_mode=True)
    assert result["changed"]
    assert len(result["diff"]) == 3
    assert machine.commands == []
    assert list(tmp_path.iterdir()) == []


def test_absent(machine: Machine, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    apply(capsys)
    assert apply(capsys, state="absent")["changed"]
    assert "systemctl disable --now ollama-firewall.service" in machine.commands
    assert not (tmp_path / "rules.nft").exists()
    assert not apply(capsys, state="absent")["changed"]


def test_a_name_that_cannot_be(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert apply(capsys, name="a b")["failed"]
    assert apply(capsys, clients=["10.0.0.0/99"])["failed"]
