"""What a deployed gateway host looks like, and what its API answers."""

from __future__ import annotations

import json
import re
import shlex

import pytest

testinfra_hosts = ["ansible://litellm"]

KEY = "sk-molecule-bq7ZkX2vN9sW4tRfJ6mLhY8c"
LOCAL = "http://127.0.0.1:4000"


def curl(host, path, key=KEY, payload=None):
    """Status, headers and text of a request made on the host."""
    data = ["-d", json.dumps(payload), "-H", "Content-Type: application/json"] if payload is not None else []
    auth = ["-H", f"Authorization: Bearer {key}"] if key else []
    result = host.run(shlex.join(["curl", "-sS", "-i", "--max-time", "60", *auth, *data, LOCAL + path]))
    assert result.rc == 0, result.stderr
    head, _, body = result.stdout.replace("\r\n", "\n").partition("\n\n")
    return int(head.split()[1]), head.lower(), body


def journal(host):
    return host.run("journalctl --no-pager -u litellm -n 40").stdout


def test_service_runs_and_starts_at_boot(host):
    service = host.service("litellm")
    assert service.is_running, journal(host)
    assert service.is_enabled


def test_runs_as_its_own_user(host):
    pid = host.run("systemctl show --property MainPID --value litellm").stdout.strip()
    assert host.file(f"/proc/{pid}").user == "litellm"
    assert host.user("litellm").shell == "/usr/sbin/nologin"


@pytest.mark.parametrize(
    ("path", "mode", "user", "group"),
    [
        ("/etc/litellm/litellm.env", 0o600, "root", "root"),
        ("/etc/litellm/config.yaml", 0o640, "root", "litellm"),
        ("/etc/systemd/system/litellm.service", 0o644, "root", "root"),
        ("/var/lib/litellm", 0o700, "litellm", "litellm"),
        ("/var/lib/selfhosted-llm/litellm", 0o700, "root", "root"),
    ],
)
def test_owners_and_modes(host, path, mode, user, group):
    there = host.file(path)
    assert (there.mode, there.user, there.group) == (mode, user, group)


def test_secrets_are_readable_by_root_alone(host):
    for secret in (
        KEY,
        "key-of-the-gpu-server",
        "sk-molecule-metrics-Nw7Rk2Vx9Hq4Zt",
        "sk-lf-molecule-Jd8Yp3Wc6Lm5Gb",
        "token-of-the-traces",
    ):
        found = host.run(f"grep -rlF -- {secret} /etc /opt /var/lib /var/log /run --exclude-dir=credentials 2>/dev/null")
        files = found.stdout.split()
        assert "/etc/litellm/litellm.env" in files
        for path in files:
            assert host.file(path).mode & 0o077 == 0, f"{path} can be read by others than root"
            assert host.file(path).user == "root"
    assert KEY not in host.run("ps -eo args").stdout


def test_release_is_roots_and_has_bytecode(host):
    release = host.run("readlink -f /opt/litellm/current").stdout.strip()
    assert re.fullmatch(r"/opt/litellm/releases/1\.106\.2-[0-9a-f]{12}", release)
    assert host.run(f"find {release} ! -user root -print -quit").stdout == ""
    assert host.run(f"find {release}/lib -name '__pycache__' -print -quit").stdout


def test_hardening(host):
    result = host.run("systemd-analyze security --no-pager litellm.service")
    exposure = float(re.search(r"exposure level for litellm.service: ([\d.]+)", result.stdout).group(1))
    assert exposure <= 3.0


def test_listens(host):
    assert host.socket("tcp://0.0.0.0:4000").is_listening


def test_models_are_those_declared(host):
    status, _, body = curl(host, "/v1/models")
    assert status == 200
    assert {model["id"] for model in json.loads(body)["data"]} == {"tiny", "default", "embed"}


def test_chat_names_its_backend(host):
    payload = {"model": "default", "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]}
    status, head, body = curl(host, "/v1/chat/completions", payload=payload)
    assert status == 200, body + journal(host)
    assert "x-litellm-model-id: tiny@gpu" in head
    assert json.loads(body)["choices"][0]["message"]["role"] == "assistant"


def test_embedding(host):
    status, _, body = curl(host, "/v1/embeddings", payload={"model": "embed", "input": "hello"})
    assert status == 200, body + journal(host)
    assert len(json.loads(body)["data"][0]["embedding"]) > 1


@pytest.mark.parametrize("key", ["", "sk-wrong"])
def test_others_are_refused(host, key):
    status, _, _ = curl(host, "/v1/models", key=key)
    assert status == 401


def test_no_swagger_pages(host):
    status, _, body = curl(host, "/", key="")
    assert status == 404 or "swagger" not in body.lower()


def test_failed_deploys_left_nothing(host):
    assert host.run("ls /run/systemd/system").stdout.count("candidate") == 0
    assert not host.file("/run/litellm-candidate").exists
    assert not host.file("/var/lib/selfhosted-llm/litellm/swap.json").exists


def test_survives_a_restart(host):
    assert host.run("systemctl restart litellm").rc == 0
    # curl's own waiting, no sleep: it retries while the port is closed.
    waited = host.run(
        f"curl -sS --retry 60 --retry-delay 1 --retry-connrefused --max-time 90 -H 'Authorization: Bearer {KEY}' {LOCAL}/v1/models"
    )
    assert "tiny" in waited.stdout, journal(host)
