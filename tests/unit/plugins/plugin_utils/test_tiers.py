# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.selfhosted.llm.plugins.modules import litellm_key, litellm_team, litellm_user
from ansible_collections.selfhosted.llm.plugins.plugin_utils import tiers as lists
from ansible_collections.selfhosted.llm.plugins.plugin_utils.tiers import TiersError, problems, resolve, token_priced, with_webui_key

PRICE = 0.000001
TIERS = {
    "free": {"rpm_limit": 10, "tpm_limit": 1000, "tokens_per_day": 10000},
    "premium": {"rpm_limit": 60, "tpm_limit": 7000, "tokens_per_day": 100000},
    "admin": {"rpm_limit": 1000, "tpm_limit": 70000, "tokens_per_day": 10000000},
}
VALUE = "sk-7c1f0e9d8b6a5432f1e0d9c8b7a6"


def test_a_tier_becomes_limits_and_a_budget_of_a_day() -> None:
    keys = [{"key_alias": "a", "tier": "free"}, {"key_alias": "b", "tier": "premium"}, {"key_alias": "c", "tier": "admin"}]
    assert resolve("litellm_keys", keys, TIERS, PRICE) == [
        {"key_alias": "a", "rpm_limit": 10, "tpm_limit": 1000, "budget_limits": [{"budget_duration": "1d", "max_budget": 0.01}]},
        {"key_alias": "b", "rpm_limit": 60, "tpm_limit": 7000, "budget_limits": [{"budget_duration": "1d", "max_budget": 0.1}]},
        {"key_alias": "c", "rpm_limit": 1000, "tpm_limit": 70000, "budget_limits": [{"budget_duration": "1d", "max_budget": 10.0}]},
    ]


def test_an_entry_has_the_last_word() -> None:
    key = {"key_alias": "a", "tier": "free", "rpm_limit": 20, "tpm_limit": None, "tokens_per_day": 500, "max_budget": 3, "models": []}
    assert resolve("litellm_keys", [key], TIERS, PRICE) == [
        {
            "key_alias": "a",
            "rpm_limit": 20,
            "max_budget": 3,
            "models": [],
            "budget_limits": [{"budget_duration": "1d", "max_budget": 0.0005}],
        }
    ]
    assert key["tier"] == "free", "the declaration is left as it is"


def test_an_entry_without_models_gets_those_that_are_not_limited() -> None:
    def models_of(variable: str, entry: dict[str, t.Any]) -> t.Any:
        (item,) = resolve(variable, [entry], {"adult": {"models": ["adult"]}}, PRICE, ["a", "x"])
        return item.get("models")

    assert models_of("litellm_keys", {"key_alias": "k"}) == ["a", "x"]
    assert models_of("litellm_keys", {"key_alias": "k", "models": []}) == ["a", "x"]
    assert models_of("litellm_keys", {"key_alias": "k", "tier": "adult"}) == ["adult"]
    assert models_of("litellm_keys", {"key_alias": "k", "models": ["all-proxy-models"]}) == ["all-proxy-models"]
    assert models_of("litellm_keys", {"key_alias": "k", "team_id": "t"}) is None, "its team decides"
    assert models_of("litellm_keys", {"key_alias": "k", "state": "absent"}) is None
    assert models_of("litellm_teams", {"team_alias": "t", "team_id": "t"}) == ["a", "x"]
    assert models_of("litellm_users", {"user_id": "u"}) == ["a", "x"]


def test_tokens_per_day_beside_other_budgets() -> None:
    key = {"key_alias": "a", "tokens_per_day": 10, "budget_limits": [{"budget_duration": "7d", "max_budget": 1}]}
    (item,) = resolve("litellm_keys", [key], None, PRICE)
    assert item["budget_limits"] == [{"budget_duration": "7d", "max_budget": 1}, {"budget_duration": "1d", "max_budget": 0.00001}]


def test_users_have_one_budget() -> None:
    assert resolve("litellm_users", [{"user_id": "u", "tier": "free"}], TIERS, PRICE) == [
        {"user_id": "u", "rpm_limit": 10, "tpm_limit": 1000, "max_budget": 0.01, "budget_duration": "1d"}
    ]
    with pytest.raises(TiersError, match=r"litellm_users \(u\): LiteLLM has one budget per user"):
        resolve("litellm_users", [{"user_id": "u", "tier": "free", "max_budget": 1}], TIERS, PRICE)


def test_what_is_to_go_needs_no_price() -> None:
    assert resolve("litellm_keys", [{"key_alias": "a", "state": "absent", "tokens_per_day": 1}]) == [{"key_alias": "a", "state": "absent"}]
    assert resolve("litellm_keys", [{"key_alias": "a", "state": "absent", "tier": "gone, too"}]) == [{"key_alias": "a", "state": "absent"}]
    with pytest.raises(TiersError, match=r"litellm_keys \(a\): tokens_per_day needs llm_token_price"):
        resolve("litellm_keys", [{"key_alias": "a", "tokens_per_day": 1}])
    with pytest.raises(TiersError, match=r"litellm_teams \(t\): tier 'gold' is not in litellm_tiers"):
        resolve("litellm_teams", [{"team_alias": "t", "tier": "gold"}], TIERS)


