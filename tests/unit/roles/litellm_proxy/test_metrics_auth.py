# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The handler for the key of the metrics. The development environment has no LiteLLM: what the handler imports is made here.

molecule/litellm_proxy runs it in the real one.
"""

from __future__ import annotations

import asyncio
import types
import typing as t
from pathlib import Path

import pytest

from ansible_collections.selfhosted.llm.tests.unit.fake_litellm import install, load_file, make_module

HANDLER = Path(__file__).resolve().parents[4] / "roles/litellm_proxy/files/metrics_auth.py"
KEY = "sk-metrics-Vb6Ym9Hd4Jc"
ANOTHER = """
async def user_api_key_auth(request, api_key):
    if api_key == "refused":
        raise PermissionError
    return f"asked about {api_key} at {request}"
"""


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> t.Callable[..., t.Any]:
    install(
        monkeypatch,
        [
            make_module("litellm"),
            make_module("litellm.proxy"),
            make_module("litellm.proxy._types", UserAPIKeyAuth=types.SimpleNamespace),
            make_module("litellm.proxy.auth"),
            make_module("litellm.proxy.auth.auth_utils", get_request_route=lambda request: request),
        ],
    )
    monkeypatch.setenv("LLM_METRICS_KEY", KEY)

    def made(beside: str = "") -> t.Any:
        copy = tmp_path / "metrics_auth.py"
        copy.write_text(HANDLER.read_text(encoding="utf-8"), encoding="utf-8")
        if beside:
            (tmp_path / "custom_auth.py").write_text(beside, encoding="utf-8")
        module = load_file("metrics_auth", copy)
        return lambda route, key: asyncio.run(module.user_api_key_auth(route, key))

    return made


@pytest.mark.parametrize("route", ["/metrics", "/metrics/"])
def test_the_key_reads_the_metrics_and_may_do_nothing_else(load: t.Any, route: str) -> None:
    identity = load()(route, KEY)
    assert identity.allowed_routes == ["/metrics", "/metrics/"]
    # An empty list would be all models.
    assert identity.models == ["no-default-models"]
    assert KEY not in str(identity)


@pytest.mark.parametrize(
    ("route", "key"),
    [("/v1/models", KEY), ("/metrics/x", KEY), ("/metrics", KEY + "x"), ("/metrics", ""), ("/metrics", None), ("/metrics", "schlüssel")],
)
def test_all_else_is_left_to_litellm(load: t.Any, route: str, key: str | None) -> None:
    assert load()(route, key) is None


def test_or_to_the_custom_authentication_beside_it(load: t.Any) -> None:
    ask = load(ANOTHER)
    assert ask("/v1/models", "somebodys") == "asked about somebodys at /v1/models"
    assert ask("/v1/models", KEY) == f"asked about {KEY} at /v1/models"
    assert ask("/metrics", KEY).allowed_routes
    with pytest.raises(PermissionError):
        ask("/metrics", "refused")


def test_it_does_not_start_without_the_key(load: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLM_METRICS_KEY")
    with pytest.raises(KeyError):
        load()
