"""What others learn of requests: Prometheus by /metrics, a collector and Langfuse by traces, none of them the prompts."""

from __future__ import annotations

import json
import re
import shlex
import uuid
from pathlib import Path
from urllib.parse import quote

import pytest

testinfra_hosts = ["ansible://litellm"]

MASTER_KEY = "sk-molecule-bq7ZkX2vN9sW4tRfJ6mLhY8c"
METRICS_KEY = "sk-molecule-metrics-Nw7Rk2Vx9Hq4Zt"
GUIDE = Path(__file__).resolve().parents[3] / "docs/observability.md"
COLLECTOR, LANGFUSE = "/v1/traces", "/api/public/otel/v1/traces"


def curl(host, path, key="", payload=None):
    """Status and text of a request made on the host."""
    data = ["-d", json.dumps(payload), "-H", "Content-Type: application/json"] if payload is not None else []
    auth = ["-H", f"Authorization: Bearer {key}"] if key else []
    command = ["curl", "-sS", "--max-time", "60", "-w", "\n%{http_code}", *auth, *data, f"http://127.0.0.1:4000{path}"]
    body, _, status = host.check_output(shlex.join(command)).rpartition("\n")
    return int(status), body


def chat(host, prompt, **more):
    payload = {"model": "default", "max_tokens": 4, "messages": [{"role": "user", "content": prompt}], **more}
    status, body = curl(host, "/v1/chat/completions", MASTER_KEY, payload)
    assert status == 200, body


def collector(host, what, path, text=""):
    url = f"http://127.0.0.1:4318/control/{what}?path={quote(path)}&text={quote(text)}"
    return json.loads(host.check_output(shlex.join(["curl", "-sS", "--fail", "--max-time", "90", url])))


def value(metrics, name, **labels):
    """The sum of the samples of a metric that have these labels."""
    found = 0.0
    for line in metrics.splitlines():
        match = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
        if match and match.group(1) == name and all(f'{label}="{text}"' in (match.group(2) or "") for label, text in labels.items()):
            found += float(match.group(3))
    return found


@pytest.fixture
def wait_for_metric(host):
    def wait(name, least, **labels):
        # Counted after the answer: the host asks until it is there.
        for _ in range(100):
            status, metrics = curl(host, "/metrics/", METRICS_KEY)
            assert status == 200
            if value(metrics, name, **labels) >= least:
                return metrics
        raise AssertionError(f"{name} does not reach {least}:\n{metrics}")

    return wait


@pytest.mark.parametrize("key", ["", "sk-wrong", "hc-sk-free-000001"])
def test_metrics_are_not_for_everybody(host, key):
    for path in ("/metrics", "/metrics/"):
        assert curl(host, path, key)[0] == 401


def test_the_key_of_the_metrics_opens_nothing_else(host):
    assert curl(host, "/metrics/", METRICS_KEY)[0] == 200
    for path in ("/v1/models", "/key/list", "/health", "/model/info", "/metrics/../v1/models", "//metrics"):
        assert curl(host, path, METRICS_KEY)[0] in (400, 401, 403, 404), path
    payload = {"model": "default", "messages": [{"role": "user", "content": "hello"}]}
    assert curl(host, "/v1/chat/completions", METRICS_KEY, payload)[0] in (400, 401, 403)


def test_requests_are_counted_by_all_workers_together(host, wait_for_metric):
    name, labels = "litellm_proxy_total_requests_metric_total", {"requested_model": "default", "status_code": "200"}
    before = value(curl(host, "/metrics/", METRICS_KEY)[1], name, **labels)
    for _ in range(8):
        chat(host, "hello", user="person-17")
    metrics = wait_for_metric(name, before + 8, **labels)
    assert value(metrics, name, **labels) == before + 8
    assert value(metrics, "litellm_requests_metric_total", model_id="tiny@gpu") >= 8


def test_metrics_are_about_no_person(host, wait_for_metric):
    chat(host, "hello", user="person-17")
    metrics = wait_for_metric("litellm_requests_metric_total", 1)
    assert "person-17" not in metrics
    for label in ("client_ip", "user_agent", "end_user", "hashed_api_key", "user_email"):
        assert f"{label}=" not in metrics


def test_the_guide_names_metrics_that_are_there(host, wait_for_metric):
    if host.backend.get_hostname() == "litellm-trixie":
        pytest.skip("several workers show what was counted, a single one shows what could be")
    chat(host, "hello")
    there = set(re.findall(r"^# TYPE (\w+)", wait_for_metric("litellm_requests_metric_total", 1), flags=re.MULTILINE))
    listed = set(re.findall(r"^\| `(litellm_\w+)`", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert listed
    assert listed <= there, sorted(listed - there)


@pytest.mark.parametrize("path", [COLLECTOR, LANGFUSE])
def test_traces_have_prompts_only_where_that_is_asked_for(host, path):
    asks_for_it = host.backend.get_hostname() == "litellm-trixie"
    # What is known to arrive marks the request, and comes last: the prompt would have been there by then.
    prompt, person = f"prompt-{uuid.uuid4()}", f"person-{uuid.uuid4()}"
    chat(host, prompt, user=person)
    chat(host, prompt, user=person, stream=True)
    collector(host, "wait", path, person)
    assert (collector(host, "seen", path, prompt)["times"] > 0) == asks_for_it


def test_no_refused_key_is_in_traces(host):
    if host.backend.get_hostname() == "litellm-trixie":
        pytest.skip("its own authentication does not hash what it refuses")
    # Of another service: it has no prefix of the backend, and none that LiteLLM knows.
    key, person = f"gsk_{uuid.uuid4().hex}", f"person-{uuid.uuid4()}"
    payload = {"model": "default", "messages": [{"role": "user", "content": "hello"}]}
    assert curl(host, "/v1/chat/completions", key, payload)[0] == 401
    chat(host, "hello", user=person)
    for path in (COLLECTOR, LANGFUSE):
        # It comes last.
        collector(host, "wait", path, person)
        assert collector(host, "seen", path, key)["times"] == 0


def test_each_gets_its_own_secret(host):
    person = f"person-{uuid.uuid4()}"
    chat(host, "hello", user=person)
    for path in (COLLECTOR, LANGFUSE):
        collector(host, "wait", path, person)
        assert collector(host, "seen", path, MASTER_KEY)["times"] == 0
    assert collector(host, "headers", COLLECTOR)["x-token"] == "token-of-the-traces"
    assert "authorization" not in collector(host, "headers", COLLECTOR)
    assert "x-token" not in collector(host, "headers", LANGFUSE)
    assert collector(host, "headers", LANGFUSE)["authorization"].startswith("Basic ")
