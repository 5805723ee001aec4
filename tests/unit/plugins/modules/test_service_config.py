# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import grp
import os
import pwd
import typing as t
from pathlib import Path

import pytest
from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhosted.llm.plugins.module_utils import deployment
from ansible_collections.selfhosted.llm.plugins.modules import service_config
from ansible_collections.selfhosted.llm.tests.unit.scripted_http import ScriptedHttp, run_module

ME = pwd.getpwuid(os.getuid()).pw_name
OURS = grp.getgrgid(os.getgid()).gr_name


class Machine:
    """A service that reads one file. It does not run with a file that says "broken"."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.running = True
        self.enabled = "enabled"
        self.needs_restart = False
        self.commands: list[str] = []

    def run(self, command: list[str], **_options: t.Any) -> tuple[int, str, str]:
        name, verb = command[0], command[1]
        if name == "check":
            text = Path(verb).read_text(encoding="utf-8")
            return (1, f"{verb}: line 1 is bad", "") if "invalid" in text else (0, "", "")
        if name == "question":
            return 0, "max_connections\n" if self.needs_restart else "", ""
        if name == "journalctl":
            return 0, "it fell over", ""
        if verb == "show":
            return 0, f"ActiveState={'active' if self.running else 'failed'}\nUnitFileState={self.enabled}\nResult=exit-code\n", ""
        self.commands.append(" ".join(command[1:]))
        if verb == "reload" and "not by reload" in self.config.read_text(encoding="utf-8"):
            return 1, "", "it did not take it"
        if verb in ("stop", "disable"):
            self.running = False
        if verb in ("start", "restart", "reload"):
            self.running = "broken" not in self.config.read_text(encoding="utf-8")
        if verb == "enable":
            self.enabled = "enabled"
        return 0, "", ""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    fake = Machine(tmp_path / "etc/db.conf")
    monkeypatch.setattr(AnsibleModule, "run_command", lambda _self, command, **options: fake.run(command, **options))
    for module in (service_config, deployment):
        monkeypatch.setattr(module, "STATE_ROOT", str(tmp_path / "state"))
        monkeypatch.setattr(module, "UNIT_DIR", str(tmp_path / "units"))
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    return fake


@pytest.fixture
def deploy(machine: Machine, capsys: pytest.CaptureFixture[str]) -> t.Callable[..., dict[str, t.Any]]:
    def run(
        content: str, check_mode: bool = False, more: list[dict[str, t.Any]] | None = None, ready_url: str | None = None, **options: t.Any
    ) -> dict[str, t.Any]:
        file = {"path": str(machine.config), "content": content, "check": ["check", "{file}"], "owner": ME, "group": OURS, **options}
        files = [file, *({"owner": ME, "group": OURS, **other} for other in more or [])]
        arguments = {"service": "db", "files": files, "restart_needed": ["question", "now"], "ready_url": ready_url, "timeout": 1}
        return run_module(capsys, service_config.main, arguments, check_mode)

    return run


def test_written_once_and_left_alone(machine: Machine, deploy: t.Any, tmp_path: Path) -> None:
    first = deploy("one\n", mode="0640")
    assert (first["changed"], first["action"], first["files"]) == (True, "restart", [str(machine.config)])
    assert machine.config.stat().st_mode & 0o777 == 0o640
    assert machine.commands == ["restart db.service"]
    second = deploy("one\n", mode="0640")
    assert (second["changed"], second["action"], second["files"], second["diff"]) == (False, "none", [], [])
    assert not (tmp_path / "state/db/unfinished").exists()
    assert deploy("one\n", mode="0600")["changed"]


def test_a_reload_where_that_is_enough(machine: Machine, deploy: t.Any) -> None:
    assert deploy("one\n", reload=True)["action"] == "reload"
    machine.needs_restart = True
    assert deploy("two\n", reload=True)["action"] == "restart"
    assert machine.commands == ["reload db.service", "restart db.service"]


def test_a_drop_in_is_read_by_systemd_first(machine: Machine, deploy: t.Any, tmp_path: Path) -> None:
    drop_in = {"path": str(tmp_path / "units/db.service.d/x.conf"), "content": "[Service]\n"}
    assert deploy("one\n", reload=True, more=[drop_in])["action"] == "restart"
    assert machine.commands == ["daemon-reload", "restart db.service"]


def test_what_is_invalid_changes_nothing(machine: Machine, deploy: t.Any) -> None:
    deploy("one\n")
    result = deploy("invalid\n")
    assert result["failed"]
    assert f"the new {machine.config} was refused, and nothing was changed" in result["msg"]
    assert f"{machine.config}: line 1 is bad" in result["msg"]
    assert machine.config.read_text() == "one\n"
    assert machine.commands == ["restart db.service"]


def test_what_does_not_run_is_taken_back(machine: Machine, deploy: t.Any, tmp_path: Path) -> None:
    deploy("one\n")
    result = deploy("broken\n", more=[{"path": str(tmp_path / "new"), "content": "x"}])
    assert result["failed"]
    assert result["restored"]
    assert "ended (exit-code)" in result["msg"]
    assert "it fell over" in result["msg"]
    assert "runs again with its former files" in result["msg"]
    assert machine.config.read_text() == "one\n"
    assert not (tmp_path / "new").exists()
    assert machine.running


def test_what_a_reload_refuses_is_taken_back_without_a_restart(machine: Machine, deploy: t.Any) -> None:
    deploy("one\n", reload=True)
    result = deploy("not by reload\n", reload=True)
    assert (result["failed"], result["restored"]) == (True, True)
    assert machine.config.read_text() == "one\n"
    assert "restart db.service" not in machine.commands


def test_the_options_are_not_logged(machine: Machine, deploy: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the task says of no_log: a secret of several lines would be readable in the journal."""
    logged: list[str] = []
    monkeypatch.setattr(AnsibleModule, "log", lambda _self, text, **_options: logged.append(str(text)))
    key = {"path": str(machine.config.with_name("key.pem")), "secret_content": "-----BEGIN\nsecret\n-----END\n"}
    assert deploy("one\n", more=[key])["changed"]
    assert "secret" not in "".join(logged)