def test_none_at_all() -> None:
    assert resolve("litellm_keys", None) == []
    assert problems(None) == []


@pytest.mark.parametrize(
    ("variable", "spec", "option"),
    [("litellm_keys", litellm_key, "keys"), ("litellm_teams", litellm_team, "teams"), ("litellm_users", litellm_user, "users")],
)
def test_the_lists_take_what_the_modules_take(variable: str, spec: t.Any, option: str) -> None:
    known = set(spec.argument_spec()[option]["options"])
    assert lists.KINDS[variable]["attributes"] == known | {"tier", "tokens_per_day"}


# Open WebUI


def test_the_key_of_open_webui() -> None:
    other = {"key_alias": "a"}
    assert with_webui_key([other], "") == [other]
    assert problems(with_webui_key("alice", VALUE)) == ["litellm_keys must be a list of mappings."]
    assert with_webui_key(None, VALUE, ["m"]) == [{"key_alias": "open-webui", "key": VALUE, "models": ["m"]}]
    listed = {"key_alias": "open-webui", "rpm_limit": 100, "models": ["x"]}
    assert with_webui_key([other, listed], VALUE, ["m"]) == [other, {**listed, "key": VALUE}]
    assert "key" not in listed


# Prices


@pytest.mark.parametrize(
    ("params", "info", "priced"),
    [
        ({"model": "ollama_chat/phi3", "api_base": "http://a"}, {}, True),
        ({"model": "ollama/phi3"}, {}, True),
        ({"model": "openai/x", "api_base": "http://a/v1"}, {}, True),
        ({"model": "openai/gpt-4o"}, {}, False),
        ({"model": "huggingface/Qwen/Qwen2.5"}, {}, False),
        ({"model": "openai/x", "api_base": "http://a/v1", "input_cost_per_token": 0.5}, {}, False),
        ({"model": "openai/x", "api_base": "http://a/v1"}, {"output_cost_per_second": 0.5}, False),
    ],
)
def test_own_models_get_a_price(params: t.Any, info: t.Any, priced: bool) -> None:
    entry = {"model_name": "m", "litellm_params": params, "model_info": {"id": "m@a", **info}}
    (found,) = token_priced([entry], PRICE)
    prices = {"input_cost_per_token": PRICE, "output_cost_per_token": PRICE} if priced else {}
    assert found == {**entry, "litellm_params": {**params, **prices}}
    assert token_priced([entry]) == [entry]


# What cannot work


def said(**given: t.Any) -> list[str]:
    given = {"keys": [], "tiers": TIERS, "models": ["chat", "default"], "token_price": PRICE, **given}
    return problems(given.pop("keys"), **given)


