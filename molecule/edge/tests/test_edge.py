"""The service as clients far away see it: through nginx, two gateways and SSH tunnels, and what they notice when a part goes away."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import ssl
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import httpx2 as httpx
import openai
import pytest
from machines import ROOT, address, load_module, node, play, wait_until

testinfra_hosts = ["ansible://edge"]

INVENTORY = str(Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent)
EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
REPORT = ROOT / ".cache" / "reports" / "edge" / "latest"
MASTER = "sk-molecule-Pz6Kv9Xt3Wn8Rb5Yc2Hd7Jm"
# What edge_keys of molecule.yml says of them.
PREMIUM, ADULT = "hc-sk-premium-1f9c2e7ab34d", "hc-sk-adult-77d0b5ce91a2"
FREE, LOAD = "hc-sk-free-9a1d4c7be205", "hc-sk-load-5b8e63f0d4c1"
GATEWAYS = ("hc-gateway-1", "hc-gateway-2")
GPUS = ("hc-gpu-1", "hc-gpu-2")
NAME = "api.heartcode.example"
PUBLIC = {"heartcode-default", "heartcode-sfw", "heartcode-embed"}

clients = load_module("molecule/gateways/tests/clients.py")
streams = load_module("molecule/edge/tests/streams.py")


@functools.cache
def trusted() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=node("hc-edge", "cat /etc/selfhosted-llm/edge/ca.crt"))


def ask(method: str, path: str, key: str = "", body: dict | None = None, verify: ssl.SSLContext | None = None) -> httpx.Response:
    headers = {"Host": NAME, **({"Authorization": f"Bearer {key}"} if key else {})}
    with httpx.Client(verify=verify or trusted(), timeout=60, trust_env=False) as client:
        return client.request(method, f"https://{address('hc-edge')}{path}", headers=headers, json=body, extensions={"sni_hostname": NAME})


def chat(key: str, model: str = "heartcode-sfw") -> httpx.Response:
    body = {"model": model, "max_tokens": 4, "messages": [{"role": "user", "content": f"hello at {time.monotonic()}"}]}
    return ask("POST", "/v1/chat/completions", key, body)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def control(method: str, path: str, body: dict | None = None) -> str:
    data = f"--data-binary '{json.dumps(body)}'" if body is not None else ""
    return node("hc-store", f"curl -sf -X {method} {data} http://127.0.0.1:9400/control/{path}")


@pytest.fixture
def load():
    running = clients.Clients([f"https://{address('hc-edge')}"], LOAD, "heartcode-sfw", name=NAME, verify=trusted())
    wait_until(lambda: running.total() > 20 or running.failed, 60, "load")
    yield running
    running.finish()


def healthy(gateway: str, port: int) -> bool:
    """Whether that gateway reaches the server that it knows by this port of its own."""
    command = ["docker", "exec", gateway, "curl", "-sf", "--max-time", "3", f"http://127.0.0.1:{port}/health"]
    return subprocess.run(command, capture_output=True, timeout=30).returncode == 0


# What is there


def test_the_report_proves_every_row():
    report = json.loads((REPORT / "report.json").read_text())
    documents = [
        (gateway["name"], check) for gateway in report["gateways"] for document in gateway["documents"] for check in document["checks"]
    ]
    passed = {(name, check["group"]) for name, check in documents if check["status"] == "passed"}
    for gateway in GATEWAYS:
        for group in ("models", "auth", "chat", "stream", "embeddings", "load", "servers"):
            assert (gateway, group) in passed, f"{group} of {gateway}"
    for group in ("edge", "models", "auth", "chat", "stream", "embeddings"):
        assert ("hc-edge", group) in passed, f"{group} of the edge"
    servers = {check["name"] for name, check in documents if check["group"] == "servers"}
    for gpu, ports in (("hc-gpu-1", (*range(8080, 8084), *range(8090, 8094))), ("hc-gpu-2", (*range(8084, 8088), *range(8094, 8098)))):
        for port in ports:
            assert any(f"{gpu}:{port}" in name for name in servers), f"{gpu}:{port}"
    assert [check for _, check in documents if check["status"] == "failed"] == []
    assert list(ElementTree.parse(REPORT / "junit.xml").getroot().iter("failure")) == []
    for path in REPORT.iterdir():
        for secret in (MASTER, PREMIUM, ADULT):
            assert secret not in path.read_text()


def test_public_names_alone_are_offered():
    assert {model["id"] for model in ask("GET", "/v1/models", PREMIUM).json()["data"]} == PUBLIC
    assert {model["id"] for model in ask("GET", "/v1/models", ADULT).json()["data"]} == PUBLIC | {"heartcode-nsfw"}
    for model in PUBLIC - {"heartcode-embed"}:
        answer = chat(PREMIUM, model)
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"] == model, "the name of the model inside is in the answer"
    assert code_of(chat(PREMIUM, "heartcode-chat-sfw")) == (403, "model_unavailable")
    assert code_of(chat(PREMIUM, "heartcode-nsfw")) == (403, "model_unavailable")
    assert chat(ADULT, "heartcode-nsfw").status_code == 200


def test_tls_is_the_only_way_in():
    redirected = httpx.get(f"http://{address('hc-edge')}/v1/models", headers={"Host": NAME}, timeout=20, trust_env=False)
    assert redirected.status_code in (301, 308)
    assert redirected.headers["location"] == f"https://{NAME}/v1/models"
    with pytest.raises(httpx.ConnectError, match=r"CERTIFICATE_VERIFY_FAILED|certificate verify failed"):
        ask("GET", "/v1/models", verify=ssl.create_default_context())
    assert ask("GET", "/key/list", MASTER).status_code in (403, 404), "administration is not for the world"


def test_keys_of_the_backend():
    for key in ("", "hc-sk-nobody-0c4ad17e92b6", "sk-nobody-0c4ad17e92b6"):
        assert code_of(chat(key)) == (401, "invalid_api_key")
    connect = httpx.Client(verify=trusted(), trust_env=False, headers={"Host": NAME})
    client = openai.OpenAI(
        base_url=f"https://{address('hc-edge')}/v1", api_key="hc-sk-nobody-0c4ad17e92b6", max_retries=0, http_client=connect
    )
    connect.event_hooks["request"] = [lambda request: request.extensions.update(sni_hostname=NAME)]
    with pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(model="heartcode-sfw", messages=[{"role": "user", "content": "hello"}])
    answers = [chat(FREE) for _ in range(14)]
    assert [answer.status_code for answer in answers].count(200) <= 11, "ten a minute, over both gateways"
    assert 429 in [answer.status_code for answer in answers]


def test_a_backend_that_is_slow_down_or_lying_lets_nobody_in():
    control("PUT", "keys/hc-sk-late-6a1b8c3d9e70", {"tier": "premium"})
    refusals = [
        ({"hold": True}, (504, "auth_timeout")),
        ({"status": 503, "body": "down"}, (503, "auth_unavailable")),
        ({"status": 200, "body": "<html>sign in</html>"}, (503, "auth_unavailable")),
        ({"status": 200, "body": '{"valid": true, "tier": "root"}'}, (503, "auth_unavailable")),
        ({"hang_up": True}, (503, "auth_unavailable")),
    ]
    try:
        for script, expected in refusals:
            control("PUT", "script", script)
            assert code_of(chat("hc-sk-late-6a1b8c3d9e70")) == expected, script
        assert chat(MASTER).status_code == 200, "the master key asks nobody"
    finally:
        control("DELETE", "script")
    assert chat("hc-sk-late-6a1b8c3d9e70").status_code == 200, "it recovers by itself"


# What goes away


def test_tunnels_end_at_the_loopback_of_the_gateways():
    for gateway in GATEWAYS:
        listening = node(gateway, "ss -Hltn | awk '{print $4}'").split()
        assert "127.0.0.1:8080" in listening
        assert [address for address in listening if address.endswith(":8080")] == ["127.0.0.1:8080"]
        assert not [address for address in listening if address.endswith(":8084")], "the servers of the other host are in the network"
    away = subprocess.run(
        ["docker", "exec", "hc-gateway-1", "curl", "-s", "--max-time", "4", "http://hc-gpu-1:8080/health"], capture_output=True, timeout=30
    )
    assert away.returncode != 0, "a server behind a tunnel is reachable without it"


def test_killed_tunnels_are_invisible_and_come_back(load):
    node("hc-gpu-1", "pkill -KILL -u llm-tunnel")
    before = load.total()
    for gateway in GATEWAYS:
        wait_until(lambda gateway=gateway: healthy(gateway, 8080) and healthy(gateway, 8093), 120, f"the tunnels to {gateway}")
    wait_until(lambda: load.total() > before + 60, 90, "60 answers")
    load.finish()
    assert load.failed == []


def test_a_killed_gpu_host_is_invisible(load):
    subprocess.run(["docker", "kill", "hc-gpu-2"], check=True, capture_output=True, timeout=60)
    try:
        before = load.total()
        wait_until(lambda: load.total() > before + 60, 120, "60 answers of the other host")
    finally:
        subprocess.run(["docker", "start", "hc-gpu-2"], check=True, capture_output=True, timeout=60)
    load.finish()
    assert load.failed == []
    wait_until(
        lambda: subprocess.run(["docker", "exec", "hc-gateway-1", "curl", "-sf", "http://hc-gpu-2:8084/health"]).returncode == 0,
        120,
        "hc-gpu-2",
    )


def test_a_killed_gateway_is_invisible(load):
    node("hc-gateway-1", "systemctl kill --signal KILL litellm")
    before = load.total()
    wait_until(lambda: load.total() > before + 60, 90, "60 answers of the other gateway")

    def back():
        try:
            return httpx.get(f"http://{address('hc-gateway-1')}:4000/health/readiness", timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    wait_until(back, 120, "the gateway by itself")
    load.finish()
    assert load.failed == []


# The same declaration without tunnels, and with servers whose streams can be held


@pytest.fixture(scope="module")
def local_variant(tmp_path_factory):
    command = ["ansible-inventory", "--inventory", INVENTORY, "--host", "hc-gpu-1"]
    models = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)["llm_models"]
    models.append({"name": "held", "servers": [{"host": gpu, "ports": "8100-8101"} for gpu in GPUS]})
    variables = tmp_path_factory.mktemp("local") / "variables.json"
    # A held stream is silent for as long as it takes to open the others.
    patience = {"litellm_proxy_timeout": 600, "litellm_proxy_stream_timeout": 300}
    variables.write_text(json.dumps({"llm_servers_via": "lan", "llm_models": models, **patience}))
    for playbook in ("backends.yml", "tunnels.yml", "gateway.yml", "edge.yml"):
        result = play(playbook, "--extra-vars", f"@{variables}")
        assert result.returncode == 0, result.stdout[-4000:]


def test_the_local_variant_is_the_same_declaration(local_variant):
    for gateway in GATEWAYS:
        assert "127.0.0.1:8080" not in node(gateway, "ss -Hltn | awk '{print $4}'").split(), "a tunnel is left"
        assert node(gateway, "curl -sf --max-time 5 http://hc-gpu-1:8080/health")
    assert "llm-tunnel" not in node("hc-gpu-1", "systemctl list-units --all --no-legend 'llm-tunnel-*'")
    assert chat(PREMIUM).status_code == 200


def memory() -> dict[str, int]:
    """Megabytes of each part between client and server."""
    units = {"hc-edge": "nginx", "hc-gateway-1": "litellm", "hc-gateway-2": "litellm"}
    return {name: int(node(name, f"systemctl show {unit} --property MemoryCurrent --value")) >> 20 for name, unit in units.items()}


def held(path: str, method: str = "POST") -> list[dict]:
    return [json.loads(node(gpu, f"curl -sf -X {method} http://127.0.0.1:{port}/{path}")) for gpu in GPUS for port in (8100, 8101)]


def test_a_piece_arrives_before_the_next_is_sent(local_variant):
    held("hold")
    try:
        one = streams.Streams(address("hc-edge"), NAME, trusted(), LOAD, "held", 1)
        asyncio.run(one.run(lambda: held("release"), 60))
    finally:
        held("release")
    assert [(outcome.problem, outcome.done) for outcome in one.outcomes] == [("", True)]


def test_a_thousand_streams_are_held_open(local_variant):
    before = memory()
    open_at_once = []

    def all_are_open():
        open_at_once.append(sum(state["open"] for state in held("open", "GET")))
        print(f"{open_at_once[0]} streams are open; megabytes before {before}, now {memory()}")
        held("release")

    held("hold")
    try:
        thousand = streams.Streams(address("hc-edge"), NAME, trusted(), LOAD, "held", 1000)
        asyncio.run(thousand.run(all_are_open, 300))
    finally:
        held("release")
    assert [outcome.problem for outcome in thousand.outcomes if outcome.problem] == []
    assert all(outcome.done for outcome in thousand.outcomes)
    assert open_at_once == [1000]