def test_a_first_file_that_does_not_run_leaves_none(machine: Machine, deploy: t.Any) -> None:
    machine.config.parent.mkdir()
    machine.config.write_text("broken before\n")
    result = deploy("broken too\n")
    assert (result["failed"], result["restored"]) == (True, False)
    assert "does not run with its former files either" in result["msg"]


def test_an_interrupted_run_is_finished(machine: Machine, deploy: t.Any, tmp_path: Path) -> None:
    deploy("one\n", reload=True)
    (tmp_path / "state/db/unfinished").touch()
    assert deploy("one\n", reload=True)["action"] == "restart"
    assert deploy("one\n", reload=True)["action"] == "none"


def test_a_service_that_is_down_or_disabled_is_not_left_so(machine: Machine, deploy: t.Any) -> None:
    deploy("one\n")
    machine.running, machine.enabled = False, "disabled"
    result = deploy("one\n")
    assert (result["changed"], result["action"]) == (True, "start")
    assert machine.commands[1:] == ["start db.service", "enable db.service"]


def test_a_check_on_a_machine_that_has_nothing(machine: Machine, deploy: t.Any) -> None:
    machine.running, machine.enabled = False, ""
    result = deploy("one\n", check_mode=True, owner="not-there-yet")
    assert (result["changed"], result["action"]) == (True, "start")
    assert result["diff"] == [{"before_header": str(machine.config), "after_header": str(machine.config), "before": "", "after": "one\n"}]
    assert not machine.config.exists()
    assert machine.commands == []


def test_an_owner_who_is_not_there_is_named(deploy: t.Any) -> None:
    assert "not-there-yet" in deploy("one\n", owner="not-there-yet")["msg"]


