# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.selfhosted.llm.plugins.plugin_utils.litellm_config import build_config
from ansible_collections.selfhosted.llm.plugins.plugin_utils.observability import (
    PACKAGES,
    environment,
    is_local,
    loggers,
    problems,
    secret_environment,
)

ROLE = Path(__file__).resolve().parents[4] / "roles/litellm_proxy"
MODEL_LIST = [{"model_name": "a", "litellm_params": {"model": "openai/a"}}]
MASTER_KEY = "sk-Zq7wR2mT9xLb4vNc8hYd3kGf6pSj"
METRICS_KEY = "sk-Hs5tQ8nWd2xKz7vBc4mRj9pLf3yG"
SETTINGS: dict[str, t.Any] = {
    "metrics": False,
    "metrics_key": False,
    "metrics_exclude_labels": ["end_user"],
    "metrics_max_series": 1000,
    "langfuse_host": "",
    "langfuse_public_key": "",
    "otel_endpoint": "",
    "otel_protocol": "http/protobuf",
    "otel_service_name": "litellm",
    "traces_plain_http": False,
    "ca_bundle": "",
    "database": False,
}
LANGFUSE = {"langfuse_host": "https://langfuse.example.org", "langfuse_public_key": "pk-lf-1"}
OTEL = {"otel_endpoint": "https://otel.example.org:4318"}
LOCK = "".join(f"{package}==1.0 \\\n" for packages in PACKAGES.values() for package in packages)
SECRETS: dict[str, t.Any] = {"metrics_key": "", "langfuse_secret_key": "", "otel_headers": {}}


def found(settings: dict[str, t.Any] | None = None, **more: t.Any) -> list[str]:
    options: dict[str, t.Any] = {
        "lock": LOCK,
        "master_key": MASTER_KEY,
        **SECRETS,
        "secrets": {},
        "plain_environment": {},
        "extra": {},
        **more,
    }
    return problems({**SETTINGS, **(settings or {})}, **options)


def test_nobody_learns_of_requests_unless_asked_for() -> None:
    config = build_config(MODEL_LIST, SETTINGS)
    assert config["litellm_settings"] == {"telemetry": False, "turn_off_message_logging": True}
    assert config["general_settings"] == {"master_key": "os.environ/LITELLM_MASTER_KEY"}
    assert environment(SETTINGS) == {}
    assert secret_environment(SETTINGS, metrics_key="x", langfuse_secret_key="x", otel_headers={"x": "y"}) == {}
    assert found() == []


def test_metrics() -> None:
    settings = build_config(MODEL_LIST, {**SETTINGS, "metrics": True})["litellm_settings"]
    assert settings["callbacks"] == ["prometheus"]
    assert settings["require_auth_for_metrics_endpoint"] is True
    assert settings["prometheus_exclude_labels"] == ["end_user"]
    assert settings["prometheus_metrics_max_series_per_metric"] == 1000
    assert environment({**SETTINGS, "metrics": True}) == {"PROMETHEUS_DISABLE_CREATED_SERIES": "true"}


def test_no_limits_of_metrics() -> None:
    settings = build_config(MODEL_LIST, {**SETTINGS, "metrics": True, "metrics_exclude_labels": [], "metrics_max_series": 0})
    assert not {name for name in settings["litellm_settings"] if name.startswith("prometheus_")}


def test_the_key_of_the_metrics_is_the_handlers_business_without_a_database_only() -> None:
    settings = {**SETTINGS, "metrics": True, "metrics_key": True, "custom_auth": "custom_auth.user_api_key_auth"}
    config = build_config(MODEL_LIST, settings)
    assert config["general_settings"]["custom_auth"] == "metrics_auth.user_api_key_auth"
    assert config["general_settings"]["custom_auth_run_common_checks"] is True
    assert config["litellm_settings"]["enable_post_custom_auth_checks"] is True
    given = {**SECRETS, "metrics_key": METRICS_KEY}
    assert secret_environment(settings, **given) == {"LLM_METRICS_KEY": METRICS_KEY}
    assert "metrics_auth" not in str(build_config(MODEL_LIST, {**settings, "database": True})["general_settings"])
    assert secret_environment({**settings, "database": True}, **given) == {}


