"""Two gateways, one state: keys and limits hold on both, and what clients notice when the state, or one of the gateways, goes away."""

from __future__ import annotations

import json
import os
import stat
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import httpx2 as httpx
import pytest
from machines import ROOT, address, load_module, node, play, wait_until

testinfra_hosts = ["ansible://store"]

KEYS = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "keys"
REPORT = ROOT / ".cache" / "reports" / "gateways" / "latest"
MASTER = "sk-molecule-Tq7Jx2vN9sW4tRfJ6mLhY8c"
LOAD = "sk-molecule-load-Zr5Wn8Kx2Qv7Ht"
LIMITED = "sk-molecule-limited-Yc4Vb9Lm3Pd"
COMPANY = "hc-sk-company-000001"

Clients = load_module("molecule/gateways/tests/clients.py").Clients
GATEWAYS = ("gws-1", "gws-2")


def urls() -> dict[str, str]:
    return {name: f"http://{address(name)}:4000" for name in GATEWAYS}


def chat(url: str, key: str, model: str = "tiny") -> httpx.Response:
    body = {"model": model, "max_tokens": 4, "messages": [{"role": "user", "content": f"hello at {time.monotonic()}"}]}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False)


def admin(url: str, path: str, body: dict) -> httpx.Response:
    return httpx.post(url + path, json=body, headers={"Authorization": f"Bearer {MASTER}"}, timeout=60, trust_env=False)


def main_pid(name: str) -> int:
    return int(node(name, "systemctl show litellm --property MainPID --value"))


@pytest.fixture
def clients():
    running = Clients(list(urls().values()), LOAD, "tiny")
    yield running
    running.finish()


def test_the_report_proves_both_gateways():
    report = json.loads((REPORT / "report.json").read_text())
    assert len(report["gateways"]) == 2
    for gateway in report["gateways"]:
        groups = {check["group"] for document in gateway["documents"] for check in document["checks"] if check["status"] == "passed"}
        assert {"keys", "auth", "chat", "load"} <= groups
    assert list(ElementTree.parse(REPORT / "junit.xml").getroot().iter("failure")) == []
    for path in REPORT.iterdir():
        for secret in (MASTER, LOAD, LIMITED):
            assert secret not in path.read_text()


@pytest.mark.parametrize("name", GATEWAYS)
def test_declared_keys_hold_on_every_gateway(name):
    url = urls()[name]
    assert chat(url, LOAD).status_code == 200
    assert chat(url, "sk-nobody-has-this-key").status_code == 401
    refused = httpx.post(
        f"{url}/v1/embeddings",
        json={"model": "embed", "input": "x"},
        headers={"Authorization": f"Bearer {LIMITED}"},
        timeout=60,
        trust_env=False,
    )
    assert refused.status_code == 403, "a key for chat must not embed"


def test_a_generated_key_is_in_its_file_alone():
    path = KEYS / "generated.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = path.read_text().strip()
    assert key.startswith("sk-")
    for url in urls().values():
        answer = httpx.post(
            f"{url}/v1/embeddings",
            json={"model": "embed", "input": "x"},
            headers={"Authorization": f"Bearer {key}"},
            timeout=60,
            trust_env=False,
        )
        assert answer.status_code == 200
    assert key not in (ROOT / ".cache" / "molecule" / "gateways.log").read_text(errors="replace") if os.environ.get("CI") else True


def test_limits_are_counted_together():
    """Ten requests a minute, whichever gateway they come by: each counting for itself would admit all twenty."""
    both = list(urls().values())
    codes = [chat(both[number % 2], LIMITED).status_code for number in range(20)]
    assert set(codes) == {200, 429}
    assert 9 <= codes.count(200) <= 12, codes


def test_keys_of_a_backend_beside_those_of_the_database():
    """Their limit is counted together, too; and the database learns who it was, and never a key."""
    both = list(urls().values())
    codes = [chat(both[number % 2], COMPANY).status_code for number in range(20)]
    assert set(codes) == {200, 429}
    assert 9 <= codes.count(200) <= 12, codes
    for url in both:
        for key, model, refusal in ((f"{COMPANY}-wrong", "tiny", (401, "invalid_api_key")), (COMPANY, "embed", (403, "model_unavailable"))):
            answer = chat(url, key, model)
            assert (answer.status_code, answer.json()["error"]["code"]) == refusal
    rows = """runuser -u postgres -- psql -At litellm -c "SELECT count(*) FROM \\"LiteLLM_SpendLogs\\" WHERE \\"user\\" = 'backend:u1'" """
    wait_until(lambda: int(node("gws-store", rows)) >= 9, 90, "spend of the backend's user")
    assert node("gws-store", "runuser -u postgres -- pg_dump litellm | grep -c hc-sk- || true").strip() == "0"


