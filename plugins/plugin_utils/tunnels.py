# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SSH tunnels: from one list of servers to both ends of each tunnel, what cannot work, and the texts that sshd and ss speak.

Pure functions on plain data. A "listen" is where connections are taken, a "target" where they go. A reverse forward listens on the
SSH server, a forward one on the client; both on loopback only.
"""

from __future__ import annotations

import base64
import binascii
import re
import typing as t

from ansible_collections.selfhosted.llm.plugins.plugin_utils.hosts import address_of

Mapping = t.Mapping[str, t.Any]
Mappings = t.Sequence[Mapping]

REVERSE, FORWARD = "reverse", "forward"
# sshd binds these two as they are asked for; of any other address it makes its own choice.
LOOPBACK = ("127.0.0.1", "::1")
# No ordinary user can listen here. A key without any permitlisten could listen anywhere.
NOWHERE = "127.0.0.1:1"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")
_HOST = re.compile(r"[A-Za-z0-9:][A-Za-z0-9_.:-]*\Z")
_USER = re.compile(r"[a-z_][a-z0-9_-]*\Z")
_ENDPOINT = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9][A-Za-z0-9_.-]*)):(?P<port>[0-9]{1,5})\Z")
_KEY = re.compile(
    r"(?P<kind>ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)|sk-[a-z0-9-]+@openssh\.com) (?P<data>[A-Za-z0-9+/]+={0,2})(?: .*)?\Z"
)


class Endpoint(t.NamedTuple):
    """An address and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def endpoint(text: t.Any) -> Endpoint:
    """`127.0.0.1:8080` or `[::1]:8080`. Raises ValueError for anything else."""
    match = _ENDPOINT.match(str(text))
    if not match or not 0 < int(match["port"]) < 65536:
        raise ValueError(f"{text!r} is no address with a port, such as 127.0.0.1:8080 or [::1]:8080")
    return Endpoint(match["six"] or match["host"], int(match["port"]))


def listener(text: t.Any) -> Endpoint:
    """An endpoint that an ordinary user can listen on, for nobody but the host itself."""
    place = endpoint(text)
    if place.host not in LOOPBACK:
        raise ValueError(
            f"{text!r} is not on loopback: use 127.0.0.1 or [::1], and a service such as nginx before it where others have to reach it"
        )
    if place.port < 1024:
        raise ValueError(f"{text!r} has a port below 1024, which is root's: take a higher one")
    return place


def bare_key(text: t.Any) -> str:
    """Type and data of a public key, without its comment. Raises ValueError where it is none."""
    match = _KEY.match(str(text).strip())
    try:
        data = base64.b64decode(match["data"], validate=True) if match else b""
    except binascii.Error:
        data = b""
    # The data begins with the type once more, after its length.
    if not match or data[4 : 4 + len(match["kind"])] != match["kind"].encode():
        raise ValueError(f"{str(text)[:40]!r} is no public key, such as the one line of an ssh_host_ed25519_key.pub or id_ed25519.pub")
    return f"{match['kind']} {match['data']}"


# --- from one list to both ends -----------------------------------------------------------------


def _reverse(server: Mapping) -> dict[str, t.Any]:
    return {
        "direction": REVERSE,
        "listen": f"127.0.0.1:{server.get('tunnel_port') or server['port']}",
        "target": f"127.0.0.1:{server['port']}",
        # TLS would not answer the plain question.
        "health": server.get("health") or ("tcp" if server.get("scheme") == "https" else "/health"),
    }


def _of_host(servers: Mappings, host: str, gateway: str) -> list[dict[str, t.Any]]:
    # What a gateway serves itself is there already.
    return [
        _reverse(server)
        for server in servers
        if server["host"] == host and not (host == gateway and server["port"] == (server.get("tunnel_port") or server["port"]))
    ]


def _extra(entry: Mapping) -> dict[str, t.Any]:
    return {
        "direction": _direction(entry),
        "listen": entry["listen"],
        "target": entry["target"],
        "health": entry.get("health") or "tcp",
    }


def tunnel_gateways(hosts: t.Sequence[str], hostvars: t.Mapping[str, Mapping]) -> dict[str, dict[str, t.Any]]:
    """The gateways as host_tunnels() wants them; the host keys are known when role ssh_tunnel has been there."""
    found: dict[str, dict[str, t.Any]] = {}
    for host in hosts:
        values = hostvars[host]
        found[host] = {
            "address": str(values.get("llm_tunnel_address") or address_of(hostvars, host)),
            "ssh_port": int(values.get("llm_tunnel_port") or values.get("ansible_port") or 22),
            "host_keys": list(values.get("ssh_tunnel_host_keys") or []),
        }
        if values.get("ssh_tunnel_server_user"):
            found[host]["user"] = values["ssh_tunnel_server_user"]
    return found


