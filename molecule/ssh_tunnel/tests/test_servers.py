# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateways where the tunnels end."""

from __future__ import annotations

import pytest
from testinfra.host import Host

testinfra_hosts = ["docker://tun-gw12", "docker://tun-gw13"]

PORTS = {"tun-gpu12": 18012, "tun-gpu13": 18013}


def test_it_listens_on_loopback_only(host: Host) -> None:
    uid = host.user("llm-tunnel-server").uid
    listening = [line.split()[3] for line in host.check_output("ss -Hltne").splitlines() if f"uid:{uid}" in line]
    assert sorted(listening) == [f"127.0.0.1:{port}" for port in PORTS.values()]


@pytest.mark.parametrize("client", PORTS)
def test_the_targets_answer(host: Host, client: str) -> None:
    assert host.check_output(f"curl -sf http://127.0.0.1:{PORTS[client]}/health") == client
    address = host.check_output("hostname -i").split()[0]
    assert host.run(f"curl -s --max-time 5 http://{address}:{PORTS[client]}/health").rc == 7


def test_files(host: Host) -> None:
    keys = host.file("/etc/selfhosted-llm/tunnel-authorized-keys")
    assert (keys.user, keys.mode) == ("root", 0o644)
    for line in keys.content_string.splitlines()[1:]:
        place = f"127.0.0.1:{PORTS[line.split()[-1]]}"
        permitted = f'permitlisten="{place}",permitopen="{place}",permitopen="127.0.0.1:9000"'
        assert line.startswith(f"restrict,port-forwarding,{permitted} ssh-ed25519 ")
    assert len(keys.content_string.splitlines()) == 1 + len(PORTS)
    assert host.user("llm-tunnel-server").shell == "/usr/sbin/nologin"
    assert host.user("llm-tunnel-server").password == "*"
    assert not host.file("/nonexistent").exists


def test_people_log_in_as_before(host: Host) -> None:
    """The drop-in is about its own account, and comes before all others."""
    for user in ("root", "admin"):
        effective = host.check_output(f"/usr/sbin/sshd -T -C user={user},host=h,addr=192.0.2.1").splitlines()
        assert "authorizedkeysfile .ssh/authorized_keys .ssh/authorized_keys2" in effective
        assert "forcecommand none" in effective
        assert "maxsessions 10" in effective
        assert ("authenticationmethods publickey,password" in effective) == (host.check_output("hostname") == "tun-gw13")


def test_the_account_is_exempt_from_what_is_asked_of_people(host: Host) -> None:
    effective = host.check_output("/usr/sbin/sshd -T -C user=llm-tunnel-server,host=h,addr=192.0.2.1").splitlines()
    for setting in (
        "authenticationmethods publickey",
        "allowtcpforwarding yes",
        "permittty no",
        "allowagentforwarding no",
        "clientaliveinterval 2",
    ):
        assert setting in effective
    assert "permitlisten 127.0.0.1:18012 127.0.0.1:18013" in effective
