#!/usr/bin/python
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: port_firewall
short_description: Admit only some clients to a service's port, by nftables
version_added: 0.1.0
author: The selfhosted.llm contributors (@selfhosted)
description:
  - Makes an nftables table of its own, C(inet selfhosted_<name>), that decides about the given TCP ports and nothing else.
    The host itself is always admitted. It opens nothing that other rules close.
  - The table is loaded at boot by C(<name>-firewall.service), and again whenever C(nftables.service) is started, reloaded or stopped,
    as that flushes all rules.
  - A unit that must not run without it says C(Requires=<name>-firewall.service) and C(After=<name>-firewall.service).
options:
  name:
    description: Name of what is guarded, such as V(ollama).
    type: str
    required: true
  state:
    description: Whether the rules should be there.
    type: str
    choices: [present, absent]
    default: present
  ports:
    description: TCP ports. Required with O(state=present).
    type: list
    elements: int
  keep_ports:
    description:
      - Whether the ports that the present rules decide about stay among them.
      - For the time of a deploy that moves a server to another port, and that may bring it back to the old one.
    type: bool
    default: false
  clients:
    description: >-
      Who may connect: addresses, networks (CIDR) or host names, which this host resolves when the module runs.
      Without any only the host itself is admitted.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Computes the rules only, also where nftables is not installed yet.
    support: full
  diff_mode:
    description: Shows the files.
    support: full
"""

EXAMPLES = r"""
- name: Only the gateways use Ollama
  selfhosted.llm.port_firewall:
    name: ollama
    ports: [11434]
    clients: [gateway-1.example.org, 10.0.8.0/24]
"""

RETURN = r"""
addresses:
  description: The addresses and networks that are admitted.
  returned: O(state=present)
  type: list
  elements: str
  sample: [10.0.8.0/24, 192.0.2.7]
loaded:
  description: Whether the rules were (or would be) loaded into the kernel by this run.
  returned: O(state=present)
  type: bool