def test_redis_away_is_invisible(clients):
    wait_until(lambda: clients.total() > 20, 60, "load")
    node("gws-store", "systemctl stop redis-server")
    try:
        before = clients.total()
        wait_until(lambda: clients.total() > before + 60, 90, "60 answers without Redis")
    finally:
        node("gws-store", "systemctl start redis-server")
    before = clients.total()
    wait_until(lambda: clients.total() > before + 20, 60, "answers after Redis is back")
    clients.finish()
    assert clients.failed == []


def test_postgresql_away_and_back(clients):
    """Nobody gets in who cannot be looked up, nobody is told that a good key is bad, and it recovers by itself."""
    before = {name: main_pid(name) for name in GATEWAYS}
    wait_until(lambda: len(clients.answered) == 2, 60, "load on both gateways")
    node("gws-store", "systemctl stop postgresql")
    try:
        for url in urls().values():
            refused = chat(url, "sk-nobody-has-this-key")
            assert refused.status_code in (401, 500, 503), refused.text
    finally:
        node("gws-store", "systemctl start postgresql")
    for name, url in urls().items():
        alias = f"after-the-fault-{name}"

        def made(url=url, alias=alias):
            return admin(url, "/key/generate", {"key_alias": alias, "duration": "1h"}).status_code == 200

        wait_until(made, 60, f"a new key on {name}")
        assert admin(url, "/key/delete", {"key_aliases": [alias]}).status_code == 200
        wait_until(lambda url=url: chat(url, LOAD).status_code == 200, 60, f"an answer of {name}")
    answered = clients.total()
    wait_until(lambda: clients.total() > answered + 40, 60, "40 answers after PostgreSQL is back")
    clients.finish()
    # What fails meanwhile fails with the reason.
    assert [failure for failure in clients.failed if ": 503 " not in failure and ": 500 " not in failure] == []
    assert {name: main_pid(name) for name in GATEWAYS} == before, "a gateway was restarted"


def test_a_killed_gateway_is_invisible_behind_a_balancer(clients):
    wait_until(lambda: len(clients.answered) == 2, 60, "load on both gateways")
    node("gws-1", "systemctl kill --signal KILL litellm")
    before = clients.total()
    wait_until(lambda: clients.total() > before + 60, 90, "60 answers of the other gateway")

    def back():
        try:
            return httpx.get(urls()["gws-1"] + "/health/readiness", timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    wait_until(back, 120, "gws-1 by itself")
    clients.finish()
    assert clients.failed == []


def test_a_new_master_key_goes_round(clients, tmp_path):
    """The old one is refused and the new one works on every gateway, and who uses a virtual key notices nothing."""
    wait_until(lambda: len(clients.answered) == 2, 60, "load on both gateways")
    new = "sk-molecule-Hn5Wc8Zk2Rv7Yt4Jx9Bm3Qs6"
    rotate(tmp_path, new, MASTER)
    clients.finish()
    assert clients.failed == []
    for url in urls().values():
        assert chat(url, MASTER).status_code == 401
        assert chat(url, new).status_code == 200
    rotate(tmp_path, MASTER, new)


def rotate(folder: Path, new: str, old: str) -> None:
    settings = folder / "keys.json"
    settings.touch(0o600)
    settings.write_text(json.dumps({"litellm_proxy_master_key": new}))
    result = play("rotate_keys.yml", "--extra-vars", f"@{settings}")
    assert result.returncode == 0, result.stdout[-4000:]
    assert new not in result.stdout
    assert old not in result.stdout


def test_many_keys_are_reconciled_once(tmp_path):
    settings = tmp_path / "many.json"
    teams = [{"team_alias": f"team-{number:02}", "models": ["tiny"]} for number in range(50)]
    keys = [{"key_alias": f"many-{number:03}", "team_id": f"team-{number % 50:02}", "tier": "free"} for number in range(500)]
    variables = {"litellm_teams": teams, "litellm_keys": keys, "llm_key_directory": str(tmp_path / "keys")}
    settings.write_text(json.dumps(variables))
    started = time.monotonic()
    first = play("keys.yml", "--extra-vars", f"@{settings}")
    assert first.returncode == 0, first.stdout[-3000:]
    between = time.monotonic()
    second = play("keys.yml", "--extra-vars", f"@{settings}")
    assert second.returncode == 0, second.stdout[-3000:]
    print(f"500 keys and 50 teams: first run {between - started:.1f} s, second {time.monotonic() - between:.1f} s")
    assert "changed=0" in second.stdout
    assert "changed=0" not in first.stdout
    assert len(list((tmp_path / "keys").iterdir())) == 500