def test_all_is_well() -> None:
    assert not said(
        keys=[
            {
                "key_alias": "a",
                "tier": "free",
                "team_id": "red",
                "user_id": "alice",
                "models": ["chat", "all-team-models"],
                "duration": "90d",
            },
            {"key_alias": "b", "key": VALUE, "expires": "2027-01-31", "budget_limits": [{"budget_duration": "7d", "max_budget": 1}]},
            {"key_alias": "c", "state": "absent", "team_id": "was never there"},
            {"key_alias": "d", "team_id": "7d1c", "user_id": "bob"},
        ],
        teams=[{"team_alias": "red", "members": [{"user_id": "bob"}]}, {"team_id": "7d1c"}],
        users=[{"user_id": "alice", "tier": "premium"}],
    )


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        (
            {"keys": [{"key_alias": "a", "tier": "gold"}]},
            ["litellm_keys (a): 'gold' is not in litellm_tiers. Correct tier, or declare it (declared: admin, free, premium)."],
        ),
        (
            {"keys": [{"key_alias": "a", "team_id": "blue"}], "teams": [{"team_alias": "red"}]},
            ["litellm_keys (a): 'blue' is not in litellm_teams. Correct team_id, or declare it (declared: red)."],
        ),
        (
            {"keys": [{"key_alias": "a", "team_id": "red"}], "teams": [{"team_alias": "red", "state": "absent"}]},
            ["litellm_keys (a): 'red' is not in litellm_teams. Correct team_id, or declare it (declared: nothing)."],
        ),
        (
            {"keys": [{"key_alias": "a", "user_id": "bob"}], "users": [{"user_id": "alice"}]},
            ["litellm_keys (a): 'bob' is not in litellm_users. Correct user_id, or declare it (declared: alice)."],
        ),
        (
            {"keys": [{"key_alias": "a", "models": ["chatt", "openai/*"]}]},
            ["litellm_keys (a): 'chatt' is no model of llm_models. Correct models, or declare it (declared: chat, default)."],
        ),
        ({"tiers": {"free": {"models": ["nope"]}}}, ["litellm_tiers (free): 'nope' is no model of llm_models"]),
        ({"keys": [{"key_alias": "a", "rmp_limit": 1}]}, ["litellm_keys (a): rmp_limit is not known. Correct it, or leave it out."]),
        ({"tiers": {"free": {"tpd_limit": 1}}}, ["LiteLLM charges only batches against it: use tokens_per_day."]),
        ({"keys": [{"rpm_limit": 1}]}, ["litellm_keys: entry 1 has no key_alias. Give it one, a string."]),
        ({"teams": [{"models": []}]}, ["litellm_teams: entry 1 has no team_alias."]),
        ({"users": [{"user_id": "a"}, {"user_id": "a"}]}, ["litellm_users (a): it is listed twice. Take one out."]),
        ({"keys": [{"key_alias": "a", "state": "gone"}]}, ["state must be present or absent, not 'gone'."]),
        ({"keys": [{"key_alias": "a", "rpm_limit": -1}]}, ["rpm_limit must be a whole number from 0 up, not -1."]),
        ({"keys": [{"key_alias": "a", "tpm_limit": "many"}]}, ["tpm_limit must be a whole number from 0 up, not 'many'."]),
        ({"keys": [{"key_alias": "a", "tpm_limit": True}]}, ["tpm_limit must be a whole number from 0 up, not True."]),
        ({"keys": [{"key_alias": "a", "max_budget": "nan"}]}, ["max_budget must be a number from 0 up, not 'nan'."]),
        ({"keys": [{"key_alias": "a", "budget_duration": "30 days"}]}, ["budget_duration: '30 days' is not a duration"]),
        ({"keys": [{"key_alias": "a", "expires": "soon"}]}, ["expires: 'soon' is not a date"]),
        ({"keys": [{"key_alias": "a", "expires": "2027-01-31", "duration": "1d"}]}, ["it has both expires and duration."]),
        ({"keys": [{"key_alias": "a", "budget_limits": "1d"}]}, ["budget_limits must be a list of mappings"]),
        ({"keys": [{"key_alias": "a", "budget_limits": [{"max_budget": 1}]}]}, ["an entry of budget_limits needs max_budget"]),
        (
            {"keys": [{"key_alias": "a", "tokens_per_day": 1, "budget_limits": [{"budget_duration": "daily", "max_budget": 1}]}]},
            ["tokens_per_day is a budget of a day, and budget_limits has one, too."],
        ),
        ({"keys": [{"key_alias": "a", "tier": "free"}], "token_price": 0}, ["litellm_keys (a): tokens_per_day needs llm_token_price"]),
        ({"keys": [{"key_alias": "a", "tokens_per_day": 1}], "token_price": "cheap"}, ["tokens_per_day needs llm_token_price"]),
        (
            {"users": [{"user_id": "u", "tier": "free", "max_budget": 1}]},
            ["litellm_users (u): LiteLLM has one budget per user. Give max_budget"],
        ),
        ({"users": [{"user_id": "u", "budget_limits": []}]}, ["litellm_users (u): budget_limits is not known."]),
        (
            {"teams": [{"team_alias": "t", "tier": "one"}], "tiers": {"one": {"max_parallel_requests": 1}}},
            ["litellm_teams (t): LiteLLM limits max_parallel_requests of keys only. Give tier one, which has it, to its keys."],
        ),
        ({"teams": [{"team_alias": "t", "members": ["alice"]}]}, ["members must be a list of mappings such as {user_id: alice}."]),
        ({"tiers": ["free"]}, ["litellm_tiers must be a mapping of names to limits."]),
        ({"tiers": {"free": 10}}, ["litellm_tiers (free) must be a mapping of limits"]),
        ({"keys": {"a": {}}}, ["litellm_keys must be a list of mappings."]),
        ({"teams": ["red"]}, ["litellm_teams must be a list of mappings."]),
        ({"keys": [{"key_alias": "a", "models": "chat"}]}, ["models must be a list of names."]),
        ({"keys": [{"key_alias": "a"}], "database": False}, ["litellm_keys: they are stored in a database, and the gateway has none."]),
    ],
)
def test_problems(given: t.Any, texts: list[str]) -> None:
    found = said(**given)
    assert len(found) == len(texts), found
    for text, expected in zip(found, texts, strict=True):
        assert expected in text


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ([{"key_alias": "a", "key": "sk-1234567890123456789012"}], "litellm_keys (a): its key is no secret: it looks like a placeholder"),
        ([{"key_alias": "a", "key": "sk-short"}], "its key is no secret: it has 8 characters"),
        ([{"key_alias": "a", "key": VALUE[3:]}], "its key must begin with sk-"),
        ([{"key_alias": "a", "key": VALUE, "key_file": "x"}], "it has both key and key_file"),
        ([{"key_alias": "a", "key": VALUE}, {"key_alias": "b", "key": VALUE}], "litellm_keys (b): its key is that of a."),
    ],
)
def test_problems_of_values(keys: t.Any, text: str) -> None:
    found = said(keys=keys)
    assert len(found) == 1
    assert text in found[0]
    assert VALUE[3:] not in found[0]
    assert said(keys=[{"key_alias": "a", "key": VALUE}], master_key=VALUE) == [
        "litellm_keys (a): its key is the master key. Give it one of its own."
    ]
