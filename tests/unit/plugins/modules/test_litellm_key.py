# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import calendar
import json
import typing as t

import pytest

from ansible_collections.selfhosted.llm.plugins.module_utils import litellm_api
from ansible_collections.selfhosted.llm.plugins.module_utils.litellm_values import key_hash
from ansible_collections.selfhosted.llm.plugins.modules import litellm_key
from ansible_collections.selfhosted.llm.tests.unit.scripted_gateway import (
    ANY,
    CONNECTION,
    MASTER,
    NO_DATABASE,
    NO_DATABASE_KEY,
    ScriptedGateway,
    key_row,
    team_row,
    user_row,
)
from ansible_collections.selfhosted.llm.tests.unit.scripted_http import run_module

ONE, TWO = "sk-one-0f9e8d7c6b5a4938", "sk-two-1a2b3c4d5e6f7081"
NOW = calendar.timegm((2026, 11, 21, 12, 0, 0))


class Gateway(ScriptedGateway):
    def generate(self, value: str, json: t.Any = ANY) -> None:
        """LiteLLM's answer repeats the value."""
        self.expect("POST", "/key/generate", json=json, answer={"key": value, "token": key_hash(value), "expires": None})


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Gateway]:
    monkeypatch.setattr(litellm_api, "now", lambda: float(NOW))
    scripted = Gateway(monkeypatch)
    yield scripted
    scripted.done()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> t.Callable[..., dict[str, t.Any]]:
    def call(*keys: dict[str, t.Any], check_mode: bool = False, **options: t.Any) -> dict[str, t.Any]:
        result = run_module(capsys, litellm_key.main, {**CONNECTION, "keys": list(keys), **options}, check_mode)
        # Whatever happens, no value is shown.
        for item in keys:
            assert not item.get("key") or item["key"] not in json.dumps(
                {name: value for name, value in result.items() if name != "invocation"}
            )
        return result

    return call


def actions(result: dict[str, t.Any]) -> dict[str, str]:
    return {key["name"]: key["action"] for key in result["virtual_keys"]}


# New keys


def test_a_new_key_with_a_declared_value(gateway: Gateway, run: t.Any) -> None:
    gateway.keys()
    gateway.teams(team_row("7d1c", "red"))
    gateway.users(user_row("alice"))
    gateway.generate(
        ONE,
        json={
            "key": ONE,
            "key_alias": "one",
            "models": ["a"],
            "allowed_routes": ["/metrics"],
            "team_id": "7d1c",
            "user_id": "alice",
            "max_budget": 1.0,
            "budget_duration": "30d",
            "budget_limits": [{"budget_duration": "1d", "max_budget": 0.01}],
            "rpm_limit": 10,
            "tpm_limit": 0,
            "max_parallel_requests": 2,
            "metadata": {"x": 1},
            "duration": "7776000s",
        },
    )
    result = run(
        {
            "key_alias": "one",
            "key": ONE,
            "models": ["a"],
            "allowed_routes": ["/metrics"],
            "team_id": "red",
            "user_id": "alice",
            "max_budget": 1,
            "budget_duration": "30d",
            "budget_limits": [{"budget_duration": "daily", "max_budget": 0.01}],
            "rpm_limit": 10,
            "tpm_limit": 0,
            "max_parallel_requests": 2,
            "metadata": {"x": 1},
            "duration": "90d",
        }
    )
    assert result["virtual_keys"] == [{"name": "one", "action": "created", "token": key_hash(ONE)}]
    after = result["diff"]["after"]["one"]
    assert after["expires"] == "2027-02-19T12:00:00Z"
    assert after["tpm_limit"] == 0


