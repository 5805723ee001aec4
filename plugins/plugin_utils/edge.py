# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the declaration of an edge node cannot work."""

from __future__ import annotations

import ipaddress
import re
import typing as t

Values = t.Mapping[str, t.Any]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\Z")
_SIZE = re.compile(r"[1-9]\d*[kmg]?\Z")
_PATH = re.compile(r"/[A-Za-z0-9._~/-]+\Z")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]*\Z")


def address(value: t.Any) -> Address | None:
    try:
        return ipaddress.ip_address(str(value))
    except ValueError:
        return None


def is_name(value: str) -> bool:
    """Whether a certificate and nginx can have it as a host's name. Digits and dots alone would be an address."""
    return len(value) <= 253 and bool(_NAME.match(value)) and not re.match(r"[0-9.]+\Z", value)


def _number(values: Values, name: str) -> int:
    return int(values[name])


def _names(values: Values) -> list[str]:
    """The names of the service, and whether there is something behind each kind of them."""
    found = []
    gateways, webuis = values["reverse_proxy_gateway_names"], values["reverse_proxy_webui_names"]
    if not gateways and not webuis:
        found.append(
            "There is no name to answer to: set reverse_proxy_gateway_names (the API), reverse_proxy_webui_names (Open WebUI), or both."
        )
    for kind, names, group in (("gateway", gateways, "litellm"), ("webui", webuis, "webui")):
        for name in names:
            if address(name) is None and not is_name(str(name)):
                found.append(
                    f"reverse_proxy_{kind}_names has {name!r}: names are like api.example.org, in lower case, without wildcard and port; "
                    "addresses are possible too."
                )
        if names and not values[f"reverse_proxy_{kind}s"]:
            found.append(
                f"reverse_proxy_{kind}_names has names, but reverse_proxy_{kind}s is empty. Name the hosts behind them, as "
                f"[{{host: 192.0.2.10, port: 4000}}]; the playbooks take those of group {group}."
            )
    twice = sorted({str(name) for name in [*gateways, *webuis] if [*gateways, *webuis].count(name) > 1})
    if twice:
        found.append(f"Each name leads to one place: reverse_proxy_gateway_names and reverse_proxy_webui_names repeat {', '.join(twice)}.")
    return found


def _hosts(values: Values) -> list[str]:
    found = []
    for variable in ("reverse_proxy_gateways", "reverse_proxy_webuis"):
        seen = set()
        for entry in values[variable]:
            host, port = str(entry["host"]), int(entry["port"])
            if address(host) is None and not is_name(host.lower()):
                found.append(f"{variable} has the host {host!r}: give an address or a name, without scheme and port.")
            if not 0 < port < 65536:
                found.append(f"{variable}: the port of {host} must be from 1 to 65535, not {port}.")
            if (host, port) in seen:
                found.append(f"{variable} has {host} port {port} twice.")
            seen.add((host, port))
    return found


def _networks(values: Values) -> list[str]:
    found = []
    for name in ("reverse_proxy_admin_networks", "reverse_proxy_unlimited_networks", "reverse_proxy_trusted_proxies"):
        for entry in values[name]:
            try:
                network = ipaddress.ip_network(str(entry), strict=False)
            except ValueError:
                found.append(f"{name} has {entry!r}, which is neither an address nor a network such as 10.0.8.0/24.")
                continue
            if name == "reverse_proxy_trusted_proxies" and network.prefixlen == 0:
                found.append(f"{name} has {entry}: everybody could then claim any address. List the balancers in front.")
    return found


def _certificate(values: Values) -> list[str]:
    source = values["reverse_proxy_certificate"]
    given = [name for name in ("reverse_proxy_tls_certificate", "reverse_proxy_tls_key") if values[name]]
    if source == "given" and len(given) < 2:
        return ["reverse_proxy_certificate is given: set reverse_proxy_tls_certificate and reverse_proxy_tls_key, as PEM texts."]
    if source != "given" and given:
        return [f"{' and '.join(given)}: set, but reverse_proxy_certificate is {source}. Set it to given to have it used."]
    if source != "acme":
        return []
    found = []
    addresses = [name for name in [*values["reverse_proxy_gateway_names"], *values["reverse_proxy_webui_names"]] if address(name)]
    if addresses:
        found.append(f"reverse_proxy_certificate is acme, which gives certificates to names, not to {', '.join(map(str, addresses))}.")
    if not re.match(r"https://[^\s/]+/\S*\Z", values["reverse_proxy_acme_directory"]):
        found.append(f"reverse_proxy_acme_directory must be an https URL, not {values['reverse_proxy_acme_directory']!r}.")
    if values["reverse_proxy_acme_email"] and not re.match(r"[^\s@]+@[^\s@]+\Z", values["reverse_proxy_acme_email"]):
        found.append(f"reverse_proxy_acme_email is not an e-mail address: {values['reverse_proxy_acme_email']!r}.")
    return found


