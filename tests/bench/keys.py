# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys as code at size: the inventory of the benchmark's gateway and its database, and what is declared there."""

from __future__ import annotations

import typing as t

KEYS, TEAMS, USERS = 500, 50, 50


def declaration(model: str, keys: int = KEYS, teams: int = TEAMS, users: int = USERS) -> dict[str, t.Any]:
    """Keys of three tiers, spread over teams and users."""
    tiers = {
        "free": {"rpm_limit": 10, "tpm_limit": 1000, "tokens_per_day": 10000},
        "premium": {"rpm_limit": 60, "tpm_limit": 7000, "tokens_per_day": 100000},
        "admin": {"rpm_limit": 1000, "tpm_limit": 70000, "tokens_per_day": 10000000},
    }
    names = list(tiers)
    return {
        "litellm_tiers": tiers,
        "litellm_users": [{"user_id": f"user-{number}", "user_role": "internal_user"} for number in range(users)],
        "litellm_teams": [
            {
                "team_alias": f"team-{number}",
                "models": [model],
                "max_budget": 10 + number,
                "budget_duration": "30d",
                "members": [{"user_id": f"user-{number % users}"}],
            }
            for number in range(teams)
        ],
        "litellm_keys": [
            {
                "key_alias": f"key-{number}",
                "tier": names[number % len(names)],
                "team_id": f"team-{number % teams}",
                "user_id": f"user-{number % users}",
                "models": [model],
                "duration": "365d",
                "metadata": {"number": number},
            }
            for number in range(keys)
        ],
    }


def inventory(gateway: str, store: str, secret: t.Callable[[], str], directory: str) -> dict[str, t.Any]:
    """One gateway and its database. No backend is called, so there need not be one."""
    model = "nothing-behind-it"
    variables: dict[str, t.Any] = {
        "ansible_connection": "community.docker.docker",
        "ansible_python_interpreter": "/usr/bin/python3",
        "llm_ca_bundle": "/etc/ssl/certs/ca-certificates.crt",
        "llm_prisma_engines_mirror": f"http://{store}:8000",
        "llm_models": [{"name": model, "servers": ["http://127.0.0.1:9/v1"]}],
        "litellm_proxy_master_key": f"sk-{secret()}",
        "litellm_proxy_salt_key": f"sk-{secret()}",
        "litellm_proxy_ui_password": secret(),
        "gateway_store_password": secret(),
        "gateway_store_redis_password": secret(),
        "llm_key_directory": directory,
        "llm_key_encrypt": False,
        **declaration(model),
    }
    groups: dict[str, t.Any] = {name: {"hosts": {host: {}}} for name, host in (("litellm", gateway), ("store", store), ("mirror", store))}
    return {**groups, "llm": {"hosts": {}}, "webui": {"hosts": {}}, "all": {"vars": variables}}
