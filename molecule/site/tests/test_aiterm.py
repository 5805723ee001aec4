"""A terminal client with nothing but the settings that playbooks/clients.yml prints, on another machine than the control node."""

from __future__ import annotations

import json
import subprocess

import pytest
from machines import ROOT, play

testinfra_hosts = ["ansible://webui"]

KEY = "sk-molecule-w8Hq3ZtVb6NkPx5RyLmS9cGd"
CLIENT = ROOT / "tests" / "clients" / "aiterm_like.py"


@pytest.fixture(scope="module")
def printed():
    result = play("clients.yml", "-e", "llm_client=aiterm", "-e", "llm_client_show_key=true", timeout=120)
    assert result.returncode == 0, result.stdout[-3000:]
    return result.stdout


@pytest.fixture(scope="module")
def settings(printed):
    return json.loads(printed[printed.index("{\n") : printed.index("}\n") + 1])


@pytest.fixture
def ask(host):
    """Runs the client there, headless, with the settings in its file. Returns exit code, output, errors."""
    name = host.backend.get_hostname()

    def inside(command, text):
        return subprocess.run(["docker", "exec", "-i", name, *command], input=text, capture_output=True, text=True, timeout=90)

    def made(text, *arguments):
        written = inside(["sh", "-c", "umask 077; mkdir -p ~/.aiterm; cat > ~/.aiterm/config.json"], text)
        assert written.returncode == 0, written.stderr
        answer = inside(["python3", "-", *arguments], CLIENT.read_text(encoding="utf-8"))
        return answer.returncode, answer.stdout.strip(), answer.stderr.strip()

    yield made
    inside(["rm", "-rf", "/root/.aiterm"], "")


def test_the_settings_are_what_the_client_reads(settings):
    assert settings == {
        "api_endpoint": "http://site-api:4000/v1/chat/completions",
        "api_token": KEY,
        "model": "phi3-3.8b",
        "shell": "auto",
    }


@pytest.mark.parametrize("platform", ["linux", "macos", "windows"])
def test_it_gets_a_command(ask, settings, platform):
    code, output, errors = ask(json.dumps(settings), "--platform", platform, "list", "all", "files")
    assert (code, errors) == (0, "")
    assert output


@pytest.mark.parametrize("token", ["sk-wrong", "wrong", KEY + "x"])
def test_a_wrong_token_is_an_authentication_error(ask, settings, token):
    code, output, errors = ask(json.dumps({**settings, "api_token": token}), "list", "all", "files")
    assert (code, output) == (3, "")
    assert errors.startswith("aiterm-like: authentication failed")


def test_a_wrong_model_is_none(ask, settings):
    assert ask(json.dumps({**settings, "model": "no-such-model"}), "list")[::2] == (1, "aiterm-like: the service answered with HTTP 400")


def test_without_settings_it_says_so(ask):
    assert ask("", "list")[0] == 2
