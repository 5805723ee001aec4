# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the parts of the service are, and what of an inventory cannot work."""

from __future__ import annotations

import typing as t

from ansible_collections.selfhosted.llm.plugins.plugin_utils.models import Catalogue, ModelsError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HostVars = t.Mapping[str, t.Any]
Groups = t.Mapping[str, t.Sequence[str]]


def address_of(hostvars: HostVars, host: str) -> str:
    """Where other machines reach a host: llm_address, else what Ansible connects to, else its name."""
    values = hostvars[host]
    return str(values.get("llm_address") or values.get("ansible_host") or host)


def addresses(hosts: t.Sequence[str], hostvars: HostVars) -> list[str]:
    return [address_of(hostvars, host) for host in hosts]


def host_urls(hosts: t.Sequence[str], hostvars: HostVars, port_variable: str, default_port: int, url_variable: str = "") -> dict[str, str]:
    """The base URL of a service on each host; a host that has `url_variable` is reached there instead."""
    urls = {}
    for host in hosts:
        address = address_of(hostvars, host)
        bracketed = f"[{address}]" if ":" in address else address
        override = hostvars[host].get(url_variable) if url_variable else None
        urls[host] = str(override or f"http://{bracketed}:{hostvars[host].get(port_variable) or default_port}")
    return urls


def _port(value: t.Any) -> int | None:
    try:
        port = int(value)
    except (TypeError, ValueError):
        return None
    return port if 0 < port < 65536 else None


def inventory_problems(groups: Groups, hostvars: HostVars, models: t.Any) -> list[str]:
    """What an operator has to change in the inventory before a deploy, each with its remedy."""
    found = []
    if not groups.get("litellm"):
        found.append("The group litellm has no hosts. Name the machine that runs the gateway.")
    try:
        Catalogue(models, groups, host_urls(groups.get("llm", []), hostvars, "ollama_backend_port", 11434)).secrets()
    except ModelsError as exc:
        found.append(str(exc))
    ports: dict[tuple[str, int], str] = {}
    for group, variable, default in (
        ("llm", "ollama_backend_port", 11434),
        ("litellm", "litellm_proxy_port", 4000),
        ("webui", "open_webui_port", 8080),
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