"""

import ipaddress
import os
import re
import socket
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhosted.llm.plugins.module_utils import files
from ansible_collections.selfhosted.llm.plugins.module_utils.systemd import UNIT_DIR, Systemd, SystemdError

Network = t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

_NFT = "/usr/sbin/nft"
_HEADER = "# Managed by Ansible (selfhosted.llm.port_firewall)\n"


def resolve(client: str, lookup: t.Callable[..., t.Any] = socket.getaddrinfo) -> list[Network]:
    """The networks of a client. ValueError where it is no address, no network and no name that resolves."""
    try:
        return [ipaddress.ip_network(client, strict=False)]
    except ValueError:
        if "/" in client or not re.match(r"[A-Za-z0-9]", client):
            raise ValueError(f"{client!r} is neither an address, a network such as 10.0.8.0/24, nor a host name") from None
    try:
        found = {entry[4][0].split("%")[0] for entry in lookup(client, None, proto=socket.IPPROTO_TCP)}
    except (OSError, UnicodeError) as exc:
        raise ValueError(f"this host cannot resolve {client!r} ({exc}): correct the name, or give its address") from exc
    return [ipaddress.ip_network(address) for address in sorted(found)]


def networks(clients: t.Iterable[str], lookup: t.Callable[..., t.Any] = socket.getaddrinfo) -> list[Network]:
    """All networks of the clients, each once, IPv4 first, those within others left out. Loopback needs no mention."""
    found = {network for client in clients for network in resolve(client, lookup)}
    kept: list[Network] = []
    for version in (4, 6):
        same: t.Any = [network for network in found if network.version == version and not network.is_loopback]
        kept += ipaddress.collapse_addresses(same)
    return kept


def _set(name: str, kind: str, members: list[Network]) -> str:
    text = f"\tset {name} {{\n\t\ttype {kind}\n\t\tflags interval\n"
    if members:
        names = [str(member.network_address) if member.num_addresses == 1 else str(member) for member in members]
        text += f"\t\telements = {{ {', '.join(names)} }}\n"
    return text + "\t}\n"


def ruleset(name: str, ports: t.Iterable[int], admitted: t.Sequence[Network]) -> str:
    """The nft script. Loading it replaces the table in one step."""
    table = f"inet selfhosted_{name.replace('-', '_')}"
    listed = ", ".join(str(port) for port in sorted(set(ports)))
    return (
        f"{_HEADER}# Who may connect. Only these ports are decided about, and nothing is opened that other rules close.\n"
        f"table {table}\ndelete table {table}\n"
        f"table {table} {{\n"
        + _set("clients4", "ipv4_addr", [network for network in admitted if network.version == 4])
        + _set("clients6", "ipv6_addr", [network for network in admitted if network.version == 6])
        + "\tchain input {\n"
        "\t\ttype filter hook input priority -5; policy accept;\n"
        "\t\tmeta l4proto != tcp accept\n"
        f"\t\ttcp dport != {{ {listed} }} accept\n"
        "\t\tiif lo accept\n"
        "\t\tip saddr @clients4 accept\n"
        "\t\tip6 saddr @clients6 accept\n"
        "\t\tcounter drop\n"
        "\t}\n}\n"
    )


def guarded_ports(rules: str) -> list[int]:
    """The ports that these rules decide about."""
    found = re.search(r"tcp dport != { ([\d, ]+) } accept", rules)
    return [int(port) for port in found.group(1).split(",")] if found else []


class Firewall:
    """The files of one firewall, and what is done with them."""

    def __init__(self, name: str) -> None:
        self.table = f"selfhosted_{name.replace('-', '_')}"
        self.unit = f"{name}-firewall.service"
        self.rules = f"/etc/selfhosted-llm/{name}-firewall.nft"
        self.unit_path = os.path.join(UNIT_DIR, self.unit)
        self.drop_in = os.path.join(UNIT_DIR, "nftables.service.d", f"{name}-firewall.conf")
        self.paths = (self.rules, self.unit_path, self.drop_in)

    def contents(self, name: str, rules: str) -> dict[str, str]:
        load = f"{_NFT} -f {self.rules}"
        unit = (
            f"{_HEADER}[Unit]\nDescription=Firewall of {name}\nAfter=nftables.service\nBefore={name}.service\n\n"
            f"[Service]\nType=oneshot\nRemainAfterExit=true\nExecStart={load}\nExecReload={load}\n"
            f"ExecStop={_NFT} delete table inet {self.table}\n\n[Install]\nWantedBy=multi-user.target\n"
        )
        drop_in = (
            f"{_HEADER}# nftables.service begins and ends with flushing all rules: those of {name} come back each time.\n"
            f"[Service]\nExecStartPost={load}\nExecReload={load}\nExecStopPost={load}\n"
        )
        return {self.rules: rules, self.unit_path: unit, self.drop_in: drop_in}


def text_of(path: str) -> str | None:
    content = files.read(path)
    return None if content is None else content.data.decode("utf-8", "replace")


def changes(wanted: dict[str, str]) -> list[dict[str, str]]:
    """The files that differ, as diffs."""
    return [
        {"before_header": path, "after_header": path, "before": text_of(path) or "", "after": text}
        for path, text in wanted.items()
        if text_of(path) != text
    ]


def present(module: AnsibleModule, firewall: Firewall, systemd: Systemd) -> None:
    try:
        admitted = networks(module.params["clients"])
    except ValueError as exc:
        module.fail_json(msg=str(exc))
    name = module.params["name"]
    ports = module.params["ports"] + (guarded_ports(text_of(firewall.rules) or "") if module.params["keep_ports"] else [])
    wanted = firewall.contents(name, ruleset(name, ports, admitted))
    diff = changes(wanted)
    facts = {"addresses": [str(network) for network in admitted], "diff": diff}
    if not diff:
        state = systemd.state(firewall.unit)
        # Something that flushes all rules takes these along.
        lost = module.run_command([_NFT, "list", "table", "inet", firewall.table])[0] != 0
        if state.running and state.enabled == "enabled" and not lost:
            module.exit_json(changed=False, loaded=False, **facts)
    if module.check_mode:
        module.exit_json(changed=True, loaded=True, **facts)
    for path, text in wanted.items():
        files.write(path, files.Content(text.encode(), 0o644, 0, 0))
    systemd.ctl("daemon-reload")
    systemd.ctl("enable", firewall.unit)
    systemd.ctl("reload-or-restart" if systemd.state(firewall.unit).running else "start", firewall.unit)
    module.exit_json(changed=True, loaded=True, **facts)


def absent(module: AnsibleModule, firewall: Firewall, systemd: Systemd) -> None:
    there = [path for path in firewall.paths if os.path.exists(path)]
    if there and not module.check_mode:
        if firewall.unit_path in there:
            systemd.ctl("disable", "--now", firewall.unit)
        for path in there:
            files.remove(path)
        systemd.ctl("daemon-reload")
    module.exit_json(changed=bool(there), diff=[{"before_header": path, "before": text_of(path) or "", "after": ""} for path in there])


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "ports": {"type": "list", "elements": "int"},
            "keep_ports": {"type": "bool", "default": False},
            "clients": {"type": "list", "elements": "str", "default": []},
        },
        required_if=[("state", "present", ("ports",))],
        supports_check_mode=True,
    )
    name = module.params["name"]
    if not re.match(r"[a-z][a-z0-9-]*\Z", name):
        module.fail_json(msg=f"name must be lower-case letters, digits and dashes, not {name!r}")
    firewall, systemd = Firewall(name), Systemd(module.run_command)
    try:
        if module.params["state"] == "present":
            present(module, firewall, systemd)
        else:
            absent(module, firewall, systemd)
    except (OSError, SystemdError) as exc:
        module.fail_json(msg=str(exc))


if __name__ == "__main__":
    main()
