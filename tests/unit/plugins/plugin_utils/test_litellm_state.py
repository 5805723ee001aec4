# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.selfhosted.llm.plugins.module_utils.postgresql import parse_url
from ansible_collections.selfhosted.llm.plugins.plugin_utils.litellm_state import counted_alone, database_url, declared_limits, problems

SALT = "Zq7wR2mT9xLb4vNc8hYd3kGf6pSj"
PASSWORD = "mT9xLb4vNc8hYd3k"
URL = "postgresql://u:p@h/d"
SETTINGS: dict[str, t.Any] = {
    "cache": "none",
    "dashboard": True,
    "database_connections": 10,
    "spend_logs_retention": "30d",
    "max_budget": None,
    "budget_duration": "",
    "provider_budgets": {},
    "redis": {"host": ""},
}
REDIS = {"redis": {"host": "r"}}
LIMITS = ["llm_models: rpm"]


def found(settings: dict[str, t.Any] | None = None, **changes: t.Any) -> list[str]:
    given: dict[str, t.Any] = {
        "workers": 1,
        "gateways": 1,
        "database_url": URL,
        "direct_database_url": "",
        "salt_key": SALT,
        "ui_password": PASSWORD,
        "limits": [],
        "needs_database": [],
        "secrets": {},
        "environment": {},
        **changes,
    }
    return problems({**SETTINGS, **(settings or {})}, **given)


def test_nothing_wrong() -> None:
    assert found() == []
    assert found(database_url="", salt_key="", ui_password="") == []
    assert found({"dashboard": False}, ui_password="") == []
    assert found({"spend_logs_retention": "", "max_budget": 5, "budget_duration": "1mo"}) == []
    assert found({**REDIS, "cache": "redis", "provider_budgets": {"openai": 1}}, workers=4, gateways=3, limits=LIMITS) == []
    # One process counts everything, whatever it is.
    assert found({"provider_budgets": {"openai": 1}}, limits=LIMITS) == []
    # What several count for themselves is told elsewhere, and wrong only with limits.
    assert found(workers=4, gateways=3) == []


@pytest.mark.parametrize(
    ("settings", "changes", "message"),
    [
        ({}, {"salt_key": ""}, "litellm_proxy_salt_key: it is empty. It encrypts"),
        ({}, {"salt_key": "short"}, "litellm_proxy_salt_key: it has 5 characters"),
        ({}, {"ui_password": ""}, "litellm_proxy_ui_password: it is empty."),
        ({}, {"ui_password": "changeme-changeme"}, "litellm_proxy_ui_password: it looks like a placeholder"),
        ({"database_connections": 0}, {}, "litellm_proxy_database_connections must be at least 1, not 0."),
        ({"spend_logs_retention": "1 month"}, {}, "litellm_proxy_spend_logs_retention must be a number with s, m, h, d or mo"),
        ({"max_budget": 5.0}, {}, "litellm_proxy_max_budget needs litellm_proxy_budget_duration"),
        ({"max_budget": 5.0, "budget_duration": "30"}, {}, "litellm_proxy_budget_duration must be a number"),
        ({"max_budget": 5.0}, {"database_url": ""}, "litellm_proxy_max_budget: this needs a database"),
        (
            {},
            {"database_url": "", "needs_database": ["litellm_keys"]},
            "litellm_keys: this needs a database, and litellm_proxy_database_url is",
        ),
        ({}, {"database_url": "", "direct_database_url": URL}, "litellm_proxy_direct_database_url is set, but"),
        ({"cache": "redis"}, {}, "litellm_proxy_cache is redis, but litellm_proxy_redis_host is empty."),
        ({}, {"gateways": 2, "limits": LIMITS}, "rate limits or budgets are declared (llm_models: rpm), and 2 processes serve"),
        (
            {},
            {"workers": 2, "gateways": 3, "limits": LIMITS},
            "rate limits or budgets are declared (llm_models: rpm), and 6 processes serve",
        ),
        ({"provider_budgets": {"openai": 1}}, {"workers": 2}, "rate limits or budgets are declared (litellm_proxy_provider_budgets)"),
        ({}, {"secrets": {"A": 5}}, "litellm_proxy_secrets: A is not a string. Put its value in quotes."),
        ({}, {"secrets": {"DATABASE_URL": URL}}, "litellm_proxy_secrets has DATABASE_URL. Set litellm_proxy_database_url instead."),
        ({}, {"environment": {"LITELLM_SALT_KEY": SALT}}, "litellm_proxy_environment has LITELLM_SALT_KEY. Set litellm_proxy_salt_key"),
        ({}, {"environment": {"LITELLM_MASTER_KEY": SALT}}, "litellm_proxy_environment has LITELLM_MASTER_KEY, which diffs would show."),
    ],
)
def test_problems(settings: dict[str, t.Any], changes: dict[str, t.Any], message: str) -> None:
    (problem,) = found(settings, **changes)
    assert problem.startswith(message)
    assert SALT not in problem


def test_limits_are_found_at_any_depth() -> None:
    declared = declared_limits(
        {
            "llm_models": [{"name": "a", "servers": [{"url": "u", "rpm": 5}], "tpm": 0}, {"params": {"max_parallel_requests": 3}}],
            "litellm_tiers": {"free": {"rpm_limit": 10, "tpd_limit": None, "tokens_per_day": 5}},
            "litellm_keys": [{"alias": "x", "tier": "free", "model_rpm_limit": {"a": 1}, "max_budget": 2}],
            "litellm_teams": [],
            "litellm_users": [{"user_id": "u", "metadata": {"tpmx": 1, "note": "rpm"}}],
        }
    )
    assert declared == [
        "llm_models: max_parallel_requests, rpm",
        "litellm_tiers: rpm_limit, tokens_per_day",
        "litellm_keys: max_budget, model_rpm_limit",
    ]


def test_what_several_processes_count_alone() -> None:
    assert counted_alone(1, 1) == ""
    assert counted_alone(1, 2).startswith("2 gateways with 1 worker each share no Redis")
    assert counted_alone(4, 1).startswith("1 gateway with 4 workers each")
    assert "up to 8 times its value" in counted_alone(4, 2)


@pytest.mark.parametrize("host", ["db.internal", "10.0.0.1", "fd00::1"])
def test_a_url_carries_any_password(host: str) -> None:
    target = parse_url(database_url(host, port=5433, user="l/m", password="p@s:s/w#r?d%", database="lite llm", sslmode="require"))
    assert (target.host, target.port, target.user, target.password, target.database, target.sslmode) == (
        host,
        5433,
        "l/m",
        "p@s:s/w#r?d%",
        "lite llm",
        "require",
    )
    assert database_url("h", port=1, user="u", password="p", database="d", sslmode="") == "postgresql://u:p@h:1/d"