def host_tunnels(
    servers: Mappings,
    host: str,
    gateways: t.Mapping[str, Mapping],
    extra: Mappings = (),
    bastions: t.Mapping[str, Mapping] | None = None,
) -> list[dict[str, t.Any]]:
    """ssh_tunnel_tunnels of a host: its servers to every gateway, and what is extra to the gateway or bastion that it names."""
    ends = {**gateways, **(bastions or {})}
    unknown = sorted({str(entry.get("to")) for entry in extra} - set(ends))
    if unknown:
        raise ValueError(
            f"llm_extra_tunnels of {host} goes to {', '.join(unknown)}. Known are: {', '.join(ends) or 'none'}. "
            "Correct it, put the host into the group litellm, or describe it in llm_tunnel_bastions"
        )
    tunnels = []
    for name, end in ends.items():
        own = _of_host(servers, host, name) if name in gateways else []
        forwards = own + [_extra(entry) for entry in extra if entry["to"] == name]
        if forwards:
            tunnel = {"name": name, "host": str(end["address"]), "port": int(end.get("ssh_port") or 22)}
            tunnel.update({"host_keys": list(end.get("host_keys") or []), "forwards": forwards})
            tunnels.append({**tunnel, "user": end["user"]} if end.get("user") else tunnel)
    return tunnels


def tunnel_clients(
    servers: Mappings, public_keys: t.Mapping[str, str], gateway: str, extra: t.Mapping[str, Mappings] | None = None
) -> list[dict[str, t.Any]]:
    """ssh_tunnel_clients of a gateway: each host that opens a tunnel to it, with its key, or without where that is not known now."""
    clients = []
    for host in dict.fromkeys([server["host"] for server in servers] + list(extra or {})):
        declared = [_extra(entry) for entry in (extra or {}).get(host, []) if entry.get("to") == gateway]
        forwards = _of_host(servers, host, gateway) + declared
        if forwards:
            clients.append({"name": host, "public_key": public_keys.get(host) or "", **permissions(forwards)})
    return clients


def _direction(forward: Mapping) -> str:
    return str(forward.get("direction") or REVERSE)


def permissions(forwards: Mappings) -> dict[str, list[str]]:
    """What the server has to permit for these forwards."""
    return {
        "listen": [str(forward["listen"]) for forward in forwards if _direction(forward) == REVERSE],
        "open": [str(forward["target"]) for forward in forwards if _direction(forward) == FORWARD],
    }


# --- what cannot work ---------------------------------------------------------------------------


def _complaints(where: str, checks: t.Iterable[tuple[t.Callable[[t.Any], t.Any], t.Any]]) -> list[str]:
    found = []
    for check, value in checks:
        try:
            check(value)
        except ValueError as exc:
            found.append(f"{where}: {exc}.")
    return found


def _repeated(values: t.Iterable[t.Hashable]) -> list[t.Any]:
    seen: dict[t.Hashable, int] = {}
    for value in values:
        seen[value] = seen.get(value, 0) + 1
    return [value for value, count in seen.items() if count > 1]


def _same(text: t.Any) -> str:
    """One spelling for places that are the same."""
    try:
        return str(endpoint(text))
    except ValueError:
        return str(text)


def _tunnel_problems(tunnel: Mapping) -> list[str]:
    where = f"ssh_tunnel_tunnels ({tunnel['name']})"
    found = []
    if not _NAME.match(tunnel["name"]):
        found.append(f"{where}: name becomes that of a unit: letters, digits, dots, dashes and underscores, at most 63.")
    if not _HOST.match(tunnel["host"]):
        found.append(f"{where}: host must be a name or an address, not {tunnel['host']!r}.")
    if tunnel.get("user") and not _USER.match(tunnel["user"]):
        found.append(f"{where}: user must be the name of an account on the server, not {tunnel['user']!r}.")
    if not 0 < tunnel.get("port", 22) < 65536:
        found.append(f"{where}: port must be from 1 to 65535, not {tunnel['port']}.")
    if not tunnel["forwards"]:
        found.append(f"{where}: forwards is empty. Say what goes through the tunnel, or take it out of the list.")
    found += _complaints(f"{where}, host_keys", ((bare_key, key) for key in tunnel.get("host_keys") or []))
    for forward in tunnel["forwards"]:
        found += _complaints(f"{where}, listen", [(listener, forward["listen"])])
        found += _complaints(f"{where}, target", [(endpoint, forward["target"])])
        health = forward.get("health") or "tcp"
        if health != "tcp" and not re.match(r"/[!-~]*\Z", health):
            found.append(f"{where}: health must be tcp, or the path of a request such as /health, not {health!r}.")
    return found