def test_a_generated_value_is_returned_once(gateway: Gateway, run: t.Any) -> None:
    made: dict[str, str] = {}

    def send(method: str, path: str, data: bytes | None) -> tuple[int, bytes]:
        if method == "GET":
            return 200, b'{"keys": [], "total_pages": 1}'
        made["value"] = json.loads(data or b"")["key"]
        return 200, json.dumps({"token": key_hash(made["value"])}).encode()

    gateway.send = send  # type: ignore[method-assign]
    result = run({"key_alias": "one"}, return_keys=True, _ansible_no_log=True)
    assert result["generated_keys"] == {"one": made["value"]}
    assert made["value"].startswith("sk-")
    assert len(made["value"]) > 40


def test_a_generated_value_needs_somewhere_to_go(gateway: Gateway, run: t.Any) -> None:
    gateway.keys()
    result = run({"key_alias": "one"})
    assert "nobody would ever know it" in result["msg"]
    assert "return_keys: the task needs `no_log: true`" in run({"key_alias": "one"}, return_keys=True)["msg"]


def test_planning_for_the_action_plugin(gateway: Gateway, run: t.Any) -> None:
    gateway.keys(key_row("two", key_hash(TWO)))
    result = run({"key_alias": "one"}, {"key_alias": "two"}, supplied=["one", "two"], check_mode=True)
    assert result["to_generate"] == ["one"]
    gateway.keys()
    # Without a value it is made up nowhere.
    assert "nobody would ever know it" in run({"key_alias": "one"}, supplied=["one"])["msg"]


def test_a_gateway_that_does_as_it_likes(gateway: Gateway, run: t.Any) -> None:
    gateway.keys()
    gateway.expect("POST", "/key/generate", answer={"token": "another"})
    assert "with another value" in run({"key_alias": "one", "key": ONE})["msg"]


# Drift


def test_values_that_mean_the_same_are_left_alone(gateway: Gateway, run: t.Any) -> None:
    gateway.keys(
        key_row(
            "one",
            key_hash(ONE),
            models=["all-proxy-models"],
            budget_duration="weekly",
            max_budget=0.30000000000000004,
            budget_limits=[{"reset_at": "2026-11-22T00:00:00+00:00", "max_budget": 0.01, "budget_duration": "24h"}],
            # 90 days after it was made, as the database rounds it.
            expires="2027-02-19T02:31:23.884000Z",
            metadata={"x": {"a": [1, 2], "b": 1.0}, "model_rpm_limit": {"a": 1}},
        ),
        key_row("two", key_hash(TWO), models=["all-team-models"], expires="2027-01-31T00:00:01Z", team_id="red", blocked=False),
    )
    gateway.teams(team_row("red"))
    result = run(
        {
            "key_alias": "one",
            "key": ONE,
            "budget_duration": "7d",
            "max_budget": 0.3,
            "budget_limits": [{"budget_duration": "1d", "max_budget": 0.01}],
            "duration": "90d",
            "metadata": {"x": {"b": 1, "a": [1, 2]}},
            "blocked": False,
        },
        {"key_alias": "two", "models": ["all-team-models"], "expires": "2027-01-31", "team_id": "red"},
    )
    assert actions(result) == {"one": "none", "two": "none"}
    assert not result["changed"]
    assert result["diff"] == {"before": {}, "after": {}}


