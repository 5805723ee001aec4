"""Keys that a backend knows, with the real LiteLLM: who gets in, with what, and what a client is told while the backend is broken."""

from __future__ import annotations

import base64
import json
import shlex
from pathlib import Path

import pytest

testinfra_hosts = ["ansible://litellm-bookworm"]

MASTER_KEY = "sk-molecule-bq7ZkX2vN9sW4tRfJ6mLhY8c"
SECRET = "Gw7Rn2Wq9Zt4Lb6Vm3Yc8Hd5Jf"
FREE, SLOW, PREMIUM, VERIFIED = ("hc-sk-free-000001", "hc-sk-slow-000001", "hc-sk-premium-000001", "hc-sk-verified-000001")
WRONG = "hc-sk-wrong-000001"
# Not of the backend, and nothing that LiteLLM takes for a key.
FOREIGN = ("gsk_foreign000001", "AIzaForeign000001")


def curl(host, path, key, payload=None):
    """Status and JSON of a request made on the host."""
    data = ["-d", json.dumps(payload), "-H", "Content-Type: application/json"] if payload is not None else []
    auth = ["-H", f"Authorization: Bearer {key}"] if key else []
    url = f"http://127.0.0.1:4000{path}"
    result = host.run(shlex.join(["curl", "-sS", "--max-time", "60", "-w", "\n%{http_code}", *auth, *data, url]))
    assert result.rc == 0, result.stderr
    body, _, status = result.stdout.rpartition("\n")
    return int(status), json.loads(body)


