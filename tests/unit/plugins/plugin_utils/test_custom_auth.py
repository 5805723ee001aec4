# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.selfhosted.llm.plugins.plugin_utils.custom_auth import handler_settings, problems

MODELS = [{"model_name": name} for name in ("chat", "chat", "adult", "embed")]
ALIASES = {"default": "chat", "wild": {"model": "adult", "hidden": True}}
SECRET = "Kx7Rn2Wq9Zt4Lb6Vm3Yc8Hd5Jf"
AUTH: dict[str, t.Any] = {
    "custom_auth": "backend",
    "url": "https://keys.example.org/check",
    "secret": SECRET,
    "ca_bundle": "/ca.pem",
    "timeout": 10.0,
    "cache_seconds": 60.0,
    "negative_cache_seconds": 10.0,
    "key_prefixes": ["hc-sk-"],
    "tiers": {"free": {"models": ["chat"], "rpm_limit": 3}, "premium": {}},
    "groups": {},
}


def settings(**changes: t.Any) -> dict[str, t.Any]:
    return handler_settings({**AUTH, **changes}, MODELS, ALIASES)


def test_the_settings_have_no_secret_and_all_the_rest() -> None:
    found = settings()
    assert SECRET not in str(found)
    assert {name: found[name] for name in found if name not in ("tiers", "groups")} == {
        name: AUTH[name] for name in ("url", "ca_bundle", "timeout", "cache_seconds", "negative_cache_seconds", "key_prefixes")
    }


def test_a_tier_without_models_has_all_and_one_with_them_their_aliases_too() -> None:
    assert settings()["tiers"] == {
        "free": {"models": ["chat", "default"], "rpm_limit": 3},
        "premium": {"models": ["adult", "chat", "default", "embed", "wild"]},
    }


def test_an_alias_in_a_tier_is_not_its_model() -> None:
    assert settings(tiers={"free": {"models": ["default"]}})["tiers"]["free"]["models"] == ["default"]


@pytest.mark.parametrize("name", ["adult", "wild"])
def test_a_group_restricts_every_name_of_the_model(name: str) -> None:
    assert settings(groups={"age-verified": [name]})["groups"] == {"age-verified": ["adult", "wild"]}


# What cannot be deployed


def found(
    source: str | None = "async def user_api_key_auth(request, api_key): ...",
    database: bool = False,
    fallbacks: t.Sequence[t.Any] = (),
    model_list: t.Sequence[t.Any] = MODELS,
    **changes: t.Any,
) -> list[str]:
    return problems({**AUTH, **changes}, source=source, model_list=model_list, aliases=ALIASES, fallbacks=fallbacks, database=database)