@pytest.mark.parametrize(
    ("row", "item", "sent"),
    [
        ({"models": ["b"]}, {"models": ["a"]}, {"models": ["a"]}),
        ({"models": ["b"]}, {}, {"models": []}),
        ({}, {"allowed_routes": ["/metrics"]}, {"allowed_routes": ["/metrics"]}),
        ({"allowed_routes": ["/metrics"]}, {"allowed_routes": []}, {"allowed_routes": []}),
        ({"rpm_limit": 0}, {}, {"rpm_limit": None}),
        ({}, {"rpm_limit": 0}, {"rpm_limit": 0}),
        ({"tpm_limit": 1}, {"tpm_limit": 2}, {"tpm_limit": 2}),
        ({"max_parallel_requests": 1}, {}, {"max_parallel_requests": None}),
        ({"max_budget": 1.0, "budget_duration": "1d"}, {}, {"max_budget": None, "budget_duration": None}),
        ({"max_budget": 1.0, "budget_duration": "1d"}, {"max_budget": 1, "budget_duration": "7d"}, {"budget_duration": "7d"}),
        ({"budget_limits": [{"budget_duration": "1d", "max_budget": 2}]}, {}, {"budget_limits": []}),
        ({"blocked": True}, {"blocked": False}, {"blocked": False}),
        ({}, {"blocked": True}, {"blocked": True}),
        ({"metadata": {"x": 1}}, {"metadata": {}}, {"metadata": {}}),
        ({"metadata": {"x": 1, "tags": ["t"]}}, {"metadata": {"x": 2}}, {"metadata": {"x": 2, "tags": ["t"]}}),
        ({"team_id": "red"}, {}, {"team_id": None}),
        ({"user_id": "alice"}, {}, {"user_id": None}),
        ({"expires": "2027-01-01T00:00:00Z"}, {}, {"duration": "-1"}),
        ({}, {"expires": "2026-11-21T13:00:00+01:00"}, {"duration": "0s"}),
        ({}, {"expires": "2026-11-21 12:01"}, {"duration": "60s"}),
        # An hour from when it was made is over.
        ({}, {"duration": "1h"}, {"duration": "0s"}),
        ({"expires": "2026-12-21T02:31:23Z"}, {"duration": "3mo"}, {"duration": f"{92 * 86400 - 34116}s"}),
    ],
)
def test_drift(gateway: Gateway, run: t.Any, row: t.Any, item: t.Any, sent: t.Any) -> None:
    gateway.keys(key_row("one", key_hash(ONE), **row))
    gateway.expect("POST", "/key/update", json={"key": key_hash(ONE), **sent})
    result = run({"key_alias": "one", "key": ONE, **item})
    assert actions(result) == {"one": "updated"}
    assert result["diff"]["before"]["one"] != result["diff"]["after"]["one"]


@pytest.mark.parametrize(
    "row", [{"blocked": True}, {"metadata": {"x": 1}}, {"spend": 3.0, "tpd_limit": 5}, {"allowed_routes": ["llm_api_routes"]}]
)
def test_what_is_left_alone(gateway: Gateway, run: t.Any, row: t.Any) -> None:
    gateway.keys(key_row("one", key_hash(ONE), **row))
    assert not run({"key_alias": "one"})["changed"]


def test_an_expired_key_stays_expired(gateway: Gateway, run: t.Any) -> None:
    gateway.keys(key_row("one", key_hash(ONE), expires="2026-11-01T00:00:00Z"))
    assert not run({"key_alias": "one", "expires": "2026-01-01"})["changed"]


def test_renamed(gateway: Gateway, run: t.Any) -> None:
    gateway.keys(key_row("old name", key_hash(ONE)))
    gateway.expect("POST", "/key/update", json={"key": key_hash(ONE), "key_alias": "one"})
    assert run({"key_alias": "one", "key": ONE})["diff"]["before"] == {"one": {"key_alias": "old name"}}


def test_absent(gateway: Gateway, run: t.Any) -> None:
    gateway.keys(
        key_row("one", key_hash(ONE)), key_row("one.replaced-1", "f" * 64, expires="2030-01-01T00:00:00Z"), key_row("other", key_hash(TWO))
    )
    gateway.expect("POST", "/key/delete", json={"keys": [key_hash(ONE)]})
    gateway.expect("POST", "/key/delete", json={"keys": ["f" * 64]})
    result = run({"key_alias": "one", "state": "absent"}, {"key_alias": "never", "state": "absent"})
    assert actions(result) == {"one": "deleted", "never": "none"}


