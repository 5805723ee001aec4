"""The whole service as its users see it, and what they notice when a backend dies or hangs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
import xml.etree.ElementTree as ElementTree

import jmespath
import openai
import pytest
from machines import ROOT, address, load_module, node, play, wait_until

testinfra_hosts = ["ansible://litellm"]

KEY = "sk-molecule-w8Hq3ZtVb6NkPx5RyLmS9cGd"
REPORT = ROOT / ".cache" / "reports" / "site" / "latest"

load = load_module("tests/bench/load.py")


def gateway():
    return f"http://{address('site-api')}:4000"


class Load:
    """Clients in the background, until `finish`."""

    def __init__(self, model="phi3-3.8b", clients=12):
        self._stop = threading.Event()
        self._outcome = None
        self._thread = threading.Thread(target=self._run, args=(model, clients))
        self._thread.start()

    def _run(self, model, clients):
        self._outcome = asyncio.run(load.run_load(gateway(), KEY, model, clients, 5000, seconds=150, stop=self._stop.is_set))

    def finish(self):
        self._stop.set()
        self._thread.join(150)
        assert self._outcome is not None, "the load did not end"
        summary = self._outcome.summary()
        print(json.dumps(summary, indent=2))
        return summary


def standin(name):
    return json.loads(node(name, "curl -s http://127.0.0.1:11434/standin/state"))["counters"]


def answered(name):
    return sum(standin(name)["requests"].values())


def expect_invisible(summary):
    """No request failed. A stream that had begun may break, and then ends with an error, never as if it were complete."""
    assert summary["requests"] > 40, "too little load to prove anything"
    assert summary["failed"] == []
    assert summary["silent_ends"] == 0


@pytest.fixture(scope="module")
def client():
    return openai.OpenAI(base_url=f"{gateway()}/v1", api_key=KEY, max_retries=0, timeout=60)


def test_every_model_answers_through_one_url(client):
    assert {model.id for model in client.models.list()} == {"phi3-3.8b", "default", "llama3.2-1b", "embed", "gpu-tiny"}
    for model in ("phi3-3.8b", "default", "llama3.2-1b", "gpu-tiny"):
        answer = client.chat.completions.create(model=model, max_tokens=8, messages=[{"role": "user", "content": "hello"}])
        assert answer.choices[0].message.content, model
    assert len(client.embeddings.create(model="embed", input="hello").data[0].embedding) > 1


def test_homes_differ(client):
    """One request at a time: each model stays where it is loaded, and different models live on different hosts."""
    homes = {}
    for model in ("phi3-3.8b", "llama3.2-1b"):
        seen = set()
        for number in range(3):
            raw = client.chat.completions.with_raw_response.create(
                model=model, max_tokens=4, messages=[{"role": "user", "content": f"request {number}"}]
            )
            seen.add(raw.headers["x-litellm-model-id"].split("@")[1])
        assert len(seen) == 1, f"{model} moved between {seen} without load"
        homes[model] = seen.pop()
    assert homes["phi3-3.8b"] != homes["llama3.2-1b"]


def test_backends_admit_the_gateway_alone():
    assert "Ollama is running" in node("site-api", "curl -s --max-time 10 http://site-llm1:11434/")
    refused = subprocess.run(
        ["docker", "exec", "site-webui", "curl", "-s", "--max-time", "4", "http://site-llm1:11434/"], capture_output=True, timeout=30
    )
    assert refused.returncode != 0


def test_report_is_complete():
    report = json.loads((REPORT / "report.json").read_text())
    suite = ElementTree.parse(REPORT / "junit.xml").getroot()
    cases = list(suite.iter("testcase"))
    assert len(cases) > 20
    assert list(suite.iter("failure")) == []
    assert jmespath.search("gateways[].documents[].checks[?status != 'passed'].name | []", report) == []
    page = (REPORT / "report.html").read_text()
    assert page.count("<svg") >= 3
    for name in ("site-api", "site-llm1", "site-llm2", "site-webui", "phi3-3.8b"):
        assert name in page
    for path in REPORT.iterdir():
        assert KEY not in path.read_text()


def test_a_killed_backend_is_invisible():
    running = Load()
    try:
        wait_until(lambda: standin("site-llm1")["in_flight"] > 0, 30, "load on site-llm1")
        node("site-llm1", "systemctl kill --signal KILL ollama && systemctl stop ollama")
        before = answered("site-llm2")
        wait_until(lambda: answered("site-llm2") > before + 60, 60, "60 requests on the other host")
    finally:
        node("site-llm1", "systemctl start ollama")
        summary = running.finish()
    expect_invisible(summary)


def test_a_hanging_backend_is_invisible():
    running = Load()
    try:
        wait_until(lambda: standin("site-llm2")["in_flight"] > 0, 30, "load on site-llm2")
        node("site-llm2", "systemctl kill --signal STOP ollama")
        before = answered("site-llm1")
        wait_until(lambda: answered("site-llm1") > before + 60, 90, "60 requests on the other host")
    finally:
        summary = running.finish()
        node("site-llm2", "systemctl kill --signal CONT ollama")
    expect_invisible(summary)


def test_verification_notices_a_dead_backend():
    """The exit code is right, and the words name the layer and the host."""
    node("site-llm1", "systemctl stop ollama")
    try:
        result = play("verify.yml", "-e", "llm_report_name=dead-backend", timeout=300)
    finally:
        node("site-llm1", "systemctl start ollama")
    assert result.returncode == 2, result.stdout[-3000:]
    assert KEY not in result.stdout + result.stderr
    report = json.loads((REPORT.parent / "dead-backend" / "report.json").read_text())
    failed = jmespath.search("gateways[].documents[].checks[?status == 'failed'].[name, message][]", report)
    # Only the shares tell: clients notice nothing, even after the hanging backend has left LiteLLM's counters wrong.
    others = [check for check in failed if "takes part" not in check[0] or "@site-llm1 answered 0" not in check[1]]
    assert failed
    assert not others, f"clients noticed: {others}\n{node('site-api', 'journalctl --unit litellm --no-pager --lines 60')}"


def test_status_shows_everything_healthy():
    result = play("status.yml", timeout=120)
    assert result.returncode == 0, result.stdout[-3000:]
    for words in ("site-api", "litellm", "1.106.2-", "site-webui", "open-webui", "site-llm2", "phi3:3.8b"):
        assert words in result.stdout