def test_no_problem() -> None:
    assert found() == []
    assert found(secret="", url="http://127.0.0.1:9400/check", groups={"age-verified": ["wild"]}, database=True) == []
    assert found(custom_auth="", url="", key_prefixes=[], tiers={}) == []
    assert found(custom_auth="files/my_auth.py", url="", key_prefixes=[], tiers={}) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"url": ""}, "litellm_proxy_auth_url must be the http:// or https:// URL"),
        ({"url": "keys.example.org/check"}, "litellm_proxy_auth_url must be"),
        ({"url": "ftp://keys.example.org"}, "litellm_proxy_auth_url must be"),
        ({"url": "https:///check"}, "litellm_proxy_auth_url must be"),
        ({"url": "https://keys.example.org:99999/"}, "litellm_proxy_auth_url must be"),
        ({"url": "https://me:secret@keys.example.org/"}, "litellm_proxy_auth_url has a user name in it"),
        ({"secret": "short"}, "litellm_proxy_auth_secret: it has 5 characters"),
        ({"timeout": 0.0}, "litellm_proxy_auth_timeout must be more than 0"),
        ({"cache_seconds": -1.0}, "litellm_proxy_auth_cache_seconds must be 0"),
        ({"negative_cache_seconds": -1.0}, "litellm_proxy_auth_negative_cache_seconds must be 0"),
        ({"key_prefixes": []}, "litellm_proxy_auth_key_prefixes is empty"),
        ({"key_prefixes": ["hc"]}, "litellm_proxy_auth_key_prefixes: 'hc' must be at least 3"),
        ({"key_prefixes": ["hc sk-"]}, "litellm_proxy_auth_key_prefixes: 'hc sk-' must be"),
        ({"key_prefixes": ["sk-"], "database": True}, "litellm_proxy_auth_key_prefixes has sk-"),
        ({"tiers": {}}, "litellm_proxy_auth_tiers is empty"),
        ({"tiers": {"free": None}}, "litellm_proxy_auth_tiers: free must be a mapping"),
        ({"tiers": {"free": {"rpm": 3}}}, "litellm_proxy_auth_tiers: free has rpm, which does not exist. There are models, rpm_limit"),
        ({"tiers": {"free": {"rpm_limit": 0}}}, "litellm_proxy_auth_tiers: free: rpm_limit must be a whole number from 1 on"),
        ({"tiers": {"free": {"tpm_limit": "many"}}}, "litellm_proxy_auth_tiers: free: tpm_limit must be"),
        ({"tiers": {"free": {"max_parallel_requests": True}}}, "litellm_proxy_auth_tiers: free: max_parallel_requests must be"),
        ({"tiers": {"free": {"models": "chat"}}}, "litellm_proxy_auth_tiers: free: models must be a list"),
        ({"tiers": {"free": {"models": ["chta"]}}}, "litellm_proxy_auth_tiers: free: models: chta is not offered. There are adult, chat,"),
        ({"groups": {"age-verified": ["nsfw"]}}, "litellm_proxy_auth_groups: age-verified: nsfw is not offered"),
        ({"groups": {"age-verified": []}}, "litellm_proxy_auth_groups: age-verified has no models"),
        (
            {"groups": {"age-verified": ["adult"]}, "fallbacks": [{"chat": ["chat@a", "wild"]}]},
            "litellm_proxy_auth_groups: wild is restricted",
        ),
        (
            {"groups": {"a": ["adult"], "b": ["embed"]}, "fallbacks": [{"embed": ["adult"]}]},
            "litellm_proxy_auth_groups: adult is restricted, but a fallback of embed",
        ),
        (
            {"groups": {"a": ["openai/x"]}, "model_list": [{"model_name": "openai/*"}, *MODELS, {"model_name": "openai/x"}]},
            "litellm_proxy_auth_groups: openai/x is restricted, but openai/* offers it to everybody",
        ),
        ({"custom_auth": "", "key_prefixes": [], "tiers": {}}, "litellm_proxy_auth_url: set, but nobody asks the backend"),
        ({"custom_auth": "my.py", "source": None}, "litellm_proxy_custom_auth: the control node has no file my.py"),
        (
            {"custom_auth": "my.py", "source": "\n def x("},
            "litellm_proxy_custom_auth: my.py is not valid Python: unexpected indent (my.py, line 2)",
        ),
        ({"custom_auth": "my.py", "source": "def user_api_key_auth(): ..."}, "litellm_proxy_custom_auth: my.py has no `async def"),
    ],
)
def test_problems(changes: dict[str, t.Any], words: str) -> None:
    (problem,) = found(**changes)
    assert problem.startswith(words)


def test_models_behind_a_wildcard_are_offered() -> None:
    models = [*MODELS, {"model_name": "openai/*"}]
    assert found(model_list=models, tiers={"free": {"models": ["openai/gpt-5"]}}) == []


def test_a_fallback_within_the_same_group_is_no_way_around() -> None:
    assert found(groups={"age-verified": ["adult", "embed"]}, fallbacks=[{"adult": ["embed", "chat"]}]) == []


def test_no_problem_repeats_the_secret() -> None:
    assert "password-of-the-year" not in str(found(secret="password-of-the-year-1999", url="https://me:password-of-the-year@x/"))
