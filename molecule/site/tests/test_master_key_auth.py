"""A gateway without a database and without custom authentication: who does not have the master key is told so as OpenAI does it."""

from __future__ import annotations

import json
import shlex

import pytest

testinfra_hosts = ["ansible://litellm"]

MASTER_KEY = "sk-molecule-w8Hq3ZtVb6NkPx5RyLmS9cGd"
METRICS_KEY = "sk-molecule-metrics-Nw7Rk2Vx9Hq4Zt"
WRONG = ("sk-wrong-of-this-test", "wrong-of-this-test", MASTER_KEY[:-1], MASTER_KEY + "x")
CHAT = {"model": "default", "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]}


def curl(host, path, *headers, payload=None):
    """Status and JSON, where it is JSON."""
    data = ["-H", "Content-Type: application/json", "-d", json.dumps(payload)] if payload is not None else []
    sent = [word for header in headers for word in ("-H", header)]
    command = ["curl", "-sS", "--max-time", "60", "-w", "\n%{http_code}", *sent, *data, f"http://127.0.0.1:4000{path}"]
    body, _, status = host.check_output(shlex.join(command)).rpartition("\n")
    try:
        return int(status), json.loads(body)
    except ValueError:
        return int(status), body


def bearer(key):
    return f"Authorization: Bearer {key}"


@pytest.mark.parametrize("headers", [*([bearer(key)] for key in WRONG), [], [bearer("")], ["x-api-key: wrong-of-this-test"]])
@pytest.mark.parametrize(("path", "payload"), [("/v1/models", None), ("/v1/chat/completions", CHAT), ("/key/generate", {})])
def test_others_are_refused_as_openai_does(host, path, payload, headers):
    status, answer = curl(host, path, *headers, payload=payload)
    assert status == 401, answer
    assert (answer["error"]["code"], answer["error"]["type"]) == ("invalid_api_key", "invalid_request_error")
    assert "of-this-test" not in json.dumps(answer)


def test_the_master_key_is_still_the_administrators(host):
    assert curl(host, "/v1/chat/completions", bearer(MASTER_KEY), payload=CHAT)[0] == 200
    assert curl(host, "/v1/models", f"x-api-key: {MASTER_KEY}")[0] == 200
    for path in ("/model/info", "/health/readiness/details", "/get/config/callbacks", "/metrics/"):
        assert curl(host, path, bearer(MASTER_KEY))[0] == 200, path


def test_probes_need_no_key(host):
    assert curl(host, "/health/liveliness")[0] == 200
    assert curl(host, "/health/readiness")[0] == 200


def test_the_key_of_the_metrics_goes_with_it(host):
    assert curl(host, "/metrics/", bearer(METRICS_KEY))[0] == 200
    assert curl(host, "/v1/models", bearer(METRICS_KEY))[1]["error"]["code"] == "invalid_api_key"


def test_no_refused_key_is_logged_or_counted(host):
    curl(host, "/v1/chat/completions", bearer("wrong-of-this-test"), payload=CHAT)
    log = host.check_output("journalctl --no-pager -u litellm")
    assert "The API key is missing or not valid" in log
    assert "of-this-test" not in log
    assert "of-this-test" not in str(curl(host, "/metrics/", bearer(METRICS_KEY))[1])


def test_there_are_no_settings_of_the_one_that_asks_a_backend(host):
    there = host.file("/etc/litellm/custom_auth.py")
    assert (there.mode, there.user, there.group) == (0o640, "root", "litellm")
    assert MASTER_KEY not in there.content_string
    assert not host.file("/etc/litellm/custom_auth.json").exists
