# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the hosts of an inventory are."""

from __future__ import annotations

import ipaddress
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
    return {host: urls[0] for host in hosts if (urls := _named_urls(hostvars[host], names_variable))}


def edge_url(hosts: t.Sequence[str], hostvars: HostVars, names_variable: str) -> str:
    """The one URL by which all edges serve it. With several, nobody but the operator knows which is the one that users type: empty."""
    urls = {url for host in hosts for url in _named_urls(hostvars[host], names_variable)}
    return urls.pop() if len(urls) == 1 else ""


def edge_proxies(hosts: t.Sequence[str], hostvars: HostVars, names_variable: str) -> list[str]:
    """Where requests come from that these edges pass on. Servers compare addresses, so an edge that is known by a name only is left out."""
    return [address for host in hosts if hostvars[host].get(names_variable) and is_address(address := address_of(hostvars, host))]


def _named_urls(values: t.Mapping[str, t.Any], names_variable: str) -> list[str]:
    port = int(values.get("reverse_proxy_https_port") or 443)
    suffix = "" if port == 443 else f":{port}"
    return [f"https://[{name}]{suffix}" if ":" in name else f"https://{name}{suffix}" for name in values.get(names_variable) or []]


def is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True
