# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import typing as t

import pytest

from ansible_collections.selfhosted.llm.plugins.plugin_utils.litellm_config import (
    REFUSED_VERSIONS,
    ConfigError,
    build_config,
    merge,
    problems,
)

MODEL_LIST = [{"model_name": "a", "litellm_params": {"model": "openai/a"}}]
KEY = "sk-Zq7wR2mT9xLb4vNc8hYd3kGf6pSj"
SETTINGS: dict[str, t.Any] = {"timeout": 600, "stream_timeout": 60, "cache": "none", "cache_ttl": 600}


def test_the_least() -> None:
    assert build_config(MODEL_LIST, {}) == {
        "model_list": MODEL_LIST,
        "litellm_settings": {"telemetry": False, "turn_off_message_logging": True},
        "router_settings": {},
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
    }


def test_every_setting_has_its_place() -> None:
    config = build_config(
        MODEL_LIST,
        {
            "routing_strategy": "least-busy",
            "num_retries": 2,
            "timeout": 600,
            "stream_timeout": 60,
            "allowed_fails": 3,
            "cooldown_time": 5,
            "model_aliases": {"x": "a"},
            "model_fallbacks": [{"a": ["b"]}],
            "pre_call_checks": True,
            "json_logs": True,
            "drop_params": True,
            "provider_budgets": {"openai": {"budget_limit": 1}},
            "log_prompts": True,
        },
    )
    assert config["router_settings"] == {
        "routing_strategy": "least-busy",
        "num_retries": 2,
        "timeout": 600,
        "stream_timeout": 60,
        "allowed_fails": 3,
        "cooldown_time": 5,
        "model_group_alias": {"x": "a"},
        "fallbacks": [{"a": ["b"]}],
        "enable_pre_call_checks": True,
        "provider_budget_config": {"openai": {"budget_limit": 1}},
    }
    assert config["litellm_settings"] == {"telemetry": False, "json_logs": True, "drop_params": True}


@pytest.mark.parametrize("value", [None, "", [], {}])
def test_what_is_unset_is_left_to_litellm(value: t.Any) -> None:
    assert build_config(MODEL_LIST, {"num_retries": value})["router_settings"] == {}


@pytest.mark.parametrize("value", [0, False])
def test_zero_and_false_are_settings(value: t.Any) -> None:
    assert build_config(MODEL_LIST, {"num_retries": value})["router_settings"] == {"num_retries": value}


def test_cache() -> None:
    assert "cache" not in build_config(MODEL_LIST, {"cache": "none", "cache_ttl": 60})["litellm_settings"]
    settings = build_config(MODEL_LIST, {"cache": "local", "cache_ttl": 60})["litellm_settings"]
    assert (settings["cache"], settings["cache_params"]) == (True, {"type": "local", "ttl": 60})


REDIS = {"host": "store", "port": 6380, "password": True, "tls": True, "ca_bundle": "/ca.pem"}


def test_redis_is_shared_by_all_that_counts_and_has_no_password_in_the_file() -> None:
    config = build_config(MODEL_LIST, {"redis": REDIS, "cache": "redis", "cache_ttl": 60})
    reached = {"host": "store", "port": 6380, "password": "os.environ/LLM_REDIS_PASSWORD", "ssl": True, "ssl_ca_certs": "/ca.pem"}
    assert config["general_settings"]["coordination_redis"] == reached
    assert config["litellm_settings"]["cache_params"] == {"type": "redis", "ttl": 60, **reached}


def test_redis_without_password_and_tls() -> None:
    config = build_config(
        MODEL_LIST, {"redis": {"host": "store", "port": 6379, "password": False, "tls": False}, "cache": "local", "cache_ttl": 5}
    )
    assert config["general_settings"]["coordination_redis"] == {"host": "store", "port": 6379}
    assert config["litellm_settings"]["cache_params"] == {"type": "local", "ttl": 5}
    assert "coordination_redis" not in build_config(MODEL_LIST, {"redis": {"host": ""}})["general_settings"]


def test_a_database() -> None:
    settings: dict[str, t.Any] = {
        "database_connections": 7,
        "spend_logs": False,
        "spend_logs_retention": "30d",
        "serve_without_database": True,
        "max_budget": 5.0,
        "budget_duration": "30d",
        "pooled": True,
    }
    config = build_config(MODEL_LIST, {**settings, "database": True})
    assert config["general_settings"] == {
        "master_key": "os.environ/LITELLM_MASTER_KEY",
        "database_connection_pool_limit": 7,
        "maximum_spend_logs_retention_period": "30d",
        "allow_requests_on_db_unavailable": True,
        "disable_spend_logs": True,
        "database_disable_prepared_statements": True,
    }
    assert (config["litellm_settings"]["max_budget"], config["litellm_settings"]["budget_duration"]) == (5.0, "30d")
    assert build_config(MODEL_LIST, settings) == build_config(MODEL_LIST, {})


