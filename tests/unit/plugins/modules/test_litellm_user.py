# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.selfhosted.llm.plugins.modules import litellm_user
from ansible_collections.selfhosted.llm.tests.unit.scripted_gateway import (
    CONNECTION,
    NO_DATABASE_TEAMS,
    ScriptedGateway,
    user_row,
)
from ansible_collections.selfhosted.llm.tests.unit.scripted_http import run_module


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[ScriptedGateway]:
    scripted = ScriptedGateway(monkeypatch)
    yield scripted
    scripted.done()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> t.Callable[..., dict[str, t.Any]]:
    def call(*users: dict[str, t.Any], check_mode: bool = False) -> dict[str, t.Any]:
        return run_module(capsys, litellm_user.main, {**CONNECTION, "users": list(users)}, check_mode)

    return call


def actions(result: dict[str, t.Any]) -> dict[str, str]:
    return {user["name"]: user["action"] for user in result["users"]}


def test_a_new_user_gets_no_key(gateway: ScriptedGateway, run: t.Any) -> None:
    gateway.users()
    gateway.expect(
        "POST",
        "/user/new",
        json={
            "user_id": "alice",
            "auto_create_key": False,
            "user_email": "alice@example.org",
            "user_role": "internal_user",
            "models": [],
            "max_budget": 5.0,
            "budget_duration": "7d",
            "metadata": {"a": 1},
        },
    )
    result = run(
        {
            "user_id": "alice",
            "user_email": "Alice@Example.org",
            "user_role": "internal_user",
            "max_budget": 5,
            "budget_duration": "1w",
            "metadata": {"a": 1},
        }
    )
    assert actions(result) == {"alice": "created"}


def test_values_that_mean_the_same_are_left_alone(gateway: ScriptedGateway, run: t.Any) -> None:
    gateway.users(
        user_row(
            "alice",
            user_email="ALICE@example.org",
            user_alias="",
            user_role="proxy_admin",
            models=["all-proxy-models"],
            metadata={"old": None},
            budget_duration="24h",
            max_budget=1,
        )
    )
    assert not run({"user_id": "alice", "user_email": "alice@example.org", "metadata": {}, "budget_duration": "1d", "max_budget": 1.0})[
        "changed"
    ]


def test_limits_are_taken_away(gateway: ScriptedGateway, run: t.Any) -> None:
    gateway.users(user_row("alice", max_budget=1.0, budget_duration="1d", tpm_limit=5, rpm_limit=0, user_role="proxy_admin"))
    gateway.expect(
        "POST",
        "/user/update",
        json={"user_id": "alice", "max_budget": None, "budget_duration": None, "tpm_limit": None, "rpm_limit": None},
    )
    result = run({"user_id": "alice"})
    assert result["diff"]["before"]["alice"]["rpm_limit"] == 0


def test_what_an_update_of_a_user_ignores_is_said_otherwise(gateway: ScriptedGateway, run: t.Any) -> None:
    gateway.users(user_row("alice", models=["a"], metadata={"x": 1}, user_alias="Al"))
    gateway.expect(
        "POST",
        "/user/update",
        json={"user_id": "alice", "models": ["all-proxy-models"], "metadata": {"x": None}, "user_alias": ""},
    )
    assert run({"user_id": "alice", "metadata": {}, "user_alias": ""})["changed"]


def test_absent(gateway: ScriptedGateway, run: t.Any) -> None:
    gateway.users(user_row("alice"))
    gateway.expect("POST", "/user/delete", json={"user_ids": ["alice"]})
    result = run({"user_id": "alice", "state": "absent"}, {"user_id": "bob", "state": "absent"})
    assert actions(result) == {"alice": "deleted", "bob": "none"}


def test_an_address_that_another_user_has(gateway: ScriptedGateway, run: t.Any) -> None:
    gateway.users(user_row("bob", user_email="a@example.org"))
    result = run({"user_id": "alice", "user_email": "A@example.org"})
    assert result["msg"] == "alice: the gateway has a@example.org as the address of bob: correct user_email, or remove that user"


def test_an_address_that_becomes_free(gateway: ScriptedGateway, run: t.Any) -> None:
    gateway.users(user_row("bob", user_email="a@example.org"))
    gateway.expect("POST", "/user/delete")
    gateway.expect("POST", "/user/new")
    run({"user_id": "alice", "user_email": "a@example.org"}, {"user_id": "bob", "state": "absent"})
    assert gateway.seen[1:] == ["POST /user/delete", "POST /user/new"]


def test_check_mode_changes_nothing(gateway: ScriptedGateway, run: t.Any) -> None:
    gateway.users(user_row("bob"))
    assert actions(run({"user_id": "alice"}, {"user_id": "bob", "tpm_limit": 1}, check_mode=True)) == {"alice": "created", "bob": "updated"}


def test_duplicate(gateway: ScriptedGateway, run: t.Any) -> None:
    gateway.users()
    gateway.expect(
        "POST", "/user/new", status=409, answer={"error": {"message": "{'error': 'User with id alice already exists'}", "code": "409"}}
    )
    assert run({"user_id": "alice"})["msg"] == "alice: User with id alice already exists (HTTP 409)"


def test_no_database(gateway: ScriptedGateway, run: t.Any) -> None:
    gateway.expect("GET", "/user/list", status=500, answer=NO_DATABASE_TEAMS)
    assert "litellm_proxy_database_url" in run({"user_id": "alice"})["msg"]
