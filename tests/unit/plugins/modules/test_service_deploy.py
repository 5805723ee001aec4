# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module's own part: options, check mode and results. The transaction is tested in test_deployment.py."""

from __future__ import annotations

import os
import shutil
import typing as t
from pathlib import Path

import pytest

from ansible_collections.selfhosted.llm.plugins.module_utils import deployment
from ansible_collections.selfhosted.llm.plugins.module_utils.deployment import DeployError, Deployment, Spec
from ansible_collections.selfhosted.llm.plugins.module_utils.systemd import SystemdError
from ansible_collections.selfhosted.llm.plugins.modules import service_deploy
from ansible_collections.selfhosted.llm.tests.unit.scripted_http import run_module

SECRET = "sk-a-secret-of-this-test"
Results = dict[str, t.Any]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("UNIT_DIR", "STATE_ROOT"):
        monkeypatch.setattr(deployment, name, str(tmp_path / name.lower()))
        monkeypatch.setattr(service_deploy, name, str(tmp_path / name.lower()))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    (tmp_path / "releases/1").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def options(root: Path) -> Results:
    return {
        "name": "app",
        "unit": "[Service]\n",
        "release": str(root / "releases/1"),
        "current": str(root / "current"),
        "files": [{"path": str(root / "config.yaml"), "content": "a: 1\n", "owner": "0", "group": "0", "mode": "0640"}],
        "environment_file": str(root / "app.env"),
        "environment": {"HOST": "0.0.0.0", "PORT": 4000, "DEBUG": True, "EMPTY": None},
        "secrets": {"KEY": SECRET},
        "candidate_environment": {"PORT": "{port}"},
        "port": 4000,
        "probe": {"path": "/health", "token": "KEY", "timeout": 7},
    }


Run = t.Callable[..., Results]