def tunnel_problems(tunnels: Mappings) -> list[str]:
    """What an operator has to change in ssh_tunnel_tunnels, each with its remedy."""
    found = [problem for tunnel in tunnels for problem in _tunnel_problems(tunnel)]
    found += [
        f"ssh_tunnel_tunnels: {name} is there twice. Give each tunnel a name of its own." for name in _repeated(x["name"] for x in tunnels)
    ]
    forwards = [(tunnel, forward) for tunnel in tunnels for forward in tunnel["forwards"]]
    there = [(tunnel["host"], tunnel.get("port", 22), _same(f["listen"])) for tunnel, f in forwards if _direction(f) == REVERSE]
    here = [_same(f["listen"]) for _tunnel, f in forwards if _direction(f) == FORWARD]
    for host, _port, place in _repeated(there):
        found.append(f"ssh_tunnel_tunnels: two reverse forwards listen on {place} of {host}. Give one of them another port in listen.")
    for place in _repeated(here):
        found.append(f"ssh_tunnel_tunnels: two forwards listen on {place} of this host. Give one of them another port in listen.")
    return found


def tunnel_client_problems(clients: Mappings) -> list[str]:
    """What an operator has to change in ssh_tunnel_clients, each with its remedy."""
    found = []
    for client in clients:
        where = f"ssh_tunnel_clients ({client['name']})"
        if not _NAME.match(client["name"]):
            found.append(f"{where}: name must have letters, digits, dots, dashes and underscores only, at most 63.")
        if client.get("public_key"):
            found += _complaints(f"{where}, public_key", [(bare_key, client["public_key"])])
        if not client.get("listen") and not client.get("open"):
            found.append(f"{where}: neither listen nor open says what the key is for. Fill one of them, or leave the client out.")
        found += _complaints(f"{where}, listen", ((listener, place) for place in client.get("listen") or []))
        found += _complaints(f"{where}, open", ((endpoint, place) for place in client.get("open") or []))
    for name in _repeated(client["name"] for client in clients):
        found.append(f"ssh_tunnel_clients: {name} is there twice. Put all of its ports into one entry.")
    users: dict[str, list[str]] = {}
    for client in clients:
        for place in client.get("listen") or []:
            users.setdefault(_same(place), []).append(client["name"])
    for place, names in users.items():
        if len(names) > 1:
            found.append(
                f"ssh_tunnel_clients: {' and '.join(names)} would both listen on {place}, and only the first to connect can. "
                "Give one of them another port on this server (tunnel_ports of the servers of a model, or listen)."
            )
    keys: dict[str, list[str]] = {}
    for client in clients:
        if client.get("public_key"):
            keys.setdefault(" ".join(str(client["public_key"]).split()[:2]), []).append(client["name"])
    for names in keys.values():
        if len(names) > 1:
            found.append(
                f"ssh_tunnel_clients: {' and '.join(names)} have the same public_key, and sshd looks at the first only. "
                "Was one machine copied from the other? Remove the key pair on one of them, and run again: it makes a new one."
            )
    return found


# --- the client's files -------------------------------------------------------------------------


def tunnel_plan(tunnel: Mapping) -> dict[str, t.Any]:
    """A tunnel with its defaults, its unit and its sockets, for the configuration of ssh and for the health check.

    Each reverse forward has a loop: a socket on the client from which ssh goes to the listener on the server, and so back to the target.
    """
    unit = f"llm-tunnel-{tunnel['name']}"
    folder = f"/run/{unit}"
    forwards = []
    for forward in tunnel["forwards"]:
        place = endpoint(forward["listen"])
        plan = {"direction": _direction(forward), "listen": str(place), "target": _same(forward["target"])}
        plan["health"] = forward.get("health") or "tcp"
        if plan["direction"] == REVERSE:
            plan["loop"] = f"{folder}/loop{'6' if ':' in place.host else ''}-{place.port}"
        forwards.append(plan)
    return {
        "name": tunnel["name"],
        "host": tunnel["host"],
        "port": tunnel.get("port") or 22,
        "user": tunnel.get("user") or "llm-tunnel-server",
        "host_keys": list(tunnel.get("host_keys") or []),
        "unit": unit,
        "folder": folder,
        "control": f"{folder}/control",
        "forwards": forwards,
    }


