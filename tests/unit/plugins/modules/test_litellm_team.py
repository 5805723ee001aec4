# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.selfhosted.llm.plugins.modules import litellm_team
from ansible_collections.selfhosted.llm.tests.unit.scripted_gateway import (
    CONNECTION,
    NO_DATABASE_TEAMS,
    ScriptedGateway,
    team_row,
)
from ansible_collections.selfhosted.llm.tests.unit.scripted_http import run_module


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[ScriptedGateway]:
    scripted = ScriptedGateway(monkeypatch)
    yield scripted
    scripted.done()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> t.Callable[..., dict[str, t.Any]]:
    def call(*teams: dict[str, t.Any], check_mode: bool = False, **options: t.Any) -> dict[str, t.Any]:
        return run_module(capsys, litellm_team.main, {**CONNECTION, "teams": list(teams), **options}, check_mode)

    return call


def actions(result: dict[str, t.Any]) -> dict[str, str]:
    return {team["name"]: team["action"] for team in result["teams"]}


def test_no_teams_need_no_call(gateway: ScriptedGateway, run: t.Any) -> None:
    assert not run()["changed"]
    assert gateway.seen == []


def test_a_new_team(gateway: ScriptedGateway, run: t.Any) -> None:
    gateway.teams()
    gateway.expect(
        "POST",
        "/team/new",
        json={
            "team_id": "red",
            "team_alias": "red",
            "models": ["a", "b"],
            "max_budget": 2.5,
            "budget_duration": "30d",
            "budget_limits": [{"budget_duration": "1d", "max_budget": 0.1}],
            "rpm_limit": 0,
            "blocked": True,
            "metadata": {"x": 1},
            "members_with_roles": [{"user_id": "alice", "role": "user"}],
        },
    )
    result = run(
        {
            "team_alias": "red",
            "models": ["b", "a"],
            "max_budget": 2.5,
            "budget_duration": "monthly",
            "budget_limits": [{"budget_duration": "24h", "max_budget": 0.1}],
            "rpm_limit": 0,
            "blocked": True,
            "metadata": {"x": 1},
            "members": [{"user_id": "alice"}],
        }
    )
    assert result["changed"]
    assert result["teams"] == [{"name": "red", "action": "created", "team_id": "red"}]
    assert result["diff"]["before"] == {"red": "absent"}
    assert result["diff"]["after"]["red"]["rpm_limit"] == 0


def test_values_that_mean_the_same_are_left_alone(gateway: ScriptedGateway, run: t.Any) -> None:
    gateway.teams(
        team_row(
            "7d1c",
            "red",
            models=["b", "a"],
            max_budget=2.5000000000000004,
            budget_duration="30d",
            budget_limits=[{"reset_at": "2026-11-22T00:00:00+00:00", "max_budget": 0.1, "budget_duration": "1d"}],
            metadata={"x": 1, "guardrails": ["kept by LiteLLM"]},
            members_with_roles=[{"user_id": "default_user_id", "role": "admin"}, {"user_id": "alice", "user_email": None, "role": "user"}],
            blocked=None,
        ),
        team_row("all", models=["all-proxy-models"], budget_limits=[]),
    )
    result = run(
        {
            "team_alias": "red",
            "models": ["a", "b"],
            "max_budget": 2.5,
            "budget_duration": "1mo",
            "budget_limits": [{"budget_duration": "daily", "max_budget": 0.1}],
            "metadata": {"x": 1},
            "members": [{"user_id": "alice"}],
            "blocked": False,
        },
        {"team_alias": "all"},
    )
    assert not result["changed"]
    assert actions(result) == {"red": "none", "all": "none"}
    assert result["requests"] == 1


def test_what_is_not_written_is_taken_away_or_left(gateway: ScriptedGateway, run: t.Any) -> None:
    gateway.teams(
        team_row(
            "red",
            models=["a"],
            max_budget=1.0,
            budget_duration="1d",
            tpm_limit=0,
            budget_limits=[{"max_budget": 1, "budget_duration": "7d"}],
            blocked=True,
            metadata={"left": "alone"},
            members_with_roles=[{"user_id": "alice", "role": "user"}],
        )
    )
    gateway.expect(
        "POST",
        "/team/update",
        json={"team_id": "red", "models": [], "max_budget": None, "budget_duration": None, "budget_limits": [], "tpm_limit": None},
    )
    result = run({"team_alias": "red"})
    assert actions(result) == {"red": "updated"}
    assert result["diff"]["before"]["red"]["tpm_limit"] == 0
    assert result["diff"]["after"]["red"]["tpm_limit"] is None


def test_metadata_keeps_what_litellm_has_there(gateway: ScriptedGateway, run: t.Any) -> None:
    gateway.teams(team_row("red", metadata={"x": 1, "model_rpm_limit": {"a": 1}}))
    gateway.expect("POST", "/team/update", json={"team_id": "red", "metadata": {"model_rpm_limit": {"a": 1}}})
    assert run({"team_alias": "red", "metadata": {}})["changed"]