def test_langfuse_comes_after_the_collector() -> None:
    settings = {**SETTINGS, **LANGFUSE, **OTEL, "metrics": True, "otel_protocol": "grpc", "ca_bundle": "/ca.pem"}
    assert build_config(MODEL_LIST, settings)["litellm_settings"]["callbacks"] == ["prometheus", "otel", "langfuse_otel"]
    assert environment(settings) == {
        "PROMETHEUS_DISABLE_CREATED_SERIES": "true",
        "OTEL_EXPORTER": "otlp_grpc",
        "OTEL_ENDPOINT": "https://otel.example.org:4318",
        "OTEL_SERVICE_NAME": "litellm",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": "/ca.pem",
        "LANGFUSE_OTEL_HOST": "https://langfuse.example.org",
        "LANGFUSE_PUBLIC_KEY": "pk-lf-1",
    }


def test_what_litellm_says_that_it_has() -> None:
    assert loggers({**SETTINGS, **LANGFUSE, **OTEL, "metrics": True}) == ["PrometheusLogger", "OpenTelemetry", "LangfuseOtelLogger"]
    assert loggers(SETTINGS) == []


def test_the_locks_of_the_role_have_the_packages() -> None:
    for name in ("requirements", "requirements-database"):
        lock = (ROLE / f"files/{name}.txt").read_text(encoding="utf-8")
        assert found({**LANGFUSE, **OTEL, "metrics": True}, lock=lock, langfuse_secret_key="sk-lf-1") == []


def test_headers_of_the_collector_are_not_those_that_langfuse_gets_too() -> None:
    secrets = secret_environment(
        {**SETTINGS, **LANGFUSE, **OTEL},
        metrics_key="",
        langfuse_secret_key="sk-lf-1",
        otel_headers={"authorization": "Bearer a=b", "x": "y"},
    )
    assert secrets == {"LANGFUSE_SECRET_KEY": "sk-lf-1", "OTEL_HEADERS": "authorization=Bearer a=b,x=y"}