def test_custom_authentication_comes_with_the_checks_of_models_and_routes() -> None:
    config = build_config(MODEL_LIST, {"custom_auth": "custom_auth.user_api_key_auth"})
    assert config["general_settings"] == {
        "master_key": "os.environ/LITELLM_MASTER_KEY",
        "custom_auth": "custom_auth.user_api_key_auth",
        "custom_auth_run_common_checks": True,
    }
    assert config["litellm_settings"]["enable_post_custom_auth_checks"] is True
    assert build_config(MODEL_LIST, {"custom_auth": ""}) == build_config(MODEL_LIST, {})


def test_extra_is_merged_over_the_rest() -> None:
    extra = {"general_settings": {"alerting": ["slack"]}, "router_settings": {"num_retries": 9}, "environment_variables": {"A": "1"}}
    config = build_config(MODEL_LIST, {"num_retries": 2, "timeout": 5}, extra)
    assert config["general_settings"] == {"master_key": "os.environ/LITELLM_MASTER_KEY", "alerting": ["slack"]}
    assert config["router_settings"] == {"num_retries": 9, "timeout": 5}
    assert config["environment_variables"] == {"A": "1"}


def test_a_gateway_without_models_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"the model list is empty.*Declare llm_models"):
        build_config([], {})


def test_merge() -> None:
    base, extra = {"a": {"b": 1, "c": [1]}, "d": 1}, {"a": {"c": [2], "e": {"f": 1}}, "d": {"g": 1}}
    before = copy.deepcopy((base, extra))
    assert merge(base, extra) == {"a": {"b": 1, "c": [2], "e": {"f": 1}}, "d": {"g": 1}}
    assert (base, extra) == before


# What cannot be deployed


def found(
    settings: dict[str, t.Any] | None = None,
    master_key: str = KEY,
    version: str = "1.106.2",
    lock: str = "a==1\nlitellm[proxy]==1.106.2 \\\n    --hash=sha256:0\n",
    model_list: t.Sequence[t.Any] = MODEL_LIST,
    secrets: dict[str, str] | None = None,
) -> list[str]:
    return problems(
        {**SETTINGS, **(settings or {})}, master_key=master_key, version=version, lock=lock, model_list=model_list, secrets=secrets or {}
    )


def test_no_problem() -> None:
    assert found() == []
    assert found(lock="litellm==1.106.2") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"master_key": ""}, "litellm_proxy_master_key: it is empty. Set it in the vault to sk- and at least 32 random characters."),
        ({"master_key": "sk-1234"}, "litellm_proxy_master_key: it has 7 characters, fewer than 20. Set it in the vault"),
        ({"master_key": KEY[3:]}, "litellm_proxy_master_key: LiteLLM accepts only keys that start with sk-. Put sk- in front of it."),
        ({"lock": ""}, "litellm_proxy_requirements does not lock litellm==1.106.2 (litellm_proxy_version). Set both to the same version."),
        ({"lock": "litellm==1.106.20"}, "litellm_proxy_requirements does not lock"),
        ({"lock": "litellm==1x106.2"}, "litellm_proxy_requirements does not lock"),
        ({"lock": "# litellm==1.106.2"}, "litellm_proxy_requirements does not lock"),
        ({"lock": "litellm-proxy-extras==1.106.2"}, "litellm_proxy_requirements does not lock"),
        ({"model_list": []}, "litellm_proxy_model_list is empty. Declare llm_models, or give the role a model list."),
        ({"settings": {"stream_timeout": 601}}, "litellm_proxy_stream_timeout (601 s) exceeds litellm_proxy_timeout (600 s)."),
        (
            {"settings": {"cache": "local", "cache_ttl": 0}},
            "litellm_proxy_cache_ttl must be more than 0 seconds where litellm_proxy_cache is",
        ),
        ({"secrets": {"LITELLM_MASTER_KEY": "x"}}, "litellm_proxy_secrets has LITELLM_MASTER_KEY. Set litellm_proxy_master_key instead."),
    ],
)
def test_problems(arguments: dict[str, t.Any], message: str) -> None:
    (problem,) = found(**arguments)
    assert problem.startswith(message)


@pytest.mark.parametrize("version", REFUSED_VERSIONS)
def test_malicious_releases(version: str) -> None:
    assert found(version=version, lock=f"litellm=={version}") == [
        f"litellm_proxy_version: {version} was published with malicious code. Choose another version."
    ]


def test_the_refused_versions_stay_refused() -> None:
    assert {"1.82.7", "1.82.8"} <= set(REFUSED_VERSIONS)


def test_every_problem_is_told_at_once() -> None:
    assert len(found(master_key="", lock="", model_list=[], settings={"stream_timeout": 700}, secrets={"LITELLM_MASTER_KEY": "x"})) == 5


def test_no_problem_repeats_the_key() -> None:
    for key in ("sk-password-of-the-year-1999", KEY[3:]):
        assert key not in str(found(master_key=key))
