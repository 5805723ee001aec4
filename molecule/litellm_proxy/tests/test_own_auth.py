"""An authentication of one's own: LiteLLM enforces what it returns."""

from __future__ import annotations

import json
import shlex

import pytest

testinfra_hosts = ["ansible://litellm-trixie"]


@pytest.mark.parametrize(
    ("key", "model", "status"),
    [
        ("own-key-of-this-test", "tiny", 200),
        ("own-key-of-this-test", "embed", 403),
        ("another-key", "tiny", 401),
        ("sk-molecule-bq7ZkX2vN9sW4tRfJ6mLhY8c", "tiny", 200),
    ],
)
def test_who_gets_what(host, key, model, status):
    payload = json.dumps({"model": model, "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]})
    command = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"Authorization: Bearer {key}", "-d", payload]
    answer = host.check_output(shlex.join([*command, "-H", "Content-Type: application/json", "http://127.0.0.1:4000/v1/chat/completions"]))
    assert answer == str(status)


def test_the_key_administers_nothing(host):
    answer = host.check_output(
        "curl -sS -o /dev/null -w '%{http_code}' -H 'Authorization: Bearer own-key-of-this-test' -X POST http://127.0.0.1:4000/key/generate"
    )
    assert answer == "401"


def test_it_has_no_settings_of_the_shipped_one(host):
    assert host.file("/etc/litellm/custom_auth.py").contains("own-key-of-this-test")
    assert not host.file("/etc/litellm/custom_auth.json").exists