@pytest.fixture
def run(options: Results, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(check_mode: bool = False, **changes: t.Any) -> Results:
        given = {name: value for name, value in {**options, **changes}.items() if value is not None}
        return run_module(capsys, service_deploy.main, given, check_mode)

    return call


@pytest.fixture
def specs(monkeypatch: pytest.MonkeyPatch) -> list[Spec]:
    """Deploys that succeed, and what they were asked for."""
    seen: list[Spec] = []

    def succeed(self: Deployment) -> Results:
        seen.append(self.spec)
        return {"changed": True, "ready_seconds": 1.5}

    monkeypatch.setattr(Deployment, "run", succeed)
    return seen


def test_what_is_handed_on(run: Run, specs: list[Spec], root: Path) -> None:
    result = run()
    assert (result["changed"], result["ready_seconds"], result["release"]) == (True, 1.5, str(root / "releases/1"))
    (spec,) = specs
    assert spec.environment == {"HOST": "0.0.0.0", "PORT": "4000", "DEBUG": "true", "EMPTY": ""}
    assert spec.config == {str(root / "config.yaml"): (b"a: 1\n", 0o640, 0, 0)}
    assert (spec.probe.path, spec.probe.status, spec.probe.token) == ("/health", 200, SECRET)
    assert spec.probe.models is None
    assert (spec.timeout, spec.keep_releases, spec.address) == (7, 2, "127.0.0.1")
    assert spec.candidate_dir == "/run/app-candidate/work"


def test_a_file_that_goes_needs_no_content(run: Run, specs: list[Spec], root: Path) -> None:
    run(files=[{"path": str(root / "old.py"), "state": "absent"}])
    assert specs[0].config == {str(root / "old.py"): None}


def test_no_secret_in_any_output(run: Run, specs: list[Spec], root: Path) -> None:
    (root / "app.env").write_text('KEY="sk-the-one-before-this-test"\n')
    result = run()
    assert SECRET not in str(result)
    assert "sk-the-one-before" not in str(result)
    assert "KEY=(hidden, changed)" in str(result["diff"])


def test_check_mode_on_an_untouched_host(run: Run, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No systemd, no release, no account yet."""
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    files = [{"path": str(root / "config.yaml"), "content": "a: 1\n", "owner": "no-such-user", "group": "no-such-group"}]
    before = sorted(root.rglob("*"))
    result = run(check_mode=True, release="/nonexistent/release", files=files)
    assert result["changed"]
    assert len(result["diff"]) == 4
    assert sorted(root.rglob("*")) == before


def test_check_mode_notices_an_interrupted_run(run: Run, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Deployment, "diff", lambda _self: [])
    assert not run(check_mode=True)["changed"]
    (root / "state_root/app").mkdir(parents=True)
    (root / "state_root/app/swap.json").touch()
    assert run(check_mode=True)["changed"]


BAD: list[tuple[dict[str, t.Any], str]] = [
    ({"unit": None}, "state is present but all of the following are missing: unit"),
    ({"port": None}, "state is present but all of the following are missing: port"),
    ({"probe": {"path": "/x", "token": "OTHER"}}, "probe.token names 'OTHER', which is not an entry of secrets"),
    ({"release": "/nonexistent/1"}, "the release /nonexistent/1 does not exist: build it before the deploy"),
    (
        {"files": [{"path": "/x", "content": "", "owner": "no-such-user"}]},
        "/x: getpwnam(): name not found: 'no-such-user'. Create the account",
    ),
    ({"files": [{"path": "/x", "content": "", "group": "no-such-group"}]}, "/x: getgrnam(): name not found: 'no-such-group'. Create"),
    ({"files": [{"path": "/x"}]}, "/x: its content is missing in files"),
    ({"files": [{"path": "/x", "content": "", "mode": "u=rw"}]}, "/x: its mode must be octal, such as 0640, not 'u=rw'"),
    ({"environment": {"A-B": "x"}}, "'A-B' is not a name of an environment variable"),
    ({"secrets": {"KEY": f"{SECRET}\nx"}}, "the value of KEY has a line break"),
    ({"databases": ["/a/x.db", "/b/x.db"]}, "have the same name"),
]


@pytest.mark.parametrize(("changes", "words"), BAD)
def test_bad_options(run: Run, specs: list[Spec], changes: dict[str, t.Any], words: str) -> None:
    result = run(**changes)
    assert result["failed"]
    assert words in result["msg"]
    assert SECRET not in str(result)
    assert specs == []


def test_without_systemd(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert "systemctl was not found" in run()["msg"]


def fail_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(_self: Deployment) -> Results:
        raise error

    monkeypatch.setattr(Deployment, "run", fail)


def test_a_failed_deploy(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, DeployError("ready", "it did not become ready", f"Traceback: KEY={SECRET}", restored=True))
    result = run()
    assert (result["failed"], result["failed_step"], result["restored"]) == (True, "ready", True)
    assert result["msg"].startswith("it did not become ready\nThe end of its journal:\nTraceback")
    assert result["diff"]
    # A service may log its settings.
    assert SECRET not in str(result)


def test_a_refused_candidate_says_nothing_of_restoring(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, DeployError("candidate", "refused"))
    result = run()
    assert result["failed_step"] == "candidate"
    assert "restored" not in result


def test_systemd_that_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, SystemdError("systemctl daemon-reload failed: no bus"))
    assert run()["msg"] == "systemctl daemon-reload failed: no bus"


def test_absent(run: Run, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def answer(_self: t.Any, command: list[str], **_options: t.Any) -> tuple[int, str, str]:
        commands.append(command)
        return 0, "LoadState=loaded\n" if "show" in command else "", ""

    monkeypatch.setattr(service_deploy.AnsibleModule, "run_command", answer)
    (root / "unit_dir").mkdir()
    there = [root / "unit_dir/app.service", root / "app.env", root / "config.yaml"]
    for path in there:
        path.touch()
    os.symlink("/nowhere", root / "current")
    expected = sorted(map(str, [*there, root / "current"]))
    only = {"state": "absent", "unit": None, "port": None, "probe": None}

    planned = run(check_mode=True, **only)
    assert (planned["changed"], sorted(planned["removed"])) == (True, expected)
    assert all(path.exists() for path in there)
    assert commands == []

    done = run(**only)
    assert (done["changed"], sorted(done["removed"])) == (True, expected)
    assert not any(os.path.lexists(path) for path in expected)
    assert commands[1:] == [["systemctl", "disable", "--now", "app.service"], ["systemctl", "daemon-reload"]]
    assert (root / "releases/1").is_dir()

    assert run(**only)["removed"] == []
    assert run(check_mode=True, **only)["changed"] is False