def test_absent_is_the_name_not_the_value(gateway: Gateway, run: t.Any) -> None:
    gateway.keys(key_row("one", key_hash(ONE)))
    assert actions(run({"key_alias": "old name", "key": ONE, "state": "absent"})) == {"old name": "none"}


def test_check_mode_changes_nothing(gateway: Gateway, run: t.Any) -> None:
    gateway.keys(key_row("one", key_hash(ONE)), key_row("two", key_hash(ONE + "x")), key_row("gone", "a" * 64))
    gateway.teams()
    result = run(
        {"key_alias": "one", "rpm_limit": 1},
        {"key_alias": "two", "key": TWO},
        {"key_alias": "gone", "state": "absent"},
        {"key_alias": "new", "key": "sk-new-99887766554433221100", "team_id": "not there yet", "user_id": "neither"},
        check_mode=True,
    )
    assert actions(result) == {"one": "updated", "two": "rotated", "gone": "deleted", "new": "created"}


def test_several_pages(gateway: Gateway, run: t.Any) -> None:
    rows = [key_row(f"k{number:03}", f"{number:064}") for number in range(250)]
    for page in (1, 2, 3):
        gateway.expect(
            "GET",
            f"/key/list?return_full_object=true&sort_by=token&sort_order=asc&page={page}&size=100",
            answer={"keys": rows[100 * (page - 1) : 100 * page], "total_count": 250, "current_page": page, "total_pages": 3},
        )
    result = run(*({"key_alias": row["key_alias"]} for row in rows))
    assert not result["changed"]
    assert result["requests"] == 3
    assert [key["name"] for key in result["virtual_keys"]] == [row["key_alias"] for row in rows]


# Rotation


def rotated(gateway: Gateway, **aside: t.Any) -> None:
    gateway.expect("POST", "/key/update", json={"key": key_hash(ONE), "key_alias": f"one.replaced-{NOW}", **aside})


def test_a_changed_value_rotates_the_key(gateway: Gateway, run: t.Any) -> None:
    row = key_row("one", key_hash(ONE), spend=1.5, rpm_limit=5, blocked=True, metadata={"x": 1, "tags": ["t"]})
    gateway.keys({**row, "allowed_routes": ["llm_api_routes"]})
    rotated(gateway)
    gateway.generate(
        TWO,
        json={
            "key": TWO,
            "key_alias": "one",
            "models": [],
            "allowed_routes": ["llm_api_routes"],
            "rpm_limit": 6,
            "blocked": True,
            "metadata": {"x": 1, "tags": ["t"]},
            "spend": 1.5,
        },
    )
    gateway.expect("POST", "/key/delete", json={"keys": [key_hash(ONE)]})
    result = run({"key_alias": "one", "key": TWO, "rpm_limit": 6})
    assert gateway.seen[1:] == ["POST /key/update", "POST /key/generate", "POST /key/delete"]
    assert result["virtual_keys"] == [{"name": "one", "action": "rotated", "token": key_hash(TWO)}]
    assert result["diff"]["before"]["one"] == {"value": "the old one", "rpm_limit": 5}
    assert result["diff"]["after"]["one"] == {"value": "a new one", "rpm_limit": 6}


def test_the_old_value_stays_for_a_while(gateway: Gateway, run: t.Any) -> None:
    gateway.keys(key_row("one", key_hash(ONE)))
    rotated(gateway, duration="300s")
    gateway.generate(TWO)
    run({"key_alias": "one", "key": TWO}, overlap=300)
    assert gateway.seen[-1] == "POST /key/generate"


def test_an_overlap_does_not_prolong_a_key(gateway: Gateway, run: t.Any) -> None:
    gateway.keys(key_row("one", key_hash(ONE), expires="2026-11-21T12:01:00Z"))
    rotated(gateway)
    gateway.generate(TWO)
    run({"key_alias": "one", "key": TWO}, overlap=300)


