# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the hosts of an inventory are."""

from __future__ import annotations

import typing as t

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


def host_ports(hosts: t.Sequence[str], hostvars: HostVars, port_variable: str, default_port: int) -> list[dict[str, t.Any]]:
    """Address and port of a service on each host, as role reverse_proxy takes them."""
    return [{"host": address_of(hostvars, host), "port": int(hostvars[host].get(port_variable) or default_port)} for host in hosts]


def edge_urls(hosts: t.Sequence[str], hostvars: HostVars, names_variable: str) -> dict[str, str]:
    """Where clients reach what each edge serves by the first of these names; an edge without any is left out."""
    urls = {}
    for host in hosts:
        values = hostvars[host]
        names = values.get(names_variable) or []
        port = int(values.get("reverse_proxy_https_port") or 443)
        if names:
            name = f"[{names[0]}]" if ":" in names[0] else names[0]
            urls[host] = f"https://{name}" + ("" if port == 443 else f":{port}")
    return urls
