# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""scripts/deploy without a host: what it refuses, what it writes, and what it hides. molecule/deploy runs all of it against one."""

from __future__ import annotations

import base64
import importlib.util
import json
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "password-of-the-vault"
PINNED = "192.0.2.7 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2tJ1f0k4D1l5t5cS5sU4l2m8aJ9f5H0kq3s7r1bZxw"

_loader = SourceFileLoader("deploy", str(ROOT / "scripts" / "deploy"))
_spec = importlib.util.spec_from_loader("deploy", _loader)
assert _spec is not None
deploy = importlib.util.module_from_spec(_spec)
_loader.exec_module(deploy)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("keys") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path.read_text()


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "hosts.ini").write_text("[litellm]\nmachine-1 ansible_host=192.0.2.7\n")
    return folder


def encrypt(text: str) -> str:
    return str(VaultLib([("default", VaultSecret(PASSWORD.encode()))]).encrypt(text).decode())


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key: str, inventory: Path) -> Any:
    """Runs a step with these variables changed, and returns its exit code and what it printed."""
    monkeypatch.setattr(deploy, "WORK", tmp_path / "work")
    monkeypatch.setattr(deploy.tempfile, "tempdir", str(tmp_path))
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT", "GITHUB_ACTIONS", "GITHUB_EVENT_NAME", *deploy.SECRETS):
        monkeypatch.delenv(name, raising=False)
    # ansible-inventory of this Python.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    monkeypatch.setenv("DEPLOY_INVENTORY", str(inventory))
    monkeypatch.setenv("SSH_PRIVATE_KEY", key)
    monkeypatch.setenv("SSH_KNOWN_HOSTS", PINNED)

    def made(step: str = "prepare", **variables: str) -> tuple[int, str]:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["deploy", step])
        code = deploy.main()
        told = capsys.readouterr()
        return code, told.out + told.err

    return made


