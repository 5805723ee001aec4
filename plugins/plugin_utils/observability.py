# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a LiteLLM gateway tells others about its requests: metrics for Prometheus, traces by OpenTelemetry, and to Langfuse.

The settings are those of the role litellm_proxy without its prefix. docs/observability.md says what is sent.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t
from urllib.parse import urlsplit

from ansible_collections.selfhosted.llm.plugins.plugin_utils.secrets import weakness

Mapping = t.Mapping[str, t.Any]

PROTOCOLS = {"http/protobuf": "otlp_http", "grpc": "otlp_grpc"}
# The handler that ships with the role, beside config.yaml.
METRICS_AUTH = "metrics_auth.user_api_key_auth"

# Of LiteLLM 1.106. It takes a name that is none of them for a reason to have no metrics at all, and goes on.
LABELS = frozenset(
    (
        "api_base",
        "api_key_alias",
        "api_provider",
        "callback_name",
        "client_ip",
        "end_user",
        "exception_class",
        "exception_status",
        "fallback_model",
        "hashed_api_key",
        "litellm_model_name",
        "model",
        "model_group",
        "model_id",
        "org_alias",
        "org_id",
        "project_alias",
        "project_id",
        "requested_model",
        "route",
        "service_tier",
        "status_code",
        "tag",
        "team",
        "team_alias",
        "user",
        "user_agent",
        "user_alias",
        "user_email",
    )
)
# What has to be installed for each, and what LiteLLM then says that it has.
PACKAGES = {
    "prometheus": ["prometheus-client"],
    "otel": ["opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http", "opentelemetry-exporter-otlp-proto-grpc"],
    "langfuse_otel": ["opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"],
}
_LOGGERS = {"prometheus": "PrometheusLogger", "otel": "OpenTelemetry", "langfuse_otel": "LangfuseOtelLogger"}

# What LiteLLM calls them. Not OTEL_EXPORTER_OTLP_HEADERS: OpenTelemetry would send these headers to Langfuse as well.
_HEADERS = "OTEL_HEADERS"
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_VARIABLES = {
    "LLM_METRICS_KEY": "litellm_proxy_metrics_key",
    "LANGFUSE_OTEL_HOST": "litellm_proxy_langfuse_host",
    "LANGFUSE_PUBLIC_KEY": "litellm_proxy_langfuse_public_key",
    "LANGFUSE_SECRET_KEY": "litellm_proxy_langfuse_secret_key",
    "OTEL_EXPORTER": "litellm_proxy_otel_protocol",
    "OTEL_ENDPOINT": "litellm_proxy_otel_endpoint",
    _HEADERS: "litellm_proxy_otel_headers",
    "OTEL_EXPORTER_OTLP_HEADERS": "litellm_proxy_otel_headers",
    "OTEL_SERVICE_NAME": "litellm_proxy_otel_service_name",
}


def callbacks(settings: Mapping) -> list[str]:
    """LiteLLM's names of them. The order matters: with langfuse_otel first, LiteLLM sends to the collector alone."""
    wanted = {"prometheus": settings.get("metrics"), "otel": settings.get("otel_endpoint"), "langfuse_otel": settings.get("langfuse_host")}
    return [name for name, on in wanted.items() if on]


def loggers(settings: Mapping) -> list[str]:
    """What `/health/readiness/details` lists where all that is asked for is there: LiteLLM goes on without what it cannot start."""
    return [_LOGGERS[name] for name in callbacks(settings)]


def has_metrics_auth(settings: Mapping) -> bool:
    """Whether LiteLLM needs our handler for the key of the metrics. With a database it knows such keys itself."""
    return bool(settings.get("metrics") and settings.get("metrics_key") and not settings.get("database"))


def apply(config: dict[str, dict[str, t.Any]], settings: Mapping) -> None:
    """The parts of config.yaml. No secret is among them."""
    names = callbacks(settings)
    if names:
        config["litellm_settings"]["callbacks"] = names
    if settings.get("metrics"):
        config["litellm_settings"]["require_auth_for_metrics_endpoint"] = True
        if settings.get("metrics_exclude_labels"):
            config["litellm_settings"]["prometheus_exclude_labels"] = list(settings["metrics_exclude_labels"])
        if settings.get("metrics_max_series"):
            config["litellm_settings"]["prometheus_metrics_max_series_per_metric"] = settings["metrics_max_series"]
    if has_metrics_auth(settings):
        # It asks the handler of custom authentication, where there is one. The switches make LiteLLM hold the key to what it may do.
        config["general_settings"].update(custom_auth=METRICS_AUTH, custom_auth_run_common_checks=True)
        config["litellm_settings"]["enable_post_custom_auth_checks"] = True


