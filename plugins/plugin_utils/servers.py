# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenAI-compatible servers on hosts of the inventory: `servers: [{host: gpu-1, ports: 8080-8087}]` of `llm_models`.

One declaration holds for a gateway beside the servers and for one far away: `llm_servers_via` of the host says whether its servers are
reached over the network (`lan`) or at the gateway's end of a reverse SSH tunnel (`tunnel`). Pure functions on plain data.
"""

from __future__ import annotations

import difflib
import re
import typing as t

from ansible_collections.selfhosted.llm.plugins.plugin_utils.hosts import LOOPBACK, HostVars, address_of
from ansible_collections.selfhosted.llm.plugins.plugin_utils.models import ModelsError, kind_of
from ansible_collections.selfhosted.llm.plugins.plugin_utils.ports import port_list

VIA = ("lan", "tunnel")
# What llama-server and most others answer on; a server that is named by a URL is not asked unless it says where.
HEALTH = "/health"

_KEYS: dict[str, t.Any] = {
    "host": str,
    "ports": (int, str, list),
    "tunnel_ports": (int, str, list),
    "scheme": str,
    "path": str,
    "health": str,
}
# What an entry shares with one that has a URL.
_SHARED = ("model", "api_key", "rpm", "tpm", "max_parallel_requests")


class Server(t.NamedTuple):
    """One server on a host of the inventory. `port` is its own, `tunnel_port` the one at the gateway's end of a tunnel."""

    model: str
    host: str
    port: int
    tunnel_port: int
    via: str
    address: str  # where a gateway reaches it
    scheme: str
    path: str
    health: str
    options: dict[str, t.Any]

    @property
    def name(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def base(self) -> str:
        bracketed = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.scheme}://{bracketed}:{self.tunnel_port if self.via == 'tunnel' else self.port}"


def port_numbers(where: str, value: t.Any) -> list[int]:
    try:
        return port_list(value)
    except ValueError as exc:
        raise ModelsError(f"{where} {exc}") from exc


def _check(where: str, item: t.Mapping[str, t.Any]) -> None:
    for key, value in item.items():
        if key not in _KEYS and key not in _SHARED:
            raise ModelsError(f"{where}: unknown key {key!r} beside host. Known are: {', '.join(sorted([*_KEYS, *_SHARED]))}")
        kinds = _KEYS.get(key)
        if kinds and (not isinstance(value, kinds) or isinstance(value, bool)):
            raise ModelsError(f"{where}: {key} must not be {kind_of(value)}, see docs/models.md")
    if "ports" not in item:
        raise ModelsError(f"{where}: ports is missing beside host {item['host']!r}. Give the ports of its servers, such as 8080-8087")
    if item.get("scheme", "http") not in ("http", "https"):
        raise ModelsError(f"{where}: scheme must be http or https, not {item['scheme']!r}")
    for key in ("path", "health"):
        if item.get(key) and not item[key].startswith("/"):
            raise ModelsError(f"{where}: {key} must begin with a slash, not {item[key]!r}")


class _Places:
    """How each host is reached: `via` and the address. Looked up once, as Ansible makes the variables of a host anew for each look."""

    def __init__(self, hostvars: HostVars) -> None:
        self._hostvars = hostvars
        self._found: dict[str, tuple[str, str]] = {}

    def of(self, host: str) -> tuple[str, str]:
        if host not in self._found:
            self._found[host] = self._look(host)
        return self._found[host]

    def misspelt(self, host: str) -> str | None:
        """The host of the inventory that is meant by one which is not there, if one is nearly called so. Another number is another host."""
        if host in self._hostvars:
            return None
        names = {re.sub(r"\d", "0", name): name for name in self._hostvars}
        alike = re.sub(r"\d", "0", host)
        close = difflib.get_close_matches(alike, list(names), 1, 0.85) if alike not in names else []
        return names[close[0]] if close else None

    def _look(self, host: str) -> tuple[str, str]:
        if host not in self._hostvars:
            # Not of this inventory: a name or an address in the network.
            return "lan", host
        via = self._hostvars[host].get("llm_servers_via") or "lan"
        if via not in VIA:
            raise ModelsError(f"{host}: llm_servers_via must be lan or tunnel, not {via!r}")
        return via, "127.0.0.1" if via == "tunnel" else address_of(self._hostvars, host)


def _expand(model: str, item: t.Mapping[str, t.Any], places: _Places) -> list[Server]:
    where = f"llm_models ({model}).servers"
    _check(where, item)
    host = item["host"]
    via, address = places.of(host)
    if close := places.misspelt(host):
        raise ModelsError(f"{where}: host {host!r} is not in the inventory. Did you mean {close}? A server elsewhere is given by its url")
    ports = port_numbers(f"{where}: ports", item["ports"])
    ends = port_numbers(f"{where}: tunnel_ports", item["tunnel_ports"]) if "tunnel_ports" in item else ports
    if len(ends) != len(ports):
        raise ModelsError(f"{where}: {host} has {len(ports)} ports and {len(ends)} tunnel_ports. Give one for each port, or leave them out")
    scheme, path, health = item.get("scheme", "http"), item.get("path", "/v1"), item.get("health", HEALTH)
    options = {key: item[key] for key in _SHARED if key in item}
    return [Server(model, host, port, end, via, address, scheme, path, health, options) for port, end in zip(ports, ends, strict=True)]