def known_hosts(host_keys: t.Sequence[str], name: str, installed: str = "") -> str:
    """The text of a known_hosts for one server; without keys, what is installed."""
    return "".join(f"{name} {bare_key(key)}\n" for key in host_keys) or installed


# --- the server's files -------------------------------------------------------------------------


def key_options(client: Mapping) -> str:
    """What a key may do, as options of a line in authorized_keys: listen and open there, nothing else.

    It may also reach its own listeners: that is how the client proves that data goes through.
    """
    listen = [_same(place) for place in client.get("listen") or []]
    opened = list(dict.fromkeys(listen + [_same(place) for place in client.get("open") or []]))
    options = ["restrict", "port-forwarding"]
    options += [f'permitlisten="{place}"' for place in listen or [NOWHERE]]
    options += [f'permitopen="{place}"' for place in opened]
    return ",".join(options)


def _installed_keys(text: str) -> dict[str, str]:
    """The keys of a file that authorized_keys() wrote, by the names of the clients."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 4 and not line.startswith("#"):
            found[words[3]] = f"{words[1]} {words[2]}"
    return found


def authorized_keys(clients: Mappings, installed: str = "") -> list[str]:
    """A line for each client. One without a public_key keeps the key that it has in `installed`, and has no line where there is none."""
    before = _installed_keys(installed)
    lines = []
    for client in clients:
        key = bare_key(client["public_key"]) if client.get("public_key") else before.get(client["name"])
        if key:
            lines.append(f"{key_options(client)} {key} {client['name']}")
    return lines


def withdrawals(lines: t.Sequence[str], installed: str) -> list[str]:
    """Clients of the installed file whose key may do less by the new lines, or nothing any more."""
    after = {(words[1], words[2]): set(words[0].split(",")) for words in map(str.split, lines)}
    found = []
    for line in installed.splitlines():
        words = line.split()
        if len(words) == 4 and not line.startswith("#") and set(words[0].split(",")) - after.get((words[1], words[2]), set()):
            found.append(words[3])
    return found


def listeners(text: str) -> list[dict[str, t.Any]]:
    """What `ss -Hltnpe` prints, as address, port, uid of the owner, and names of the processes."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 5 or words[0] != "LISTEN":
            continue
        address, _colon, port = words[3].rpartition(":")
        uid = re.search(r"\buid:(\d+)", line)
        found.append(
            {
                "address": address.strip("[]").split("%")[0],
                "port": int(port),
                # Not printed for root.
                "uid": int(uid.group(1)) if uid else 0,
                "processes": sorted(set(re.findall(r'\("([^"]+)",pid=', line))),
            }
        )
    return found


def _holder(item: Mapping) -> str:
    return f"{'/'.join(item['processes']) or 'a process'} of uid {item['uid']}"


def listener_problems(text: str, clients: Mappings, uid: int | str | None, expected: bool = True) -> list[str]:
    """What is wrong with the listeners of the clients on the server, from the output of `ss -Hltnpe`.

    `uid` is that of the account in which the tunnels end, None where it is still to be made. Without `expected` they need not be there yet,
    and those of clients that are about to lose their keys may still be.
    """
    there = listeners(text)
    uid = None if uid is None else int(uid)
    wanted = [(client["name"], endpoint(place)) for client in clients for place in client.get("listen") or []]
    found = []
    for name, place in wanted:
        # A listener on all addresses takes the port of loopback too.
        everywhere = ("0.0.0.0", "*", "::")  # noqa: S104
        holders = [item for item in there if item["port"] == place.port and item["address"] in (place.host, *everywhere)]
        foreign = [item for item in holders if item["uid"] != uid]
        for item in foreign:
            found.append(
                f"ssh_tunnel_clients: {place} is for the tunnel of {name}, but {_holder(item)} listens on "
                f"{item['address']}:{item['port']}. "
                "Give one of them another port (tunnel_ports of the servers of a model, or listen), or stop what does not belong here."
            )
        if expected and not holders:
            found.append(f"Nothing listens on {place}: the tunnel of {name} is not open. Look at `journalctl -u 'llm-tunnel-*'` there.")
    if expected and uid is not None:
        places = {place for _name, place in wanted}
        for item in there:
            if item["uid"] == uid and (item["address"], item["port"]) not in places:
                found.append(f"A tunnel listens on {item['address']}:{item['port']}, which no client of ssh_tunnel_clients may.")
    return found