def environment(settings: Mapping) -> dict[str, str]:
    """Variables of the service that may be seen."""
    found = {}
    if settings.get("metrics"):
        # A second series for each counter and histogram, which only says since when.
        found["PROMETHEUS_DISABLE_CREATED_SERIES"] = "true"
    if settings.get("otel_endpoint"):
        found["OTEL_EXPORTER"] = PROTOCOLS[settings["otel_protocol"]]
        found["OTEL_ENDPOINT"] = settings["otel_endpoint"]
    if settings.get("langfuse_host"):
        found["LANGFUSE_OTEL_HOST"] = settings["langfuse_host"]
        found["LANGFUSE_PUBLIC_KEY"] = settings["langfuse_public_key"]
    if settings.get("otel_endpoint") or settings.get("langfuse_host"):
        found["OTEL_SERVICE_NAME"] = settings["otel_service_name"]
        if settings.get("ca_bundle"):
            # gRPC looks neither at the system's authorities nor at SSL_CERT_FILE.
            found["OTEL_EXPORTER_OTLP_CERTIFICATE"] = settings["ca_bundle"]
    return found


def secret_environment(settings: Mapping, *, metrics_key: str, langfuse_secret_key: str, otel_headers: Mapping) -> dict[str, str]:
    """Variables of the service that nobody may see."""
    found = {}
    if has_metrics_auth(settings):
        found["LLM_METRICS_KEY"] = metrics_key
    if settings.get("langfuse_host"):
        found["LANGFUSE_SECRET_KEY"] = langfuse_secret_key
    if settings.get("otel_endpoint") and otel_headers:
        found[_HEADERS] = ",".join(f"{name}={value}" for name, value in otel_headers.items())
    return found


