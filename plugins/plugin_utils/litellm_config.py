# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LiteLLM's config.yaml from typed settings. Every way of deploying LiteLLM renders its config here."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.selfhosted.llm.plugins.plugin_utils import observability
from ansible_collections.selfhosted.llm.plugins.plugin_utils.secrets import weakness

Mapping = t.Mapping[str, t.Any]

# Our setting -> section and name in LiteLLM's config.yaml. A setting that is None, "" or empty is left out: LiteLLM's default holds.
_PLACES: dict[str, tuple[str, str]] = {
    "routing_strategy": ("router_settings", "routing_strategy"),
    "num_retries": ("router_settings", "num_retries"),
    "timeout": ("router_settings", "timeout"),
    "stream_timeout": ("router_settings", "stream_timeout"),
    "allowed_fails": ("router_settings", "allowed_fails"),
    "cooldown_time": ("router_settings", "cooldown_time"),
    "model_aliases": ("router_settings", "model_group_alias"),
    "model_fallbacks": ("router_settings", "fallbacks"),
    "pre_call_checks": ("router_settings", "enable_pre_call_checks"),
    "json_logs": ("litellm_settings", "json_logs"),
    "drop_params": ("litellm_settings", "drop_params"),
    "provider_budgets": ("router_settings", "provider_budget_config"),
}

# The same for settings that mean something with a database only.
_DATABASE_PLACES: dict[str, tuple[str, str]] = {
    "database_connections": ("general_settings", "database_connection_pool_limit"),
    "spend_logs_retention": ("general_settings", "maximum_spend_logs_retention_period"),
    "serve_without_database": ("general_settings", "allow_requests_on_db_unavailable"),
    "max_budget": ("litellm_settings", "max_budget"),
    "budget_duration": ("litellm_settings", "budget_duration"),
}

# Not REDIS_PASSWORD: LiteLLM builds further clients from variables that begin with REDIS_.
REDIS_PASSWORD = "LLM_REDIS_PASSWORD"  # noqa: S105 - the name of a variable

# Releases that were published with malicious code.
REFUSED_VERSIONS = ("1.82.7", "1.82.8")


class ConfigError(ValueError):
    """A setting that contradicts another one. The message names both and the remedy."""


def _cache(settings: Mapping) -> dict[str, t.Any]:
    kind = settings.get("cache") or "none"
    if kind == "none":
        return {}
    where = _redis(settings) if kind == "redis" else {}
    return {"cache": True, "cache_params": {"type": kind, "ttl": settings["cache_ttl"], **where}}


def _redis(settings: Mapping) -> dict[str, t.Any]:
    """How LiteLLM reaches Redis; nothing where there is none."""
    redis = settings.get("redis") or {}
    if not redis.get("host"):
        return {}
    found = {"host": redis["host"], "port": redis["port"]}
    if redis.get("password"):
        found["password"] = f"os.environ/{REDIS_PASSWORD}"
    if redis.get("tls"):
        found["ssl"] = True
        if redis.get("ca_bundle"):
            found["ssl_ca_certs"] = redis["ca_bundle"]
    return found


def _custom_auth(config: dict[str, dict[str, t.Any]], settings: Mapping) -> None:
    """Without the two switches LiteLLM would let a key of custom authentication use every model, and every route of administration."""
    if settings.get("custom_auth"):
        config["general_settings"].update(custom_auth=settings["custom_auth"], custom_auth_run_common_checks=True)
        config["litellm_settings"]["enable_post_custom_auth_checks"] = True


def _put(config: dict[str, dict[str, t.Any]], settings: Mapping, places: t.Mapping[str, tuple[str, str]]) -> None:
    for name, (section, key) in places.items():
        value = settings.get(name)
        if value is not None and value != "" and value != [] and value != {}:
            config[section][key] = value


