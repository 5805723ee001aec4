"""What the workflow left behind: on the host, in its summaries and artifact, and nothing of its secrets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

testinfra_hosts = ["ansible://deploy-gateway"]

ROOT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
CACHE = ROOT / ".cache" / "deploy"
INVENTORY = CACHE / "workspace" / "inventories" / "mine"
ALWAYS = ["Check out the inventory", "Check out the collection", "Set up Python", "Install Ansible", "Prepare"]


def steps(name):
    return json.loads((CACHE / "runs" / name / "steps.json").read_text())


def play(event, name, *others):
    command = [sys.executable, str(ROOT / "molecule/deploy/files/workflow.py"), event, name, *others]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def secret_values():
    vault = subprocess.run(
        ["ansible-vault", "view", "--vault-password-file", CACHE / "secrets/vault-password", INVENTORY / "group_vars/all/vault.yml"],
        capture_output=True,
        text=True,
        check=True,
    )
    values = yaml.safe_load(vault.stdout)
    key = (CACHE / "secrets/deploy").read_text().splitlines()[1:-1]
    return {**values, "gpu_key": "key-of-the-gpu-server", "password": "vault-password-of-the-scenario", "key": key[0], "key_end": key[-1]}


def test_a_pull_request_checks_and_a_push_applies():
    assert steps("pull_request") == dict.fromkeys([*ALWAYS, "Check", "Clean up"], 0)
    assert steps("push") == dict.fromkeys([*ALWAYS, "Apply", "Report", "Keep the report", "Clean up"], 0)


def test_the_gateway_answers_with_the_key_of_the_vault(host, secret_values):
    command = (
        "curl -sS --max-time 60 -H @/dev/stdin -H 'Content-Type: application/json' http://127.0.0.1:4000/v1/chat/completions "
        """-d '{"model": "default", "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]}'"""
    )
    header = f"Authorization: Bearer {secret_values['vault_litellm_master_key']}"
    answer = json.loads(host.check_output(f"printf %s '{header}' | {command}"))
    assert answer["choices"][0]["message"]["role"] == "assistant", answer


def test_the_check_shows_what_would_change():
    summary = (CACHE / "runs/pull_request/summary.md").read_text()
    assert summary.startswith("### Check of mine: ")
    for words in ("changes on 1 hosts", "+Description=LiteLLM gateway", "model_name: tiny", "deploy-gateway"):
        assert words in summary


def test_the_deploy_is_summed_up_and_its_report_is_the_artifact():
    summary = (CACHE / "runs/push/summary.md").read_text()
    assert "### Deploy of mine: done" in summary
    assert "### Verification: " in summary
    assert " passed" in summary
    artifact = CACHE / "runs/push/artifact"
    assert {path.name for path in artifact.iterdir()} == {"report.html", "report.json", "junit.xml"}
    assert "deploy-gateway" in (artifact / "report.html").read_text()


def test_no_secret_is_in_what_it_tells(secret_values):
    runs = CACHE / "runs"
    told = [path for path in runs.rglob("*") if path.is_file()]
    assert len(told) > 6
    for path in told:
        text = path.read_text(errors="replace")
        assert [name for name, value in secret_values.items() if value in text] == [], path


def test_a_value_of_the_vault_that_a_diff_shows_is_hidden(secret_values):
    """The redaction itself: a task without no_log prints the key."""
    playbook = CACHE / "leak.yml"
    playbook.write_text(
        "- hosts: litellm\n  gather_facts: false\n  tasks:\n    - ansible.builtin.debug:\n"
        "        msg: it is {{ litellm_proxy_master_key }}, {{ gpu_key }}\n"
    )
    result = play("pull_request", "leak", f"playbook={playbook}")
    assert result.returncode == 0, result.stdout
    for name in ("log", "summary.md"):
        text = (CACHE / "runs/leak" / name).read_text()
        assert "it is ***, ***" in text
        assert secret_values["vault_litellm_master_key"] not in text


def test_nothing_is_left_on_the_runner():
    for run in (CACHE / "runs").iterdir():
        assert list((run / "temp").iterdir()) == [], run


@pytest.mark.parametrize(
    ("name", "content", "step", "words"),
    [
        ("unpinned", "192.0.2.1 {key}\n", "Prepare", "SSH_KNOWN_HOSTS has no key of deploy-gateway"),
        ("another-key", "{address} {key}\n", "Apply", "Host key verification failed"),
    ],
)
def test_a_host_that_is_not_the_pinned_one_stops_it(host, name, content, step, words):
    another = " ".join((CACHE / "secrets/deploy.pub").read_text().split()[:2])
    address = (CACHE / "secrets/known_hosts").read_text().split()[0]
    (CACHE / "secrets" / name).write_text(content.format(address=address, key=another))
    before = host.check_output("systemctl show --property InvocationID litellm")
    assert play("push", name, f"SSH_KNOWN_HOSTS={name}").returncode == 1
    done = steps(name)
    assert done[step] != 0
    assert list(done)[-1] == "Clean up"
    assert done["Clean up"] == 0
    assert words in (CACHE / "runs" / name / "log").read_text()
    assert host.check_output("systemctl show --property InvocationID litellm") == before
    assert list((CACHE / "runs" / name / "temp").iterdir()) == []


def test_the_pin_is_what_the_host_shows(host):
    pinned = (CACHE / "secrets/known_hosts").read_text().split()
    assert host.file("/etc/ssh/ssh_host_ed25519_key.pub").content_string.split()[:2] == pinned[1:]