def is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _parts(url: str) -> tuple[str, str, str]:
    """Scheme, host and path of a URL, all empty where it is none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "", "", ""
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or port == 0:
        return "", "", ""
    return parts.scheme, parts.hostname, parts.path.strip("/")


def problems(
    settings: Mapping,
    *,
    lock: str,
    master_key: str,
    metrics_key: str,
    langfuse_secret_key: str,
    otel_headers: Mapping,
    secrets: Mapping,
    plain_environment: Mapping,
    extra: Mapping,
) -> list[str]:
    """What an operator has to change before this can be deployed, each with the variable of the role and the remedy."""
    return [
        *_metrics(settings, master_key, metrics_key),
        *_langfuse(settings, langfuse_secret_key),
        *_otel(settings, otel_headers),
        *_plain(settings),
        *_packages(settings, lock),
        *_elsewhere(settings, secrets, plain_environment, extra),
    ]


def _metrics(settings: Mapping, master_key: str, metrics_key: str) -> t.Iterator[str]:
    if settings["metrics_max_series"] < 0:
        yield f"litellm_proxy_metrics_max_series must be 0 or more, not {settings['metrics_max_series']}. 0 is no limit."
    unknown = sorted(set(settings["metrics_exclude_labels"]) - LABELS)
    if unknown:
        yield f"litellm_proxy_metrics_exclude_labels: {', '.join(unknown)} is no label. LiteLLM has: {', '.join(sorted(LABELS))}."
    if not metrics_key:
        return
    weak = weakness(metrics_key)
    if not settings["metrics"]:
        yield "litellm_proxy_metrics_key is set, but litellm_proxy_metrics is false. Set it to true, or take the key away."
    elif settings["database"]:
        yield (
            "litellm_proxy_metrics_key is for gateways without a database. This one has a database: declare the key in litellm_keys, as "
            "{key_alias: prometheus, models: [no-default-models], allowed_routes: [/metrics]}, and take litellm_proxy_metrics_key away."
        )
    elif weak:
        yield f"litellm_proxy_metrics_key: {weak}. Set it in the vault to sk- and at least 32 random characters."
    elif not metrics_key.startswith("sk-"):
        yield "litellm_proxy_metrics_key must begin with sk-: LiteLLM logs other keys as they are, when one is sent to a wrong path."
    elif metrics_key == master_key:
        yield "litellm_proxy_metrics_key is the master key. Give it a value of its own: it lies about on the host that scrapes."


def _langfuse(settings: Mapping, secret_key: str) -> t.Iterator[str]:
    host, public_key = settings["langfuse_host"], settings["langfuse_public_key"]
    given = {"host": host, "public_key": public_key, "secret_key": secret_key}
    missing = [f"litellm_proxy_langfuse_{name}" for name, value in given.items() if not value]
    if len(missing) == len(given):
        return
    if missing:
        there = [f"litellm_proxy_langfuse_{name}" for name, value in given.items() if value]
        yield f"{' and '.join(there)} set, but not {' and '.join(missing)}. Langfuse needs all three; leave all three empty for none."
        return
    scheme, _host, path = _parts(host)
    if not scheme or "api/public" in path:
        yield "litellm_proxy_langfuse_host must be the address of Langfuse, such as https://langfuse.example.org, without its API's path."
    if public_key.startswith("sk-") or secret_key.startswith("pk-"):
        yield "litellm_proxy_langfuse_public_key and litellm_proxy_langfuse_secret_key are swapped: the secret one begins with sk-."


def _otel(settings: Mapping, headers: Mapping) -> t.Iterator[str]:
    endpoint = settings["otel_endpoint"]
    if not endpoint:
        if headers:
            yield "litellm_proxy_otel_headers is set, but not litellm_proxy_otel_endpoint. Say where to send them, or take them away."
        return
    if not _parts(endpoint)[0]:
        yield (
            "litellm_proxy_otel_endpoint must be the URL of a collector, such as http://127.0.0.1:4318, or http://127.0.0.1:4317 with "
            "litellm_proxy_otel_protocol: grpc. Secrets belong in litellm_proxy_otel_headers."
        )
    if settings["otel_protocol"] not in PROTOCOLS:
        yield f"litellm_proxy_otel_protocol must be one of {', '.join(PROTOCOLS)}, not {settings['otel_protocol']!r}."
    if not settings["otel_service_name"]:
        yield "litellm_proxy_otel_service_name is empty. Traces are found by it: litellm is the default."
    for name, value in headers.items():
        # LiteLLM splits at commas and knows no escape. The value is a secret: it is not repeated.
        if not _HEADER_NAME.match(str(name)) or not isinstance(value, str) or not re.match(r"[ -~]+\Z", value) or "," in value:
            yield f"litellm_proxy_otel_headers ({name}): LiteLLM can send a string of printable characters without commas, and no other."


def _plain(settings: Mapping) -> t.Iterator[str]:
    if settings["traces_plain_http"]:
        return
    for name in ("langfuse_host", "otel_endpoint"):
        scheme, host, _path = _parts(settings[name])
        if scheme == "http" and not is_local(host):
            yield (
                f"litellm_proxy_{name} sends to {host} in the clear: anybody on the way reads its keys, who asked which model when, and "
                "with litellm_proxy_log_prompts the prompts. Use https, send to a collector on this host, or, on a network that you trust, "
                "set litellm_proxy_traces_plain_http to true."
            )


def _packages(settings: Mapping, lock: str) -> t.Iterator[str]:
    needed = {package for name in callbacks(settings) for package in PACKAGES[name]}
    missing = [package for package in sorted(needed) if not re.search(rf"^{package}==", lock, flags=re.MULTILINE)]
    if missing:
        yield (
            f"litellm_proxy_requirements does not lock {', '.join(missing)}. LiteLLM would start without these metrics or traces. "
            "Add them to your lock, or take the one that ships with the role."
        )


def _elsewhere(settings: Mapping, secrets: Mapping, plain_environment: Mapping, extra: Mapping) -> t.Iterator[str]:
    ours = callbacks(settings)
    if not ours:
        return
    for where, values in (("litellm_proxy_secrets", secrets), ("litellm_proxy_environment", plain_environment)):
        for name in values:
            if name in _VARIABLES:
                yield f"{where} has {name}. Set {_VARIABLES[name]} instead."
    listed = (extra.get("litellm_settings") or {}).get("callbacks")
    if listed is not None and not set(ours) <= set(listed):
        yield (
            f"litellm_proxy_extra_config has litellm_settings.callbacks, which takes the place of those that other variables ask for. "
            f"List these first: {', '.join(ours)}."
        )