def test_a_rotation_that_fails_is_undone(gateway: Gateway, run: t.Any) -> None:
    gateway.keys(key_row("one", key_hash(ONE), expires="2026-11-22T12:00:00Z"))
    rotated(gateway, duration="300s")
    gateway.expect("POST", "/key/generate", status=500, answer={"error": {"message": "{'error': 'Internal Server Error.'}"}})
    gateway.expect("POST", "/key/update", json={"key": key_hash(ONE), "key_alias": "one", "duration": "86400s"})
    result = run({"key_alias": "one", "key": TWO}, overlap=300)
    assert result["failed"]
    assert result["msg"] == "one: Internal Server Error. (HTTP 500)"
    assert actions(result) == {"one": "failed"}


@pytest.mark.parametrize(
    ("expires", "options", "deleted"),
    [
        (None, {}, True),  # what a rotation left that broke off
        ("2026-11-21T11:59:59Z", {}, True),
        ("2026-11-21T12:00:09Z", {}, False),
        ("2026-11-21T12:00:09Z", {"retire": ["one"]}, True),
    ],
)
def test_replaced_values_are_deleted_when_their_time_is_over(
    gateway: Gateway, run: t.Any, expires: t.Any, options: t.Any, deleted: bool
) -> None:
    gateway.keys(key_row("one", key_hash(ONE)), key_row("one.replaced-1", "f" * 64, expires=expires))
    if deleted:
        gateway.expect("POST", "/key/delete", json={"keys": ["f" * 64]})
    result = run({"key_alias": "one"}, **options)
    assert result["changed"] == deleted
    assert actions(result) == {"one": "none"}


def test_back_to_a_replaced_value(gateway: Gateway, run: t.Any) -> None:
    gateway.keys(key_row("one", key_hash(ONE)), key_row("one.replaced-1", key_hash(TWO), expires="2026-11-21T12:10:00Z"))
    rotated(gateway)
    gateway.expect("POST", "/key/update", json={"key": key_hash(TWO), "key_alias": "one", "duration": "-1"})
    gateway.expect("POST", "/key/delete", json={"keys": [key_hash(ONE)]})
    assert actions(run({"key_alias": "one", "key": TWO})) == {"one": "rotated"}


# Mistakes and answers that are errors


@pytest.mark.parametrize(
    ("keys", "options", "said"),
    [
        ([{"key_alias": "a", "key": ONE}, {"key_alias": "a", "key": TWO}], {}, "a: it is listed twice"),
        ([{"key_alias": "a", "key": ONE}, {"key_alias": "b", "key": ONE}], {}, "b: its value is that of the key a"),
        ([{"key_alias": "a", "key": "sk-short"}], {}, "at least 16 characters"),
        ([{"key_alias": "a", "key": "0123456789abcdef0123"}], {}, "must begin with sk-"),
        ([{"key_alias": "a", "key": MASTER}], {}, "its value is the master key"),
        ([{"key_alias": "a.replaced-1", "key": ONE}], {}, "Choose another key_alias"),
        ([{"key_alias": "a", "key": ONE}], {"rotate": ["b"]}, "b: it is in rotate, but not in keys"),
        ([{"key_alias": "a", "key": ONE}], {"overlap": -1}, "overlap: it cannot be negative"),
    ],
)
def test_refused_without_a_call(gateway: Gateway, run: t.Any, keys: t.Any, options: t.Any, said: str) -> None:
    result = run(*keys, **options)
    assert result["failed"]
    assert said in result["msg"]
    assert gateway.seen == []


