# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a gateway with a database, with Redis, or with neither, can and cannot do."""

from __future__ import annotations

import re
import typing as t
from urllib.parse import quote

from ansible_collections.selfhosted.llm.plugins.plugin_utils.secrets import weakness

Mapping = t.Mapping[str, t.Any]

# In LiteLLM's names: of a deployment (rpm), of a key or team (rpm_limit, model_rpm_limit), of a budget; and of a tier.
_LIMIT = re.compile(r"(^|_)(rpm|tpm|rpd|tpd)(_|$)|_per_(minute|hour|day)|max_parallel_requests|max_budget|budget_limits")
# What serves requests from the environment and the variable of the role that sets it.
_OWN_SECRETS = {
    "LITELLM_MASTER_KEY": "litellm_proxy_master_key",
    "LITELLM_SALT_KEY": "litellm_proxy_salt_key",
    "DATABASE_URL": "litellm_proxy_database_url",
    "DIRECT_URL": "litellm_proxy_direct_database_url",
    "UI_PASSWORD": "litellm_proxy_ui_password",
    "REDIS_PASSWORD": "litellm_proxy_redis_password",
}
_DURATION = re.compile(r"[1-9]\d*(s|m|h|d|mo)\Z")


def _names_of_limits(value: t.Any) -> set[str]:
    if isinstance(value, t.Mapping):
        found = {str(key) for key, inner in value.items() if _LIMIT.search(str(key)) and inner not in (None, 0, {}, [])}
        return found.union(*(_names_of_limits(inner) for inner in value.values()))
    if isinstance(value, t.Sequence) and not isinstance(value, (str, bytes)):
        return set().union(*(_names_of_limits(inner) for inner in value))
    return set()


def declared_limits(declarations: Mapping) -> list[str]:
    """Where an inventory declares rate limits and budgets: `llm_models: rpm, tpm` for each variable that has some."""
    found = []
    for variable, value in declarations.items():
        names = _names_of_limits(value)
        if names:
            found.append(f"{variable}: {', '.join(sorted(names))}")
    return found


def shared_nothing(processes: int, limits: t.Sequence[str]) -> str:
    """Why limits need Redis on several processes, or "" where they do not."""
    if processes < 2 or not limits:
        return ""
    return (
        f"rate limits or budgets are declared ({'; '.join(limits)}), and {processes} processes serve requests without Redis. "
        f"Each would count for itself and admit the whole limit: {processes} times of it in all. Set litellm_proxy_redis_host "
        "(group store has a Redis, or llm_redis_host names one), or run one gateway with one worker."
    )


def problems(
    settings: Mapping,
    *,
    workers: int,
    gateways: int,
    database_url: str,
    direct_database_url: str,
    salt_key: str,
    ui_password: str,
    limits: t.Sequence[str],
    needs_database: t.Sequence[str],
    secrets: Mapping,
    environment: Mapping,
) -> list[str]:
    """What an operator has to change before this can be deployed, each with the variable of the role and the remedy."""
    found = []
    if database_url:
        found += _with_database(settings, salt_key, ui_password)
    else:
        found += _without_database(settings, direct_database_url, needs_database)
    redis = settings["redis"]
    if not redis["host"]:
        if settings["cache"] == "redis":
            found.append(
                "litellm_proxy_cache is redis, but litellm_proxy_redis_host is empty. Name the Redis server, or take another cache."
            )
        own = ["litellm_proxy_max_budget"] if settings["max_budget"] else []
        own += ["litellm_proxy_provider_budgets"] if settings["provider_budgets"] else []
        alone = shared_nothing(workers * gateways, [*limits, *own])
        if alone:
            found.append(alone)
    for name, value in secrets.items():
        if not isinstance(value, str):
            found.append(f"litellm_proxy_secrets: {name} is not a string. Put its value in quotes.")
    for name, variable in _OWN_SECRETS.items():
        for where, values in (("litellm_proxy_secrets", secrets), ("litellm_proxy_environment", environment)):
            if name in values and name != "LITELLM_MASTER_KEY":
                found.append(f"{where} has {name}. Set {variable} instead.")
    if "LITELLM_MASTER_KEY" in environment:
        found.append("litellm_proxy_environment has LITELLM_MASTER_KEY, which diffs would show. Set litellm_proxy_master_key instead.")
    return found


def _with_database(settings: Mapping, salt_key: str, ui_password: str) -> list[str]:
    found = []
    weak = weakness(salt_key)
    if weak:
        found.append(
            f"litellm_proxy_salt_key: {weak}. It encrypts the secrets in the database, and cannot be changed later without losing them: "
            "set it in the vault to at least 32 random characters."
        )
    weak = weakness(ui_password, 12)
    if settings["dashboard"] and weak:
        found.append(
            f"litellm_proxy_ui_password: {weak}. Set it in the vault to at least 12 random characters, or "
            "litellm_proxy_dashboard to false. Without one of its own the password would be the master key."
        )
    if settings["database_connections"] < 1:
        found.append(f"litellm_proxy_database_connections must be at least 1, not {settings['database_connections']}.")
    for name in ("spend_logs_retention", "budget_duration"):
        if settings[name] and not _DURATION.match(settings[name]):
            found.append(f"litellm_proxy_{name} must be a number with s, m, h, d or mo, such as 30d, not {settings[name]!r}.")
    if settings["max_budget"] and not settings["budget_duration"]:
        found.append("litellm_proxy_max_budget needs litellm_proxy_budget_duration, such as 30d: after it the budget begins anew.")
    return found


def _without_database(settings: Mapping, direct_database_url: str, needs_database: t.Sequence[str]) -> list[str]:
    found = []
    needed = [*needs_database, *(["litellm_proxy_max_budget"] if settings["max_budget"] else [])]
    if needed:
        found.append(
            f"{', '.join(needed)}: this needs a database, and litellm_proxy_database_url is empty. Add a host to the group store, or set "
            "llm_database_url (in the vault) to the URL of a PostgreSQL server."
        )
    if direct_database_url:
        found.append("litellm_proxy_direct_database_url is set, but litellm_proxy_database_url is empty. Set both, or only the latter.")
    return found


def counted_alone(workers: int, gateways: int) -> str:
    """What several processes count for themselves without Redis, in a sentence, or "" for one process."""
    processes = workers * gateways
    if processes < 2:
        return ""
    nodes, each = "gateways" if gateways > 1 else "gateway", "workers" if workers > 1 else "worker"
    return (
        f"{gateways} {nodes} with {workers} {each} each share no Redis: every process counts "
        "its own requests in flight, cooldowns, cached answers and rate limits. Balancing is a little less even, a cooldown is found out "
        f"by each, and a rate limit would admit up to {processes} times its value."
    )


def database_url(host: str, *, port: int, user: str, password: str, database: str, sslmode: str) -> str:
    """A connection URL whatever characters the password has."""
    address = f"[{host}]" if ":" in host else host
    query = f"?sslmode={sslmode}" if sslmode else ""
    return f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@{address}:{port}/{quote(database, safe='')}{query}"