@pytest.mark.parametrize(
    ("settings", "more", "words"),
    [
        ({}, {"metrics_key": METRICS_KEY}, "litellm_proxy_metrics is false"),
        ({"metrics": True}, {"metrics_key": "sk-short"}, "litellm_proxy_metrics_key: it has 8 characters"),
        ({"metrics": True}, {"metrics_key": METRICS_KEY[3:]}, "must begin with sk-"),
        ({"metrics": True}, {"metrics_key": MASTER_KEY}, "is the master key"),
        ({"metrics": True, "database": True}, {"metrics_key": METRICS_KEY}, "allowed_routes: [/metrics]"),
        ({"metrics_max_series": -1}, {}, "litellm_proxy_metrics_max_series must be 0 or more"),
        ({"metrics_exclude_labels": ["end_user", "ip"]}, {}, "ip is no label. LiteLLM has: api_base, api_key_alias"),
        ({"metrics": True}, {"lock": "litellm==1 \\\n"}, "does not lock prometheus-client. LiteLLM would start without"),
        (
            OTEL,
            {"lock": LOCK.replace("opentelemetry-sdk", "x-opentelemetry-sdk")},
            "does not lock opentelemetry-sdk. LiteLLM would start without",
        ),
        ({"langfuse_host": "https://l.example.org"}, {}, "not litellm_proxy_langfuse_public_key and litellm_proxy_langfuse_secret_key"),
        (LANGFUSE, {}, "not litellm_proxy_langfuse_secret_key"),
        ({}, {"langfuse_secret_key": "sk-lf-1"}, "not litellm_proxy_langfuse_host and litellm_proxy_langfuse_public_key"),
        ({**LANGFUSE, "langfuse_host": "langfuse"}, {"langfuse_secret_key": "sk-lf-1"}, "must be the address of Langfuse"),
        ({**LANGFUSE, "langfuse_host": "https://l/api/public/otel"}, {"langfuse_secret_key": "sk-lf-1"}, "without its API's path"),
        ({**LANGFUSE, "langfuse_public_key": "sk-lf-1"}, {"langfuse_secret_key": "pk-lf-1"}, "are swapped"),
        ({**LANGFUSE, "langfuse_host": "http://langfuse:3000"}, {"langfuse_secret_key": "sk-lf-1"}, "litellm_proxy_traces_plain_http"),
        ({"otel_endpoint": "http://otel:4318"}, {}, "litellm_proxy_otel_endpoint sends to otel in the clear"),
        ({"otel_endpoint": "127.0.0.1:4318"}, {}, "must be the URL of a collector"),
        ({"otel_endpoint": "https://me:secret@otel:4318"}, {}, "Secrets belong in litellm_proxy_otel_headers"),
        ({"otel_endpoint": "https://otel:port"}, {}, "must be the URL of a collector"),
        ({**OTEL, "otel_protocol": "http/json"}, {}, "must be one of http/protobuf, grpc, not 'http/json'"),
        ({**OTEL, "otel_service_name": ""}, {}, "litellm_proxy_otel_service_name is empty"),
        ({}, {"otel_headers": {"x": "y"}}, "but not litellm_proxy_otel_endpoint"),
        (OTEL, {"otel_headers": {"x": "TOPSECRET,b"}}, "litellm_proxy_otel_headers (x)"),
        (OTEL, {"otel_headers": {"x": "TOPSECRET\n"}}, "litellm_proxy_otel_headers (x)"),
        (OTEL, {"otel_headers": {"x y": "TOPSECRET"}}, "litellm_proxy_otel_headers (x y)"),
        (OTEL, {"otel_headers": {"x": 1}}, "litellm_proxy_otel_headers (x)"),
        (OTEL, {"plain_environment": {"OTEL_EXPORTER_OTLP_HEADERS": "x=TOPSECRET"}}, "Set litellm_proxy_otel_headers instead"),
        (OTEL, {"secrets": {"LANGFUSE_SECRET_KEY": "TOPSECRET"}}, "Set litellm_proxy_langfuse_secret_key instead"),
        (OTEL, {"extra": {"litellm_settings": {"callbacks": ["mine.instance"]}}}, "List these first: otel."),
    ],
)
def test_what_cannot_work_is_told_with_its_remedy(settings: dict[str, t.Any], more: dict[str, t.Any], words: str) -> None:
    told = found(settings, **more)
    assert len(told) == 1, told
    assert words in told[0]
    assert "TOPSECRET" not in told[0]


@pytest.mark.parametrize(
    ("settings", "more"),
    [
        ({"metrics": True}, {}),
        ({"metrics": True}, {"metrics_key": METRICS_KEY}),
        (LANGFUSE, {"langfuse_secret_key": "sk-lf-1"}),
        ({**LANGFUSE, "langfuse_host": "http://127.0.0.1:3000"}, {"langfuse_secret_key": "own-key-of-the-setup"}),
        ({**LANGFUSE, "langfuse_host": "http://langfuse:3000", "traces_plain_http": True}, {"langfuse_secret_key": "sk-lf-1"}),
        (OTEL, {"otel_headers": {"authorization": "Bearer a=b", "x-team": "y"}}),
        ({"otel_endpoint": "http://[::1]:4317", "otel_protocol": "grpc"}, {}),
        (OTEL, {"extra": {"litellm_settings": {"callbacks": ["otel", "mine.instance"]}}}),
        ({}, {"secrets": {"LANGFUSE_SECRET_KEY": "for somebody else"}}),
    ],
)
def test_what_works(settings: dict[str, t.Any], more: dict[str, t.Any]) -> None:
    assert found(settings, **more) == []


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.0.1.1", True), ("::1", True), ("localhost", True), ("10.0.0.1", False), ("localhost.example.org", False)],
)
def test_local(host: str, local: bool) -> None:
    assert is_local(host) is local