def test_secrets_are_not_shown(machine: Machine, deploy: t.Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = {"path": str(tmp_path / "key"), "secret_content": "hush-hush", "mode": "0600"}
    first = deploy("one\n", more=[secret])
    second = deploy("one\n", more=[{**secret, "secret_content": "hush-again"}])
    assert "hush" not in str(first) + str(second)
    assert second["diff"][0]["after"] == "(secret, changed)\n"
    assert (tmp_path / "key").read_text() == "hush-again"


URL = "http://127.0.0.1:8080/health"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[ScriptedHttp]:
    scripted = ScriptedHttp(monkeypatch)
    yield scripted
    scripted.done()


def test_ready_is_when_it_answers(deploy: t.Any, server: ScriptedHttp) -> None:
    server.expect("GET", "/health", status=503, answer={"error": {"message": "Loading model"}})
    server.expect("GET", "/health", answer={"status": "ok"})
    assert deploy("one\n", ready_url=URL)["action"] == "restart"


def test_what_it_answers_instead_is_said(deploy: t.Any, server: ScriptedHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy("zero\n")
    clock = iter(range(100))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    server.expect("GET", "/health", status=503, answer={"error": {"message": "Loading model"}})
    server.expect("GET", "/health", answer={"status": "ok"})
    result = deploy("one\n", ready_url=URL)
    assert result["failed"]
    assert "was not ready after 1 seconds: http://127.0.0.1:8080/health answered 503: Loading model" in result["msg"]


def test_the_answer_of_something_else_is_none(
    machine: Machine, deploy: t.Any, server: ScriptedHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy("zero\n")

    def ended(_client: t.Any, request: t.Any, _timeout: float) -> t.Any:
        machine.running = False
        return server.open_url(request.full_url)

    monkeypatch.setattr("ansible_collections.selfhosted.llm.plugins.module_utils.http.ApiClient._send", ended)
    server.expect("GET", "/health", answer={"status": "ok"})
    server.expect("GET", "/health", answer={"status": "ok"})
    result = deploy("one\n", ready_url=URL)
    assert (result["failed"], result["restored"]) == (True, False)


def test_a_port_that_something_else_has_is_noticed_before_the_start(machine: Machine, deploy: t.Any, server: ScriptedHttp) -> None:
    machine.running = False
    server.expect("GET", "/health", answer={"status": "ok"})
    result = deploy("one\n", ready_url=URL)
    assert result["failed"]
    assert f"something else answers at {URL}, where db.service is to listen" in result["msg"]
    assert "start db.service" not in machine.commands
    assert not machine.config.exists()


def test_a_new_unit_that_does_not_run_is_not_left(machine: Machine, deploy: t.Any, tmp_path: Path) -> None:
    unit = {"path": str(tmp_path / "units/db.service"), "content": "[Service]\n"}
    machine.running = False
    result = deploy("broken\n", more=[unit])
    assert (result["failed"], result["restored"]) == (True, False)
    assert "It is new, and nothing of it was left" in result["msg"]
    assert machine.commands == ["daemon-reload", "start db.service", "stop db.service", "daemon-reload", "reset-failed db.service"]
    assert not machine.config.exists()
    assert list((tmp_path / "units").iterdir()) == []
    assert list((tmp_path / "state").iterdir()) == []


def test_a_unit_of_its_own_is_put_back(machine: Machine, deploy: t.Any, tmp_path: Path) -> None:
    unit = {"path": str(tmp_path / "units/db.service"), "content": "[Service]\n"}
    deploy("one\n", more=[unit])
    result = deploy("broken\n", more=[{**unit, "content": "[Service]\nNice=1\n"}])
    assert (result["failed"], result["restored"]) == (True, True)
    assert (tmp_path / "units/db.service").read_text() == "[Service]\n"


def test_removed_with_all_its_files(machine: Machine, deploy: t.Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unit = tmp_path / "units/db.service"
    deploy("one\n", more=[{"path": str(unit), "content": "[Service]\n"}])
    arguments = {"service": "db", "state": "absent", "files": [{"path": str(machine.config)}]}
    planned = run_module(capsys, service_config.main, arguments, check_mode=True)
    assert (planned["changed"], planned["action"]) == (True, "remove")
    assert machine.config.exists()
    removed = run_module(capsys, service_config.main, arguments)
    assert (removed["changed"], removed["removed"]) == (True, [str(unit), str(machine.config), str(tmp_path / "state/db")])
    assert removed["removed"] == planned["removed"]
    assert machine.commands[-2:] == ["disable --now db.service", "daemon-reload"]
    assert not machine.config.exists()
    assert not run_module(capsys, service_config.main, arguments)["changed"]


def test_a_file_without_content(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    result = run_module(capsys, service_config.main, {"service": "db", "files": [{"path": str(machine.config)}]})
    assert f"{machine.config}: content or secret_content is missing" in result["msg"]
