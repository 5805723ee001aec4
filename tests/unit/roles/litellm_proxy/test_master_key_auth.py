# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The handler for a gateway that knows the master key alone.

The development environment has no LiteLLM: what the handler imports is made here.
molecule/site runs it in the real one.
"""

from __future__ import annotations

import asyncio
import types
import typing as t
from pathlib import Path

import pytest

from ansible_collections.selfhosted.llm.tests.unit.fake_litellm import (
    LOGGED,
    NAMES,
    Identity,
    ProxyException,
    install,
    load_file,
    make_module,
)

HANDLER = Path(__file__).resolve().parents[4] / "roles/litellm_proxy/files/master_key_auth.py"
KEY = "sk-master-Vb6Ym9Hd4Jc"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> t.Callable[[], t.Any]:
    identity = type("UserAPIKeyAuth", (Identity,), {})
    routes = types.SimpleNamespace(public_routes=types.SimpleNamespace(value=frozenset({"/health/liveliness"})))
    install(
        monkeypatch,
        [
            make_module("litellm", constants=types.SimpleNamespace(**NAMES)),
            make_module("litellm.proxy"),
            make_module("litellm.proxy._types", LiteLLMRoutes=routes, ProxyException=ProxyException, UserAPIKeyAuth=identity),
            make_module("litellm.proxy.auth"),
            make_module("litellm.proxy.auth.auth_utils", get_request_route=lambda request: request),
        ],
    )
    monkeypatch.setenv("LITELLM_MASTER_KEY", KEY)

    return lambda: load_file("master_key_auth", HANDLER)


@pytest.mark.parametrize(
    ("route", "key"), [("/v1/models", KEY), ("/key/list", KEY), ("/health/liveliness", ""), ("/health/liveliness", None)]
)
def test_the_master_key_and_public_routes_are_left_to_litellm(load: t.Any, route: str, key: str | None) -> None:
    assert asyncio.run(load().user_api_key_auth(route, key)) is None


@pytest.mark.parametrize("key", ["sk-wrong", KEY[:-1], KEY + "x", KEY.upper(), "", None, "schl\u00fcssel", f"Bearer {KEY}"])
def test_all_others_get_openais_error(load: t.Any, key: str | None) -> None:
    with pytest.raises(ProxyException) as refusal:
        asyncio.run(load().user_api_key_auth("/v1/models", key))
    # LiteLLM takes the HTTP status from `code`.
    assert refusal.value.code == "401"
    told = refusal.value.to_dict()
    assert (told["code"], told["type"]) == ("invalid_api_key", "invalid_request_error")
    assert not key or key not in str(told)


@pytest.mark.parametrize("key", LOGGED)
def test_refused_keys_are_hashed_whatever_they_begin_with(load: t.Any, key: str) -> None:
    assert load().UserAPIKeyAuth._safe_hash_litellm_api_key(key) == LOGGED[key]


@pytest.mark.parametrize("value", [None, ""])
def test_it_does_not_start_without_the_key(load: t.Any, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("LITELLM_MASTER_KEY") if value is None else monkeypatch.setenv("LITELLM_MASTER_KEY", value)
    with pytest.raises(RuntimeError, match="LITELLM_MASTER_KEY is not set"):
        load()