@pytest.mark.parametrize(
    ("item", "options", "said"),
    [
        ({"key": ONE, "duration": "3 months"}, {}, "one: '3 months' is not a duration"),
        ({"key": ONE, "budget_duration": "30dx"}, {}, "one: '30dx' is not a duration"),
        ({"key": ONE, "expires": "tomorrow"}, {}, "one: 'tomorrow' is not a date"),
        ({"key": TWO}, {}, "one: its value is that of the key two"),
        ({"key": ONE}, {"rotate": ["one"]}, "it is rotated by declaring another one"),
    ],
)
def test_refused_before_anything_is_changed(gateway: Gateway, run: t.Any, item: t.Any, options: t.Any, said: str) -> None:
    gateway.keys(key_row("one", key_hash(ONE)), key_row("two", key_hash(TWO)))
    result = run({"key_alias": "first", "key": "sk-first-0011223344556677"}, {"key_alias": "one", **item}, **options)
    assert said in result["msg"]
    assert result["errors"][0]["layer"] == "declaration"


def test_unknown_team_and_user(gateway: Gateway, run: t.Any) -> None:
    gateway.keys()
    gateway.teams(team_row("1", "red"), team_row("2", "twin"), team_row("3", "twin"))
    assert run({"key_alias": "one", "key": ONE, "team_id": "blue"})["msg"] == (
        "one: the gateway has no team blue. Declare it in litellm_teams, or correct team_id"
    )
    gateway.keys()
    gateway.teams(team_row("1", "red"), team_row("2", "twin"), team_row("3", "twin"))
    assert (
        "2 teams of the gateway are called twin: say which one by its ID (2, 3)"
        in run({"key_alias": "one", "key": ONE, "team_id": "twin"})["msg"]
    )
    gateway.keys()
    gateway.users(user_row("bob"))
    assert "the gateway has no user alice. Declare it in litellm_users" in run({"key_alias": "one", "key": ONE, "user_id": "alice"})["msg"]


@pytest.mark.parametrize(("status", "answer"), [(500, NO_DATABASE), (400, NO_DATABASE_KEY)])
def test_no_database(gateway: Gateway, run: t.Any, status: int, answer: t.Any) -> None:
    gateway.expect("GET", "/key/list", status=status, answer=answer)
    result = run({"key_alias": "one", "key": ONE})
    assert "Set litellm_proxy_database_url" in result["msg"]
    assert ("or the master key is wrong" in result["msg"]) == (status == 400)
    assert result["errors"][0] == {"name": None, "layer": "database", "message": result["msg"], "status": status}


def test_the_master_key_is_refused(gateway: Gateway, run: t.Any) -> None:
    answer = {"error": {"message": "Authentication Error, Invalid proxy server token passed. Received API Key = sk-...8046", "code": "401"}}
    gateway.expect("GET", "/key/list", status=401, answer=answer)
    assert run({"key_alias": "one", "key": ONE})["msg"].startswith("The gateway refuses the master key (401)")


def test_a_name_that_was_taken_meanwhile(gateway: Gateway, run: t.Any) -> None:
    gateway.keys(key_row("two", key_hash(TWO)))
    message = "Key with alias 'one' already exists. Unique key aliases across all keys are required."
    gateway.expect("POST", "/key/generate", status=400, answer={"error": {"message": message, "type": "bad_request_error", "code": "400"}})
    gateway.expect("POST", "/key/update")
    result = run({"key_alias": "one", "key": ONE}, {"key_alias": "two", "rpm_limit": 3})
    assert actions(result) == {"one": "failed", "two": "updated"}
    assert result["msg"] == f"one: {message} (HTTP 400)"


def test_check_mode_before_there_is_a_gateway(gateway: Gateway, run: t.Any) -> None:
    gateway.expect("GET", "/key/list", error=ConnectionRefusedError("refused"))
    assert actions(run({"key_alias": "one", "key": ONE, "team_id": "red"}, check_mode=True)) == {"one": "created"}


def test_values_in_error_answers_are_hidden(gateway: Gateway, run: t.Any) -> None:
    gateway.keys()
    gateway.expect("POST", "/key/generate", status=400, answer={"error": {"message": f"Invalid: {ONE} and sk-another-0123456789"}})
    assert "sk-another" not in run({"key_alias": "one", "key": ONE})["msg"]
