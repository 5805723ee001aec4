# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of openai_api_check that make keys, against gateways that keep and break each promise."""

from __future__ import annotations

import hashlib
import json
import time
import typing as t

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.selfhosted.llm.plugins.module_utils import openai_keys
from ansible_collections.selfhosted.llm.plugins.module_utils.openai_auth import error_code
from ansible_collections.selfhosted.llm.plugins.modules import openai_api_check
from ansible_collections.selfhosted.llm.tests.unit.plugins.modules.fake_openai import KEY, FakeOpenAI

MODELS = [{"name": "phi3", "aliases": ["default"]}, {"name": "embed", "mode": "embedding"}]
Results = dict[str, t.Any]
NAMES = [
    "a new key is accepted",
    "a model that a key is not for is refused",
    "a blocked key is refused",
    "a deleted key is refused",
    "a rate limit is enforced",
    "a budget is enforced",
    "an expired key is refused",
    "spend is recorded",
    "the keys of these checks are removed",
]


@pytest.fixture(name="quick", autouse=True)
def fixture_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_keys, "SHORT_LIFE", 1)
    monkeypatch.setattr(openai_keys, "EXPIRY_MARGIN", 0.05)
    monkeypatch.setattr(openai_keys, "POLL_SECONDS", 0.05)


def start(keys: dict[str, t.Any] | None) -> t.Iterator[FakeOpenAI]:
    fake = FakeOpenAI()
    fake.keys = keys
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture(name="api")
def fixture_api() -> t.Iterator[FakeOpenAI]:
    yield from start({})


@pytest.fixture(name="peer")
def fixture_peer(api: FakeOpenAI) -> t.Iterator[FakeOpenAI]:
    """A second gateway on the same database."""
    yield from start(api.keys)


@pytest.fixture(name="run")
def fixture_run(capfd: t.Any) -> t.Callable[..., Results]:
    """The result of the module; whatever happens, no key that was made is in it, and none is left."""

    def run(api: FakeOpenAI, check_mode: bool = False, **options: t.Any) -> Results:
        args = {"url": api.url, "api_key": KEY, "models": MODELS, "timeout": 5, "checks": ["keys"], "database": {"record_timeout": 0.3}}
        args.update(options, report_only=True)
        capfd.readouterr()
        with patch_module_args({**args, "_ansible_check_mode": check_mode}), pytest.raises(SystemExit):
            openai_api_check.main()
        out = capfd.readouterr()[0]
        made = [request[3]["key"] for request in api.requests if request[1] == "/key/generate"]
        assert not [key for key in [*made, KEY] if key in out]
        result: Results = json.loads(out)
        assert result["changed"] is False
        result["made"] = made
        return result

    return run


def failed(result: Results) -> dict[str, str]:
    return {check["name"]: check["message"] for check in result["checks"] if check["status"] == "failed"}


def of_keys(result: Results) -> list[Results]:
    return [check for check in result["checks"] if check["group"] == "keys"]


def test_a_gateway_that_keeps_its_promises(run: t.Any, api: FakeOpenAI) -> None:
    result = run(api)
    assert failed(result) == {}
    assert [check["name"] for check in of_keys(result)] == NAMES
    assert [check["status"] for check in of_keys(result)] == ["passed"] * len(NAMES)
    details = {check["name"]: check["details"] for check in of_keys(result)}
    assert details["a rate limit is enforced"]["http_statuses"] == [200, 429]
    assert details["spend is recorded"]["tokens"] == 7
    assert api.keys == {}
    # Whatever happens to this process, they end.
    bodies = [request[3] for request in api.requests if request[1] == "/key/generate"]
    assert {body["duration"] for body in bodies} == {"15m", "1s"}
    assert all(body["key_alias"].startswith("selfhosted-llm-check-") for body in bodies)
    assert len(set(result["made"])) == len(bodies)


def test_it_is_left_out_without_a_database(run: t.Any, api: FakeOpenAI) -> None:
    assert of_keys(run(api, checks=["keys", "auth"], database=None)) == []


def test_a_gateway_that_has_none(run: t.Any, api: FakeOpenAI) -> None:
    api.keys = None
    result = run(api)
    assert list(failed(result)) == ["a new key is accepted"]
    assert [check["message"] for check in of_keys(result) if check["status"] == "skipped"] == [
        "a new key could not be made and used",
        "no key was made",
    ]


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("blocked", "a blocked key is refused"),
        ("expired", "an expired key is refused"),
        ("model", "a model that a key is not for is refused"),
        ("rate", "a rate limit is enforced"),
        ("budget", "a budget is enforced"),
    ],
)
def test_a_promise_that_is_not_kept(run: t.Any, api: FakeOpenAI, fault: str, check: str) -> None:
    api.faults.add(fault)
    result = run(api)
    assert list(failed(result)) == [check]
    assert "let in" in failed(result)[check]
    assert api.keys == {}


def test_a_refusal_for_another_reason_proves_nothing(run: t.Any, api: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeOpenAI, "problem_with", lambda fake, key, model: "unknown" if fake.keys[key].get("max_budget") else None)
    result = run(api)
    assert "instead of 422" in failed(result)["a budget is enforced"]


