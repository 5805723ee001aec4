# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables of an inventory that the collection does not have: nobody would notice that a misspelt one does nothing."""

from __future__ import annotations

import difflib
import typing as t
from pathlib import Path

import yaml

from ansible_collections.selfhosted.llm.plugins.plugin_utils.hosts import Groups, HostVars

_ROLES = Path(__file__).resolve().parents[2] / "roles"
# What the playbooks take beside the variables of roles.
SERVICE = frozenset(
    (
        "litellm_keys",
        "litellm_teams",
        "litellm_tiers",
        "litellm_users",
        "llm_address",
        "llm_ca_bundle",
        "llm_client",
        "llm_client_key",
        "llm_client_model",
        "llm_client_show_key",
        "llm_client_url",
        "llm_database_url",
        "llm_deploy_key_file",
        "llm_deploy_user",
        "llm_direct_database_url",
        "llm_edge_gateway_proxies",
        "llm_edge_read_timeout",
        "llm_edge_webui_proxies",
        "llm_edge_webui_url",
        "llm_extra_ollama_clients",
        "llm_extra_ollama_models",
        "llm_extra_server_clients",
        "llm_extra_store_clients",
        "llm_extra_tunnels",
        "llm_gateway_url",
        "llm_gpu_serial",
        "llm_inventory",
        "llm_key_directory",
        "llm_key_encrypt",
        "llm_key_overlap",
        "llm_key_retire",
        "llm_key_rotate",
        "llm_key_vault_id",
        "llm_models",
        "llm_no_proxy",
        "llm_npm_registry_url",
        "llm_old_keys",
        "llm_package_find_links",
        "llm_package_index_url",
        "llm_prisma_engines_mirror",
        "llm_proxy_url",
        "llm_redis_host",
        "llm_redis_password",
        "llm_redis_port",
        "llm_redis_tls",
        "llm_report_dir",
        "llm_report_name",
        "llm_rotate",
        "llm_rotate_overlap",
        "llm_servers_bind_address",
        "llm_servers_via",
        "llm_space_ports",
        "llm_store_max_connections",
        "llm_teardown_data",
        "llm_token_price",
        "llm_tunnel_address",
        "llm_tunnel_bastions",
        "llm_tunnel_port",
        "llm_vault_file",
        "llm_vault_password_file",
        "llm_verify_auth_keys",
        "llm_verify_ca_path",
        "llm_verify_edge_address",
        "llm_verify_from",
        "llm_verify_keys",
        "llm_verify_load",
        "llm_verify_min_days",
        "llm_verify_min_share",
        "llm_verify_python",
        "llm_verify_sdk",
        "llm_verify_timeout",
        "llm_verify_title",
        "llm_verify_url",
        "llm_verify_webui_url",
        "llm_webui_default_models",
        "llm_webui_embedding_model",
        "llm_webui_key",
        "llm_webui_models",
        "llm_webui_nodes",
    )
)


def role_variables() -> dict[str, frozenset[str]]:
    """The variables of each role, as its argument specs have them."""
    found = {}
    for path in sorted(_ROLES.glob("[a-z]*/meta/argument_specs.yml")):
        specs = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]
        found[path.parents[1].name] = frozenset(name for spec in specs.values() for name in spec.get("options") or {})
    return found


def _remedy(name: str, roles: t.Mapping[str, t.Collection[str]], known: t.Collection[str]) -> str | None:
    """What to do about a name, or None where nothing is wrong with it."""
    if name in known:
        return None
    close = difflib.get_close_matches(name, known, 1, 0.85)
    if close:
        return f"Did you mean {close[0]}?"
    role = next((role for role in roles if name.startswith(f"{role}_")), None)
    # Others that begin with llm_ may be the operator's own.
    return f"The README of role {role} lists those it has." if role else None


def misspelt(groups: Groups, hostvars: HostVars) -> list[str]:
    """A line for each variable of the inventory that looks like one of the collection and is none."""
    roles = role_variables()
    known = sorted(SERVICE.union(*roles.values()))
    prefixes = ("llm_", "litellm_", *(f"{role}_" for role in roles))
    where: dict[str, list[str]] = {}
    for host in dict.fromkeys(host for hosts in groups.values() for host in hosts):
        for name in hostvars[host]:
            if name.startswith(prefixes):
                where.setdefault(name, []).append(host)
    found = []
    for name, hosts in sorted(where.items()):
        remedy = _remedy(name, roles, known)
        if remedy:
            found.append(
                f"{name} ({hosts[0]}{f' and {len(hosts) - 1} more' if hosts[1:] else ''}) is no variable of the collection. {remedy}"
            )
    return found