def _limits(values: Values) -> list[str]:
    found = []
    for name in ("reverse_proxy_max_body_size", "reverse_proxy_webui_max_body_size"):
        if not _SIZE.match(str(values[name])):
            found.append(f"{name} must be a size such as 100m, not {values[name]!r}.")
    for name in ("rate_limit", "rate_burst", "connection_limit", "sign_in_limit", "hsts_max_age"):
        if _number(values, f"reverse_proxy_{name}") < 0:
            found.append(f"reverse_proxy_{name} must not be negative; 0 turns it off.")
    for name in ("connect_timeout", "read_timeout", "max_fails", "fail_timeout", "start_timeout", "stop_timeout"):
        if _number(values, f"reverse_proxy_{name}") < 1:
            found.append(f"reverse_proxy_{name} must be at least 1.")
    if _number(values, "reverse_proxy_worker_connections") < 64:
        found.append("reverse_proxy_worker_connections must be at least 64: a request takes two.")
    if _number(values, "reverse_proxy_read_timeout") <= _number(values, "reverse_proxy_connect_timeout"):
        found.append("reverse_proxy_read_timeout must be longer than reverse_proxy_connect_timeout, and than the gateway's own timeout.")
    for name in ("reverse_proxy_http_port", "reverse_proxy_https_port"):
        if not 0 < _number(values, name) < 65536:
            found.append(f"{name} must be from 1 to 65535, not {values[name]}.")
    if _number(values, "reverse_proxy_http_port") == _number(values, "reverse_proxy_https_port"):
        found.append("reverse_proxy_http_port and reverse_proxy_https_port are the same: change one.")
    return found


def _words(values: Values) -> list[str]:
    """What goes into the configuration as it is."""
    found = []
    if not _HEADER.match(values["reverse_proxy_real_ip_header"]):
        found.append(f"reverse_proxy_real_ip_header must be the name of a header, not {values['reverse_proxy_real_ip_header']!r}.")
    paths = values["reverse_proxy_public_paths"]
    for path in paths:
        if not _PATH.match(str(path)) or "//" in str(path) or paths.count(path) > 1:
            found.append(
                f"reverse_proxy_public_paths has {path!r}: each is the beginning of a path, once, such as /mcp. "
                "To open everything to somebody, list their networks in reverse_proxy_admin_networks."
            )
    return found


def _vip(values: Values, own_addresses: t.Iterable[str]) -> list[str]:
    """The shared address and the nodes that share it."""
    found = []
    own = {address(one) for one in own_addresses}
    peers = [str(peer) for peer in values["reverse_proxy_peers"]]
    for peer in peers:
        if address(peer) is None and not is_name(peer.lower()):
            found.append(f"reverse_proxy_peers has {peer!r}, which is neither an address nor a name.")
        elif address(peer) in own:
            found.append(f"reverse_proxy_peers has {peer}, which is this host itself: list the others.")
    vip = str(values["reverse_proxy_vip"])
    if not vip:
        return found
    try:
        shared = ipaddress.ip_interface(vip)
    except ValueError:
        shared = None
    if shared is None or "/" not in vip:
        return [*found, f"reverse_proxy_vip must be an address with the length of its prefix, such as 192.0.2.10/24, not {vip!r}."]
    if not peers:
        found.append("reverse_proxy_vip is shared with nobody: list the other edge nodes in reverse_proxy_peers.")
    others = [peer for peer in peers if address(peer) and address(peer).version != shared.version]  # type: ignore[union-attr]
    if others:
        found.append(
            f"reverse_proxy_vip is IPv{shared.version}, but reverse_proxy_peers has {', '.join(others)}: both must be of one kind."
        )
    if not 1 <= _number(values, "reverse_proxy_vip_router_id") <= 255:
        found.append("reverse_proxy_vip_router_id must be from 1 to 255, the same on all nodes that share the address.")
    if not 51 <= _number(values, "reverse_proxy_vip_priority") <= 254:
        found.append("reverse_proxy_vip_priority must be from 51 to 254: a node that reaches no gateway counts 50 less.")
    return found


def problems(values: Values, own_addresses: t.Iterable[str] = ()) -> list[str]:
    """What an operator has to change, each with its variable and the remedy. Values are those of the role's variables, by name."""
    return [
        *_names(values),
        *_hosts(values),
        *_certificate(values),
        *_networks(values),
        *_limits(values),
        *_words(values),
        *_vip(values, own_addresses),
    ]