def test_what_prepare_writes_is_this_users_alone_and_clean_removes_it(run: Any, key: str) -> None:
    assert run(SSH_USER="deploy", SSH_PORT="2222", SSH_KNOWN_HOSTS=PINNED.replace("192.0.2.7", "[192.0.2.7]:2222"))[0] == 0
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in [deploy.WORK, *deploy.WORK.iterdir()]} == {
        "work": "0o700",
        **dict.fromkeys(["key", "known_hosts", "sockets", "ssh_config", "settings.json"], "0o600"),
    }
    assert (deploy.WORK / "key").read_text() == key
    config = (deploy.WORK / "ssh_config").read_text()
    assert "User deploy" in config
    assert "Port 2222" in config
    sockets = Path((deploy.WORK / "sockets").read_text())
    assert oct(sockets.stat().st_mode & 0o777) == "0o700"
    assert run("clean")[0] == 0
    assert not deploy.WORK.exists()
    assert not sockets.exists()


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"SSH_PRIVATE_KEY": ""}, "SSH_PRIVATE_KEY is empty"),
        ({"SSH_PRIVATE_KEY": "ssh-ed25519 AAAA"}, "SSH_PRIVATE_KEY is no private key"),
        ({"SSH_KNOWN_HOSTS": ""}, "SSH_KNOWN_HOSTS is empty"),
        ({"SSH_KNOWN_HOSTS": "192.0.2.7\n"}, "SSH_KNOWN_HOSTS: line 1 is not"),
        ({"SSH_KNOWN_HOSTS": PINNED.replace("192.0.2.7", "192.0.2.8")}, "SSH_KNOWN_HOSTS has no key of machine-1 (192.0.2.7)"),
        ({"SSH_USER": "a\n  ProxyCommand x"}, "SSH_USER must be one word"),
        ({"SSH_PORT": "22x"}, "SSH_PORT a number"),
        ({"DEPLOY_INVENTORY": "inventories/none"}, "DEPLOY_INVENTORY: there is no"),
        ({"DEPLOY_PLAYBOOK": "playbooks/none.yml"}, "DEPLOY_PLAYBOOK: there is no"),
        ({"DEPLOY_MODE": "maybe"}, "DEPLOY_MODE is check or apply, not maybe"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(run: Any, key: str, variables: dict[str, str], words: str) -> None:
    code, told = run(**variables)
    assert code == 2
    assert words in told
    assert key.splitlines()[1] not in told
    assert not deploy.WORK.exists()


def test_where_no_host_is_reached_by_ssh_no_key_is_needed(run: Any, inventory: Path) -> None:
    (inventory / "hosts.ini").write_text("[hf_space]\nspace ansible_connection=local\n")
    assert run(SSH_PRIVATE_KEY="", SSH_KNOWN_HOSTS="")[0] == 0
    assert deploy.secret_values(deploy.load_settings()) == set()


def test_a_vault_wants_its_password(run: Any, inventory: Path) -> None:
    (inventory / "vault.yml").write_text(encrypt("a_secret: secret-value"))
    assert "VAULT_PASSWORD is empty" in run()[1]
    assert f"VAULT_PASSWORD does not open {inventory / 'vault.yml'}" in run(VAULT_PASSWORD="another-password")[1]
    assert run(VAULT_PASSWORD=PASSWORD)[0] == 0


def test_a_pull_request_checks_unless_told_otherwise(run: Any, tmp_path: Path) -> None:
    output = tmp_path / "output"
    run(GITHUB_EVENT_NAME="pull_request", GITHUB_OUTPUT=str(output))
    run(DEPLOY_MODE="apply")
    run(DEPLOY_MODE="", GITHUB_EVENT_NAME="push")
    assert output.read_text() == "mode=check\nmode=apply\nmode=apply\n"


def test_other_steps_need_prepare(run: Any) -> None:
    for step in ("check", "apply", "report"):
        assert run(step) == (2, "deploy: nothing is prepared. Run `scripts/deploy prepare` first.\n")
    assert run("clean")[0] == 0


def test_what_the_vault_hides_is_hidden_in_every_spelling(run: Any, inventory: Path, key: str) -> None:
    inline = encrypt('inline-"secret"').replace("\n", "\n  ").rstrip()
    (inventory / "vars.yml").write_text(f"---\nplain: not-hidden\nother: !vault |\n  {inline}\nlater: too\n")
    (inventory / "vault.yml").write_text(
        encrypt(yaml.safe_dump({"one": "secret/one", "deep": [{"two": "first line\nsecond line"}], "short": "on"}))
    )
    assert run(VAULT_PASSWORD=PASSWORD)[0] == 0
    hide = deploy.redactor(deploy.load_settings())
    secrets = ["secret/one", 'inline-"secret"', "first line", "second line", PASSWORD, *key.splitlines()[1:-1]]
    for secret in secrets:
        for spelling in (secret, json.dumps(secret)[1:-1], base64.b64encode(secret.encode()).decode().rstrip("=")):
            assert hide(f"a {spelling} b").strip("=") == "a *** b"
    assert hide("https://x/?k=secret%2Fone") == "https://x/?k=***"
    assert hide("not-hidden, on") == "not-hidden, on"


def test_programs_that_are_run_do_not_get_the_secrets(run: Any) -> None:
    assert run()[0] == 0
    assert not set(deploy.SECRETS) & set(deploy.ansible_environment())


def test_a_summary_stays_within_its_frame_and_its_size(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = tmp_path / "summary"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    deploy.summarize("A title", ["````", "text"])
    assert summary.read_text() == "### A title\n\n`````diff\n````\ntext\n`````\n"
    summary.unlink()
    monkeypatch.setattr(deploy, "LONGEST_SUMMARY", 12)
    deploy.summarize("A title", ["first", "second", "third"])
    assert summary.read_text() == "### A title\n\n(2 lines left out; the log has all)\n```diff\nthird\n```\n"


def test_the_workflow_and_the_script_agree() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/deploy.yml").read_text())
    (job,) = workflow["jobs"].values()
    steps = {step["name"]: step for step in job["steps"]}
    assert set(deploy.SECRETS) == set(workflow["on"]["workflow_call"]["secrets"])
    assert set(deploy.SECRETS) < set(steps["Prepare"]["env"])
    for step in steps.values():
        # An expression in a command would be a command.
        assert "${{" not in step.get("run", "")
        if "secrets." in str(step):
            assert step["name"] == "Prepare"
        if "uses" in step:
            assert len(step["uses"].split("@")[1]) == 40
    assert workflow["permissions"] == {"contents": "read"}
    assert {step["run"].split()[-1] for step in steps.values() if "scripts/deploy" in step.get("run", "")} == set(deploy.STEPS)
    both = workflow["on"]["workflow_call"]["inputs"], workflow["on"]["workflow_dispatch"]["inputs"]
    assert set(both[0]) == set(both[1])