def test_members(gateway: ScriptedGateway, run: t.Any) -> None:
    members = [{"user_id": name, "role": role} for name, role in (("default_user_id", "admin"), ("alice", "user"), ("bob", "user"))]
    gateway.teams(team_row("red", members_with_roles=members))
    gateway.expect("POST", "/team/member_add", json={"team_id": "red", "member": [{"user_id": "carol", "role": "user"}]})
    gateway.expect("POST", "/team/member_update", json={"team_id": "red", "user_id": "bob", "role": "admin"})
    gateway.expect("POST", "/team/member_delete", json={"team_id": "red", "user_id": "alice"})
    result = run({"team_alias": "red", "members": [{"user_id": "bob", "role": "admin"}, {"user_id": "carol"}]})
    assert result["diff"]["after"]["red"] == {"members": {"bob": "admin", "carol": "user"}}


def test_deletions_come_first(gateway: ScriptedGateway, run: t.Any) -> None:
    gateway.teams(team_row("old"), team_row("kept"))
    gateway.expect("POST", "/team/delete", json={"team_ids": ["old"]})
    gateway.expect("POST", "/team/new")
    result = run({"team_alias": "new"}, {"team_alias": "old", "state": "absent"}, {"team_alias": "never", "state": "absent"})
    assert gateway.seen[1:] == ["POST /team/delete", "POST /team/new"]
    assert actions(result) == {"new": "created", "old": "deleted", "never": "none"}


def test_check_mode_changes_nothing(gateway: ScriptedGateway, run: t.Any) -> None:
    gateway.teams(team_row("old"))
    result = run({"team_alias": "new"}, {"team_alias": "old", "state": "absent"}, check_mode=True)
    assert result["changed"]
    assert actions(result) == {"new": "created", "old": "deleted"}


def test_check_mode_before_there_is_a_gateway(gateway: ScriptedGateway, run: t.Any) -> None:
    gateway.expect("GET", "/v2/team/list", error=ConnectionRefusedError("refused"))
    assert actions(run({"team_alias": "new"}, check_mode=True)) == {"new": "created"}
    gateway.expect("GET", "/v2/team/list", error=ConnectionRefusedError("refused"))
    result = run({"team_alias": "new"})
    assert result["failed"]
    assert result["errors"][0]["layer"] == "refused"


def test_renamed_by_its_id(gateway: ScriptedGateway, run: t.Any) -> None:
    gateway.teams(team_row("7d1c", "red"))
    gateway.expect("POST", "/team/update", json={"team_id": "7d1c", "team_alias": "crimson"})
    assert actions(run({"team_id": "7d1c", "team_alias": "crimson"})) == {"crimson": "updated"}


@pytest.mark.parametrize(
    ("rows", "teams", "said"),
    [
        (
            [team_row("1", "red"), team_row("2", "red")],
            [{"team_alias": "red"}],
            "2 teams of the gateway have this name: say which one by team_id (1, 2)",
        ),
        ([team_row("1", "red")], [{"team_alias": "red"}, {"team_id": "1", "team_alias": "crimson"}], "it is the same team as red"),
        ([], [{"team_alias": "red", "budget_duration": "30 days"}], "red: '30 days' is not a duration"),
    ],
)
def test_refused_before_anything_is_changed(gateway: ScriptedGateway, run: t.Any, rows: t.Any, teams: t.Any, said: str) -> None:
    gateway.teams(*rows)
    result = run(*teams)
    assert result["failed"]
    assert said in result["msg"]
    assert result["errors"][0]["layer"] == "declaration"


def test_listed_twice(gateway: ScriptedGateway, run: t.Any) -> None:
    assert "red: it is listed twice" in run({"team_alias": "red"}, {"team_alias": "red"})["msg"]


def test_no_database(gateway: ScriptedGateway, run: t.Any) -> None:
    gateway.expect("GET", "/v2/team/list", status=500, answer=NO_DATABASE_TEAMS)
    result = run({"team_alias": "red"})
    assert result["failed"]
    assert "litellm_proxy_database_url" in result["msg"]
    assert result["errors"][0]["layer"] == "database"


def test_one_failure_does_not_stop_the_others(gateway: ScriptedGateway, run: t.Any) -> None:
    gateway.teams(team_row("a"))
    gateway.expect(
        "POST",
        "/team/new",
        status=400,
        answer={"error": {"message": "{'error': 'Team id = b already exists. Please use a different team id.'}", "code": "400"}},
    )
    gateway.expect("POST", "/team/update")
    result = run({"team_alias": "b"}, {"team_alias": "a", "rpm_limit": 1})
    assert result["failed"]
    assert result["changed"]
    assert actions(result) == {"b": "failed", "a": "updated"}
    assert result["msg"] == "b: Team id = b already exists. Please use a different team id. (HTTP 400)"
    assert list(result["diff"]["after"]) == ["a"]


def test_what_is_for_enterprise_users(gateway: ScriptedGateway, run: t.Any) -> None:
    gateway.teams(team_row("a"))
    gateway.expect(
        "POST",
        "/team/member_add",
        status=400,
        answer={
            "detail": {"error": "Assigning team admins is a premium feature. You must be a LiteLLM Enterprise user to use this feature."}
        },
    )
    result = run({"team_alias": "a", "members": [{"user_id": "alice", "role": "admin"}]})
    assert "LiteLLM offers this to its enterprise users only: Assigning team admins" in result["msg"]