def _is_on_host(item: t.Any) -> bool:
    return isinstance(item, t.Mapping) and "host" in item


def _declared(models: t.Any) -> t.Iterator[tuple[str, t.Mapping[str, t.Any]]]:
    """The entries with a host, by the name of their model. What else is wrong with the list is said where it is checked."""
    for entry in models if isinstance(models, list) else []:
        if isinstance(entry, t.Mapping) and isinstance(entry.get("servers"), list):
            for item in entry["servers"]:
                if _is_on_host(item):
                    if "url" in item:
                        raise ModelsError(f"llm_models ({entry.get('name')}).servers: url and host are two ways to say the same. Give one")
                    yield str(entry.get("name")), item


def servers_of(models: t.Any, hostvars: HostVars) -> list[Server]:
    """Every server on a host of the inventory, one for each model that it serves."""
    places = _Places(hostvars)
    return [server for model, item in _declared(models) for server in _expand(model, item, places)]


def resolved_models(models: t.Any, hostvars: HostVars) -> t.Any:
    """`llm_models` with URLs in the place of hosts and ports, as a gateway reaches them."""
    # Says what is wrong with them.
    list(_declared(models))
    if not isinstance(models, list):
        return models
    places = _Places(hostvars)
    resolved = []
    for entry in models:
        if isinstance(entry, t.Mapping) and isinstance(entry.get("servers"), list):
            servers: list[t.Any] = []
            for item in entry["servers"]:
                if not _is_on_host(item):
                    servers.append(item)
                    continue
                servers += [
                    {"url": server.base + server.path, "name": server.name, **server.options}
                    for server in _expand(str(entry.get("name")), item, places)
                ]
            entry = {**entry, "servers": servers}
        resolved.append(entry)
    return resolved


def server_endpoints(models: t.Any, hostvars: HostVars) -> list[dict[str, t.Any]]:
    """Where each server says whether it is well, as a gateway reaches it: the `endpoints` of the module endpoint_check."""
    found: dict[str, dict[str, t.Any]] = {}
    for server in servers_of(models, hostvars):
        if server.health:
            endpoint = {"name": server.name, "url": server.base, "path": server.health, "via": server.via}
            if server.options.get("api_key"):
                endpoint["token"] = server.options["api_key"]
            found.setdefault(server.name, endpoint)
    return list(found.values())


def tunnelled_servers(models: t.Any, hostvars: HostVars) -> list[dict[str, t.Any]]:
    """The servers that gateways reach through a tunnel: `host`, `port` there, `tunnel_port` at the gateway's end, and how it is asked."""
    found = {
        (server.host, server.port): {
            "host": server.host,
            "port": server.port,
            "tunnel_port": server.tunnel_port,
            "scheme": server.scheme,
            "health": server.health,
        }
        for server in servers_of(models, hostvars)
        if server.via == "tunnel"
    }
    return list(found.values())


def server_problems(models: t.Any, hostvars: HostVars, gateways: t.Sequence[str]) -> list[str]:
    """What keeps declared servers from being reached, each with its remedy. ModelsError for a declaration that cannot be read."""
    found: list[str] = []
    ends: dict[int, Server] = {}
    own = {gateway: str(hostvars[gateway].get("litellm_proxy_port") or 4000) for gateway in gateways}
    seen: dict[tuple[str, int], Server] = {}
    for server in servers_of(models, hostvars):
        first = seen.setdefault((server.host, server.port), server)
        if first.tunnel_port != server.tunnel_port:
            found.append(
                f"llm_models ({server.model}): {server.name} ends at port {server.tunnel_port} of the gateways, and for {first.model} at "
                f"{first.tunnel_port}. Give both the same tunnel_ports."
            )
        if server.via == "lan" and server.address in LOOPBACK and set(gateways) - {server.host}:
            found.append(
                f"{server.host}: gateways would look for its servers at {server.address}, which is themselves. "
                "Set llm_address to where they reach it, or llm_servers_via to tunnel."
            )
        if server.via != "tunnel":
            continue
        where = f"llm_models ({server.model}): "
        remedy = "Give it another port there with tunnel_ports."
        other = ends.setdefault(server.tunnel_port, server)
        if (other.host, other.port) != (server.host, server.port):
            found.append(
                f"{where}the tunnels of {server.name} and {other.name} both end at port {server.tunnel_port} of the gateways. {remedy}"
            )
        found += [
            f"{where}the tunnel of {server.name} would end at port {port} of {gateway}, which is the gateway's own. {remedy}"
            for gateway, port in own.items()
            if port == str(server.tunnel_port)
        ]
    return list(dict.fromkeys(found))