def _database(settings: Mapping) -> dict[str, t.Any]:
    """general_settings of a gateway with a database, where they are no plain values."""
    found: dict[str, t.Any] = {}
    if not settings.get("spend_logs", True):
        found["disable_spend_logs"] = True
    if settings.get("pooled"):
        # A pooler in transaction mode gives each statement another session.
        found["database_disable_prepared_statements"] = True
    return found


def merge(base: Mapping, extra: Mapping) -> dict[str, t.Any]:
    """`extra` over `base`, mappings by key, everything else replaced."""
    merged = dict(base)
    for key, value in extra.items():
        have = merged.get(key)
        merged[key] = merge(have, value) if isinstance(have, t.Mapping) and isinstance(value, t.Mapping) else value
    return merged


def build_config(model_list: t.Sequence[Mapping], settings: Mapping, extra: Mapping | None = None) -> dict[str, t.Any]:
    """The whole config.yaml as a mapping. `extra` is merged over it, for what has no setting of its own."""
    if not model_list:
        raise ConfigError("the model list is empty: a gateway without models answers nothing. Declare llm_models")
    config: dict[str, dict[str, t.Any]] = {
        "litellm_settings": {"telemetry": False, **_cache(settings)},
        "router_settings": {},
        # The key itself is in the environment, which only root can read on disk.
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
    }
    if not settings.get("log_prompts"):
        config["litellm_settings"]["turn_off_message_logging"] = True
    # LiteLLM tries five at the most, unless told otherwise.
    longest = max((len(targets) for item in settings.get("model_fallbacks") or [] for targets in item.values()), default=0)
    if longest > 5:
        config["router_settings"]["max_fallbacks"] = longest
    _put(config, settings, _PLACES)
    _custom_auth(config, settings)
    redis = _redis(settings)
    if redis:
        # Requests in flight, cooldowns, rate limits and spend are shared by it, whatever is cached and where.
        config["general_settings"]["coordination_redis"] = redis
    if settings.get("database"):
        _put(config, settings, _DATABASE_PLACES)
        config["general_settings"].update(_database(settings))
    observability.apply(config, settings)
    return merge({"model_list": list(model_list), **config}, extra or {})


def problems(
    settings: Mapping, *, master_key: str, version: str, lock: str, model_list: t.Sequence[Mapping], secrets: Mapping
) -> list[str]:
    """What an operator has to change before this can be deployed, each with the variable of the role and the remedy."""
    found = []
    weak = weakness(master_key)
    if weak:
        found.append(f"litellm_proxy_master_key: {weak}. Set it in the vault to sk- and at least 32 random characters.")
    elif not master_key.startswith("sk-"):
        found.append("litellm_proxy_master_key: LiteLLM accepts only keys that start with sk-. Put sk- in front of it.")
    if version in REFUSED_VERSIONS:
        found.append(f"litellm_proxy_version: {version} was published with malicious code. Choose another version.")
    if not re.search(rf"^litellm(\[[^\]]*\])?=={re.escape(version)}(\s|$)", lock, flags=re.MULTILINE):
        found.append(f"litellm_proxy_requirements does not lock litellm=={version} (litellm_proxy_version). Set both to the same version.")
    if not model_list:
        found.append("litellm_proxy_model_list is empty. Declare llm_models, or give the role a model list.")
    if settings["stream_timeout"] > settings["timeout"]:
        found.append(
            f"litellm_proxy_stream_timeout ({settings['stream_timeout']} s) exceeds litellm_proxy_timeout ({settings['timeout']} s). "
            "A stream must not wait longer for its beginning than a whole answer may take."
        )
    if settings["cache"] != "none" and settings["cache_ttl"] <= 0:
        found.append(f"litellm_proxy_cache_ttl must be more than 0 seconds where litellm_proxy_cache is {settings['cache']}.")
    if "LITELLM_MASTER_KEY" in secrets:
        found.append("litellm_proxy_secrets has LITELLM_MASTER_KEY. Set litellm_proxy_master_key instead.")
    return found