def chat(host, key, model="tiny", **options):
    payload = {"model": model, "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}], **options}
    status, answer = curl(host, "/v1/chat/completions", key, payload)
    return status, answer.get("error", {}).get("code", "answered")


def control(host, method, path, body=None):
    """The stand-in's own knobs."""
    data = ["-d", json.dumps(body)] if body is not None else []
    command = ["curl", "-sS", "--fail", "--max-time", "30", "-X", method, *data, f"http://127.0.0.1:9400/control/{path}"]
    return json.loads(host.check_output(shlex.join(command)))


@pytest.fixture
def fresh(host):
    """Makes keys that the gateway has not seen, so that it has to ask; afterwards the backend is honest again."""
    made = []

    def make(entry):
        key = f"hc-sk-fresh-{len(made)}-{host.check_output('cat /proc/sys/kernel/random/uuid')}"
        control(host, "PUT", f"keys/{key}", entry)
        made.append(key)
        return key

    yield make
    host.check_output("systemctl start auth-backend")
    host.check_output("curl -sS --retry 30 --retry-delay 1 --retry-connrefused http://127.0.0.1:9400/control/counts")
    control(host, "DELETE", "script")


@pytest.mark.parametrize("name", ["custom_auth.py", "custom_auth.json"])
def test_handler_and_settings_are_the_services_to_read(host, name):
    there = host.file(f"/etc/litellm/{name}")
    assert (there.mode, there.user, there.group) == (0o640, "root", "litellm")
    assert SECRET not in there.content_string
    assert SECRET in host.file("/etc/litellm/litellm.env").content_string


@pytest.mark.parametrize(
    ("key", "model", "answer"),
    [
        (FREE, "default", (200, "answered")),
        # The tier has the alias only.
        (FREE, "tiny", (403, "model_unavailable")),
        (FREE, "tiny@gpu", (403, "model_unavailable")),
        (PREMIUM, "tiny", (200, "answered")),
        (PREMIUM, "default", (200, "answered")),
        (PREMIUM, "embed", (403, "model_unavailable")),
        (PREMIUM, "no-such-model", (403, "model_unavailable")),
        (WRONG, "tiny", (401, "invalid_api_key")),
        ("sk-wrong", "tiny", (401, "invalid_api_key")),
        ("", "tiny", (401, "invalid_api_key")),
        (MASTER_KEY, "tiny", (200, "answered")),
    ],
)
def test_who_gets_what(host, key, model, answer):
    assert chat(host, key, model) == answer


def test_a_fallback_named_by_the_client_is_no_way_around(host):
    assert chat(host, PREMIUM, fallbacks=["embed"]) == (403, "model_unavailable")


def test_a_restricted_model_is_for_its_group(host):
    payload = {"model": "embed", "input": "hello"}
    assert curl(host, "/v1/embeddings", VERIFIED, payload)[0] == 200
    assert curl(host, "/v1/embeddings", PREMIUM, payload)[1]["error"]["code"] == "model_unavailable"


@pytest.mark.parametrize(("key", "models"), [(FREE, {"default"}), (PREMIUM, {"tiny", "default"}), (VERIFIED, {"tiny", "default", "embed"})])
def test_a_key_sees_its_models_only(host, key, models):
    status, answer = curl(host, "/v1/models", key)
    assert (status, {model["id"] for model in answer["data"]}) == (200, models)


def test_a_key_without_models_has_none(host, fresh):
    key = fresh({"tier": "premium", "models": []})
    assert curl(host, "/v1/models", key)[1]["data"] == []
    assert chat(host, key) == (403, "model_unavailable")


def test_a_stream(host):
    payload = {"model": "tiny", "stream": True, "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]}
    command = ["curl", "-sSN", "-H", f"Authorization: Bearer {PREMIUM}", "-H", "Content-Type: application/json", "-d", json.dumps(payload)]
    lines = host.check_output(shlex.join([*command, "http://127.0.0.1:4000/v1/chat/completions"])).split("\n\n")
    assert lines[0].startswith("data: {")
    assert "data: [DONE]" in lines


def test_the_limit_of_a_tier(host):
    answers = [chat(host, SLOW)[0] for _ in range(3)]
    assert answers == [200, 200, 429]
    assert chat(host, PREMIUM)[0] == 200


@pytest.mark.parametrize(
    "path", ["/key/list", "/model/info", "/health", "/user/info", "/global/spend", "/config/yaml", "/get/config/callbacks"]
)
def test_a_key_administers_nothing(host, path):
    assert curl(host, path, PREMIUM)[0] == 403


def test_what_the_openai_sdk_makes_of_it(host, fresh):
    script = base64.b64encode(Path(__file__).parent.parent.joinpath("files/openai_errors.py").read_bytes()).decode()
    host.check_output(f"echo {script} | base64 -d > /root/openai_errors.py")

    def sdk(*arguments):
        return host.check_output(shlex.join(["/opt/litellm/current/bin/python", "/root/openai_errors.py", *arguments])).splitlines()

    assert sdk(f"{PREMIUM}=tiny", f"{WRONG}=tiny", f"{FREE}=embed") == [
        "answered",
        "AuthenticationError invalid_api_key 401",
        "PermissionDeniedError model_unavailable 403",
    ]
    slow, down = fresh({"tier": "premium"}), fresh({"tier": "premium"})
    control(host, "PUT", "script", {"hold": True})
    assert sdk(f"{slow}=tiny") == ["InternalServerError auth_timeout 504"]
    control(host, "PUT", "script", {"status": 500})
    assert sdk(f"{down}=tiny") == ["InternalServerError auth_unavailable 503"]


@pytest.mark.parametrize(
    ("script", "answer"),
    [
        ({"hold": True}, (504, "auth_timeout")),
        ({"status": 503}, (503, "auth_unavailable")),
        ({"body": "<html>sign in</html>", "headers": {"Content-Type": "text/html"}}, (503, "auth_unavailable")),
        ({"body": '{"valid": true, "tier": "gold"}'}, (503, "auth_unavailable")),
        ({"status": 302, "headers": {"Location": "/check"}}, (503, "auth_unavailable")),
        ({"hang_up": True}, (503, "auth_unavailable")),
    ],
)
def test_a_broken_backend_lets_nobody_in_but_the_master_key_and_recovers_by_itself(host, fresh, script, answer):
    key = fresh({"tier": "premium"})
    process = host.check_output("systemctl show --property InvocationID litellm")
    control(host, "PUT", "script", script)
    assert chat(host, key) == answer
    assert chat(host, MASTER_KEY) == (200, "answered")
    control(host, "DELETE", "script")
    assert chat(host, key) == (200, "answered")
    assert host.check_output("systemctl show --property InvocationID litellm") == process


def test_a_backend_that_is_gone(host, fresh):
    assert chat(host, PREMIUM) == (200, "answered")
    host.check_output("systemctl stop auth-backend")
    unseen = f"{PREMIUM}-unseen"
    assert chat(host, unseen) == (503, "auth_unavailable")
    # Seen less than a minute ago.
    assert chat(host, PREMIUM) == (200, "answered")
    host.check_output("systemctl start auth-backend")
    host.check_output("curl -sS --retry 30 --retry-delay 1 --retry-connrefused http://127.0.0.1:9400/control/counts")
    assert chat(host, unseen) == (401, "invalid_api_key")


def test_many_requests_are_one_question_on_one_connection(host, fresh):
    key = fresh({"tier": "premium"})
    control(host, "DELETE", "counts")
    command = f"curl -sS -o /dev/null -w '%{{http_code}}\\n' -H 'Authorization: Bearer {key}' http://127.0.0.1:4000/v1/models"
    answers = host.check_output(f"for i in $(seq 20); do {command} & done; wait")
    assert answers.split() == ["200"] * 20
    assert control(host, "GET", "counts")["checks"] == 1


def test_no_key_is_in_the_log(host):
    for key in FOREIGN:
        assert chat(host, key) == (401, "invalid_api_key")
    log = host.check_output("journalctl --no-pager -u litellm")
    assert "custom auth: http://litellm-bookworm:9400/check gave no answer" in log
    assert "hc-sk-" not in log
    assert not [key for key in FOREIGN if key in log]
    assert SECRET not in log