def test_spend_that_is_not_recorded(run: t.Any, api: FakeOpenAI) -> None:
    api.records_spend = False
    assert failed(run(api)) == {"spend is recorded": "after 0 s the database has 0 of 1 requests of this key"}


def test_keys_are_removed_when_a_check_fails(run: t.Any, api: FakeOpenAI) -> None:
    api.chat_status = 500
    result = run(api)
    assert "a new key is accepted" in failed(result)
    assert api.keys == {}


def test_a_key_that_may_be_there_is_removed_too(run: t.Any, api: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to making a key is lost, the key is not."""
    manage = FakeOpenAI.manage

    def lossy(fake: FakeOpenAI, method: str, path: str, payload: t.Any) -> tuple[int, t.Any]:
        answer = manage(fake, method, path, payload)
        return (500, {}) if path == "/key/generate" else answer

    monkeypatch.setattr(FakeOpenAI, "manage", lossy)
    assert "a new key is accepted" in failed(run(api))
    assert api.keys == {}


@pytest.mark.parametrize(("fault", "words"), [("/key/delete", "end in 15m by themselves"), ("keeps", "are still there")])
def test_keys_that_cannot_be_removed(run: t.Any, api: FakeOpenAI, fault: str, words: str) -> None:
    api.faults.add(fault)
    assert words in failed(run(api))["the keys of these checks are removed"]


def test_what_a_killed_run_left_is_removed(run: t.Any, api: FakeOpenAI) -> None:
    assert api.keys is not None
    for name, alias, until in (
        ("sk-stale", "selfhosted-llm-check-1-x", -600),
        ("sk-of-a-run-at-the-same-time", "selfhosted-llm-check-2-x", 600),
        ("sk-of-somebody", "team-a", -600),
        ("sk-alike", "my-selfhosted-llm-check-1", -600),
    ):
        api.keys[name] = {"key_alias": alias, "until": time.time() + until, "used": {}, "recorded": 0}
    result = run(api)
    assert failed(result) == {}
    assert of_keys(result)[0]["details"]["removed_of_earlier_runs"] == 1
    assert sorted(api.keys) == ["sk-alike", "sk-of-a-run-at-the-same-time", "sk-of-somebody"]


def test_check_mode_makes_no_keys(run: t.Any, api: FakeOpenAI) -> None:
    result = run(api, check_mode=True)
    assert [(check["status"], check["message"]) for check in of_keys(result)] == [("skipped", "check mode makes no keys")]
    assert result["made"] == []


def test_one_model_only(run: t.Any, api: FakeOpenAI) -> None:
    assert failed(run(api, models=MODELS[:1], expect_exact_models=False)) == {}


def test_an_embedding_model_only(run: t.Any, api: FakeOpenAI) -> None:
    assert failed(run(api, models=MODELS[1:])) == {}


def test_no_model_that_can_be_called(run: t.Any, api: FakeOpenAI) -> None:
    result = run(api, models=[{"name": "rank", "mode": "rerank"}])
    assert [check["status"] for check in of_keys(result)] == ["skipped"]


def test_two_gateways(run: t.Any, api: FakeOpenAI, peer: FakeOpenAI) -> None:
    result = run(api, database={"peers": {"gw2": peer.url}, "shared_limits": True})
    assert failed(result) == {}
    assert [check["name"] for check in of_keys(result)][:2] == ["a new key is accepted", "a new key is accepted by gw2"]
    assert of_keys(result)[3]["message"] == "refused with HTTP 401, also by gw2"
    assert of_keys(result)[5]["message"] == "request 2 of a minute refused with HTTP 429, limit 1, also by gw2"


def test_a_gateway_on_another_database(run: t.Any, api: FakeOpenAI, peer: FakeOpenAI) -> None:
    peer.keys = {}
    assert list(failed(run(api, database={"peers": {"gw2": peer.url}}))) == ["a new key is accepted by gw2"]


@pytest.mark.parametrize(("shared", "bad"), [(True, ["a rate limit is enforced"]), (False, [])])
def test_gateways_that_count_for_themselves(run: t.Any, api: FakeOpenAI, peer: FakeOpenAI, shared: bool, bad: list[str]) -> None:
    peer.faults.add("rate")
    result = run(api, database={"peers": {"gw2": peer.url}, "shared_limits": shared})
    assert list(failed(result)) == bad


@pytest.mark.parametrize(("counters", "bad"), [(1, ["a rate limit is enforced"]), (2, [])])
def test_workers_that_count_for_themselves(
    run: t.Any, api: FakeOpenAI, monkeypatch: pytest.MonkeyPatch, counters: int, bad: list[str]
) -> None:
    """Two workers, asked in turn, let in a request each."""
    problem_with = FakeOpenAI.problem_with

    def of_two(fake: FakeOpenAI, key: str, model: str) -> str | None:
        row = (fake.keys or {}).get(key)
        return problem_with(fake, key, model) if not row or not row.get("rpm_limit") or row["used"].get("all", 0) > 1 else None

    monkeypatch.setattr(FakeOpenAI, "problem_with", of_two)
    assert list(failed(run(api, database={"counters": counters}))) == bad


def test_refused_keys(run: t.Any, api: FakeOpenAI) -> None:
    assert api.keys is not None
    result = run(api, checks=["auth"], database=None, refused_keys=["sk-the-old-key"])
    assert [check["name"] for check in result["checks"]][-1] == "old key is refused"
    assert failed(result) == {}
    api.keys["sk-the-old-key"] = {"key_alias": "x", "until": time.time() + 60, "used": {}, "recorded": 0}
    result = run(api, checks=["auth"], database=None, refused_keys=["sk-the-old-key"])
    assert list(failed(result)) == ["old key is refused"]
    assert "sk-the-old-key" not in json.dumps(result["checks"])


def declare(api: FakeOpenAI, key: str, **more: t.Any) -> None:
    assert api.keys is not None
    api.keys[key] = {"key_alias": key, "until": time.time() + 60, "used": {}, "recorded": 0, **more}


def auth(run: t.Any, api: FakeOpenAI, **options: t.Any) -> Results:
    return t.cast(Results, run(api, checks=["auth"], database=None, **options))


def test_keys_of_a_custom_authentication(run: t.Any, api: FakeOpenAI) -> None:
    declare(api, "hc-sk-adult")
    declare(api, "hc-sk-child", models=["phi3", "default"])
    api.refusal_code = "invalid_api_key"
    keys = [{"key": "hc-sk-adult"}, {"key": "hc-sk-child", "models": ["default", "phi3"]}]
    result = auth(run, api, accepted_keys=keys, refused_keys=["hc-sk-expired"], refused_code="invalid_api_key")
    assert failed(result) == {}
    found = {check["name"]: (check["status"], check["message"]) for check in result["checks"][3:]}
    assert found == {
        "invalid test key is refused": ("passed", "refused with HTTP 401, code invalid_api_key"),
        "test key 1 is accepted and sees its models": ("passed", "3 names, as declared"),
        "test key 1 gets answers": ("passed", "phi3 answered"),
        "test key 1 gets no other model": ("skipped", "it may use every model that can be called"),
        "test key 2 is accepted and sees its models": ("passed", "2 names, as declared"),
        "test key 2 gets answers": ("passed", "default answered"),
        "test key 2 gets no other model": ("passed", "embed refused with HTTP 403"),
    }
    assert "hc-sk" not in json.dumps(result["checks"])


@pytest.mark.parametrize(
    ("row", "bad", "words"),
    [
        (None, "test key is accepted and sees its models", "answered 401: unknown exceeded"),
        ({}, "test key is accepted and sees its models", "listed but not declared: embed"),
        ({"models": ["phi3"]}, "test key is accepted and sees its models", "not listed: default"),
        ({"models": ["phi3", "default"], "rpm_limit": 1}, "test key gets answers", "answered 429"),
    ],
)
def test_a_key_that_gets_something_else(run: t.Any, api: FakeOpenAI, row: t.Any, bad: str, words: str) -> None:
    if row is not None:
        declare(api, "hc-sk-child", **row)
    found = failed(auth(run, api, accepted_keys=[{"key": "hc-sk-child", "models": ["phi3", "default"]}]))
    assert bad in found
    assert words in found[bad]


def test_a_key_that_gets_models_that_it_does_not_list(run: t.Any, api: FakeOpenAI) -> None:
    declare(api, "hc-sk-child", models=["phi3", "default"])
    api.faults.add("model")
    found = failed(auth(run, api, accepted_keys=[{"key": "hc-sk-child", "models": ["phi3", "default"]}]))
    assert found == {"test key gets no other model": "embed answered 200: it was let in"}


def test_check_mode_makes_no_backend_work_with_keys(run: t.Any, api: FakeOpenAI) -> None:
    declare(api, "hc-sk-child", models=["phi3", "default"])
    result = auth(run, api, check_mode=True, accepted_keys=[{"key": "hc-sk-child", "models": ["phi3", "default"]}])
    assert failed(result) == {}
    assert [check["status"] for check in result["checks"][3:]] == ["passed", "skipped", "passed"]
    assert api.calls == 0


def test_a_refusal_with_another_code(run: t.Any, api: FakeOpenAI) -> None:
    result = auth(run, api, refused_keys=["hc-sk-a", "hc-sk-b"], refused_code="invalid_api_key")
    assert failed(result) == {
        f"invalid test key {number} is refused": "GET /models was refused with the code 401 instead of invalid_api_key" for number in (1, 2)
    }
    api.refusal_code = "invalid_api_key"
    declare(api, "hc-sk-a", models=["elsewhere"])
    assert (
        "answered 200: anyone gets in"
        in failed(auth(run, api, refused_keys=["hc-sk-a"], refused_code="invalid_api_key"))["invalid test key is refused"]
    )


@pytest.mark.parametrize("body", ["", "[]", '{"error": "text"}', '{"detail": 1}', "<html>"])
def test_no_code(body: str) -> None:
    assert error_code(body) == ""


def test_the_hash_is_litellms() -> None:
    assert hashlib.sha256(b"sk-1234").hexdigest() == "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b"
