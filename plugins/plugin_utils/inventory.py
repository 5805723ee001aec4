# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of an inventory cannot work."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.selfhosted.llm.plugins.plugin_utils.hosts import LOOPBACK, Groups, HostVars, host_urls, is_address
from ansible_collections.selfhosted.llm.plugins.plugin_utils.models import Catalogue, ModelsError
from ansible_collections.selfhosted.llm.plugins.plugin_utils.names import misspelt
from ansible_collections.selfhosted.llm.plugins.plugin_utils.servers import resolved_models, server_problems


def _port(value: t.Any) -> int | None:
    try:
        port = int(value)
    except (TypeError, ValueError):
        return None
    return port if 0 < port < 65536 else None


def _address_problem(host: str, values: t.Mapping[str, t.Any]) -> str | None:
    given = values.get("llm_address")
    if given is None or (isinstance(given, str) and (re.fullmatch(r"[A-Za-z0-9.-]+", given) or is_address(given))):
        return None
    return (
        f"{host}: llm_address must be an address or a name by itself, such as 10.0.8.20, 2001:db8::20 or gpu-1.example.org, not {given!r}."
    )


def inventory_problems(groups: Groups, hostvars: HostVars, models: t.Any) -> list[str]:
    """What an operator has to change in the inventory before a deploy, each with its remedy."""
    found = misspelt(groups, hostvars)
    if not groups.get("litellm"):
        found.append("The group litellm has no hosts. Name the machine that runs the gateway.")
    if len(groups.get("store", [])) > 1:
        found.append(f"The group store has {len(groups['store'])} hosts, and the gateways share one. Leave the others out of the group.")
    every = dict.fromkeys(host for hosts in groups.values() for host in hosts)
    found += [problem for host in every if (problem := _address_problem(host, hostvars[host]))]
    try:
        resolved = resolved_models(models, hostvars)
        Catalogue(resolved, groups, host_urls(groups.get("llm", []), hostvars, "ollama_backend_port", 11434)).secrets()
        found += server_problems(models, hostvars, groups.get("litellm", []))
    except ModelsError as exc:
        found.append(str(exc))
    ports: dict[tuple[str, int], str] = {}
    for group, variable, default in (
        ("llm", "ollama_backend_port", 11434),
        ("litellm", "litellm_proxy_port", 4000),
        ("webui", "open_webui_port", 8080),
        ("edge", "reverse_proxy_http_port", 80),
        ("edge", "reverse_proxy_https_port", 443),
    ):
        for host in groups.get(group, []):
            port = _port(hostvars[host].get(variable) or default)
            if port is None:
                found.append(f"{host}: {variable} must be a port number from 1 to 65535, not {hostvars[host].get(variable)!r}.")
                continue
            if (host, port) in ports:
                found.append(f"{host}: {variable} is {port}, as is {ports[host, port]}. Give one of them another port.")
            ports[host, port] = variable
    gateways = set(groups.get("litellm", []))
    for host in groups.get("llm", []):
        if str(hostvars[host].get("ollama_backend_bind_address") or "") in LOOPBACK and gateways - {host}:
            found.append(
                f"{host}: ollama_backend_bind_address is loopback, but there is a gateway on another host. "
                "Leave it out: the firewall admits the gateways only."
            )
    return found
