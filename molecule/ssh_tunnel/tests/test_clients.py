# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts that open the tunnels, with what can go wrong there. Each test leaves the tunnels in order."""

from __future__ import annotations

import json
import re
import time
import typing as t

import pytest
from testinfra.host import Host

# Straight into the machines: these tests look often while they wait.
testinfra_hosts = ["docker://tun-gpu12", "docker://tun-gpu13"]

GATEWAYS = ["tun-gw12", "tun-gw13"]
SETTINGS = "/etc/selfhosted-llm/tunnels"


def until(check: t.Callable[[], t.Any], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, f"{what}: not after {seconds:g} seconds"
        time.sleep(0.3)


def name(host: Host) -> str:
    return str(host.check_output("hostname"))


def port(host: Host) -> int:
    return 18000 + int(name(host)[-2:])


def on(gateway: str) -> Host:
    return Host.get_host(f"docker://{gateway}")


def through(host: Host, gateway: str) -> bool:
    """Whether the gateway reaches the target of this host."""
    return str(on(gateway).run(f"curl -s --max-time 2 http://127.0.0.1:{port(host)}/health").stdout) == name(host)


def in_order(host: Host, gateway: str) -> bool:
    report = host.run(f"llm-tunnel-check --report {gateway}")
    return {finding["verdict"] for finding in json.loads(report.stdout)} == {"open"} and through(host, gateway)


def pids(host: Host, gateway: str, *programs: str) -> list[str]:
    paths = {"ssh": "/usr/bin/ssh", "autossh": "/usr/lib/autossh/autossh"}
    return str(host.run(f"pgrep -u llm-tunnel -f '^({'|'.join(paths[name] for name in programs)}) .* {gateway}$'").stdout).split()


def journal(host: Host, unit: str, since: str) -> str:
    return str(host.check_output(f"journalctl --no-pager --output cat --unit {unit} --since @{since}"))


def now(host: Host) -> str:
    return str(host.check_output("date +%s"))


def run_of(host: Host, gateway: str) -> str:
    return str(host.check_output(f"systemctl show --property InvocationID --value llm-tunnel-{gateway}"))


def ssh(host: Host, gateway: str, *options: str) -> t.Any:
    """ssh with the tunnel's key, account and server, but with other wishes."""
    host.check_output(f"sed '/Forward /d' {SETTINGS}/{gateway}.conf > /run/other.conf")
    words = " ".join(f"'{option}'" for option in options)
    return host.run(f"runuser -u llm-tunnel -- timeout 8 ssh -F /run/other.conf -o ExitOnForwardFailure=yes {words}")


# --- as it should be ----------------------------------------------------------------------------


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_data_goes_both_ways(host: Host, gateway: str) -> None:
    until(lambda: in_order(host, gateway), "the tunnel")
    assert host.check_output(f"curl -sf http://127.0.0.1:90{gateway[-2:]}/health") == gateway


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_units(host: Host, gateway: str) -> None:
    assert host.service(f"llm-tunnel-{gateway}").is_running
    assert host.service(f"llm-tunnel-{gateway}").is_enabled
    assert host.service(f"llm-tunnel-check@{gateway}.timer").is_running
    until(lambda: host.run(f"systemctl show --property ExecMainStatus --value llm-tunnel-check@{gateway}").stdout.strip() == "0", "a check")
    assert host.check_output("ps -o user= -C ssh,autossh | sort -u") == "llm-tunnel"


@pytest.mark.parametrize("unit", ["llm-tunnel-tun-gw12", "llm-tunnel-check@tun-gw12"])
def test_hardening(host: Host, unit: str) -> None:
    summary = host.check_output(f"systemd-analyze security {unit} --no-pager").splitlines()[-1]
    exposure = re.search(r"([0-9.]+) [A-Z]+", summary)
    assert exposure, summary
    assert float(exposure.group(1)) <= 3.0


def test_files(host: Host) -> None:
    key = host.file("/var/lib/llm-tunnel/id_ed25519")
    assert (key.user, key.group, key.mode) == ("llm-tunnel", "llm-tunnel", 0o600)
    assert host.file("/var/lib/llm-tunnel").mode == 0o700
    assert sorted(host.file("/var/lib/llm-tunnel").listdir()) == ["id_ed25519", "id_ed25519.pub"]
    for gateway in GATEWAYS:
        for suffix in ("conf", "known_hosts", "json"):
            settings = host.file(f"{SETTINGS}/{gateway}.{suffix}")
            assert (settings.user, settings.mode) == ("root", 0o644)
    assert host.user("llm-tunnel").shell == "/usr/sbin/nologin"
    assert not host.user("llm-tunnel").password.startswith("$")
    assert host.check_output("stat -c '%U %a' /run/llm-tunnel-tun-gw12 /run/llm-tunnel-tun-gw12/control").split() == [
        "llm-tunnel",
        "700",
        "llm-tunnel",
        "600",
    ]


def test_the_host_keys_are_those_of_the_server(host: Host) -> None:
    for gateway in GATEWAYS:
        there = on(gateway).check_output("cut -d' ' -f1,2 /etc/ssh/ssh_host_*_key.pub").splitlines()
        assert sorted(host.file(f"{SETTINGS}/{gateway}.known_hosts").content_string.splitlines()) == sorted(
            f"{gateway} {key}" for key in there
        )


def test_it_listens_on_loopback_only(host: Host) -> None:
    uid = host.user("llm-tunnel").uid
    listening = [line.split()[3] for line in host.check_output("ss -Hltne").splitlines() if f"uid:{uid}" in line]
    assert sorted(listening) == ["127.0.0.1:9012", "127.0.0.1:9013"]


# --- what a key may do --------------------------------------------------------------------------


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_no_command(host: Host, gateway: str) -> None:
    for options in ([gateway, "id"], ["-tt", gateway], ["-s", gateway, "sftp"]):
        asked = ssh(host, gateway, *options)
        assert asked.rc not in (0, 124)
        assert "uid=" not in asked.stdout


@pytest.mark.parametrize("gateway", GATEWAYS)
@pytest.mark.parametrize("place", ["127.0.0.1:18999", "0.0.0.0:18999", "/run/x.sock"])
def test_no_other_listener(host: Host, gateway: str, place: str) -> None:
    asked = ssh(host, gateway, "-N", "-R", f"{place}:127.0.0.1:8080", gateway)
    assert asked.rc == 255
    assert "remote port forwarding failed" in asked.stderr


def test_not_the_port_of_another_client(host: Host) -> None:
    other = 18012 + 18013 - port(host)
    assert "remote port forwarding failed" in ssh(host, "tun-gw13", "-N", "-R", f"127.0.0.1:{other}:127.0.0.1:8080", "tun-gw13").stderr


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_no_other_target(host: Host, gateway: str) -> None:
    for place in ("127.0.0.1:22", "127.0.0.1:9001", "localhost:9000", f"127.0.0.1:{18012 + 18013 - port(host)}", "192.0.2.1:80"):
        asked = ssh(host, gateway, "-W", place, gateway)
        assert asked.rc == 255
        assert "administratively prohibited" in asked.stderr or "open failed" in asked.stderr


def test_no_other_account(host: Host) -> None:
    assert "Permission denied" in ssh(host, "tun-gw12", "-l", "root", "tun-gw12", "id").stderr


def test_a_server_with_another_host_key_is_refused(host: Host) -> None:
    other = host.check_output(f"cat {SETTINGS}/tun-gw13.known_hosts | sed s/tun-gw13/tun-gw12/")
    host.check_output(f"echo '{other}' > /run/other-hosts")
    asked = ssh(host, "tun-gw12", "-o", "UserKnownHostsFile=/run/other-hosts", "-N", "tun-gw12")
    assert asked.rc == 255
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in asked.stderr
    assert "Host key verification failed" in asked.stderr


def test_a_server_that_is_not_known_is_refused(host: Host) -> None:
    asked = ssh(host, "tun-gw12", "-o", "UserKnownHostsFile=/dev/null", "-N", "tun-gw12")
    assert asked.rc == 255
    assert "Host key verification failed" in asked.stderr


# --- what can go wrong --------------------------------------------------------------------------


@pytest.fixture
def gateway(host: Host) -> str:
    """For what breaks something: the gateway of the other Debian, with a tunnel in order."""
    other = {"tun-gpu12": "tun-gw13", "tun-gpu13": "tun-gw12"}[name(host)]
    until(lambda: in_order(host, other), "the tunnel before")
    return other


@pytest.mark.parametrize("programs", [["ssh"], ["autossh"], ["ssh", "autossh"]])
def test_killed(host: Host, gateway: str, programs: list[str]) -> None:
    victims = pids(host, gateway, *programs)
    assert len(victims) == len(programs)
    host.check_output(f"kill -9 {' '.join(victims)}")
    until(lambda: in_order(host, gateway), "the tunnel afterwards")
    assert not set(victims) & set(pids(host, gateway, "ssh", "autossh"))


def test_sessions_killed_on_the_server(host: Host, gateway: str) -> None:
    before = pids(host, gateway, "ssh")
    on(gateway).check_output("pkill -9 --uid llm-tunnel-server")
    until(lambda: in_order(host, gateway) and pids(host, gateway, "ssh") != before, "the tunnel afterwards")


def test_sshd_restarted(host: Host, gateway: str) -> None:
    """A restart of sshd leaves its sessions, and so the tunnels."""
    before = pids(host, gateway, "ssh")
    on(gateway).check_output("systemctl restart ssh")
    until(lambda: in_order(host, gateway), "the tunnel")
    assert pids(host, gateway, "ssh") == before


def test_up_but_dead(host: Host, gateway: str) -> None:
    """ssh is there and does nothing any more: only the health check can tell."""
    since, (victim,) = now(host), pids(host, gateway, "ssh")
    host.check_output(f"kill -STOP {victim}")
    assert host.service(f"llm-tunnel-{gateway}").is_running
    assert not through(host, gateway)
    until(lambda: in_order(host, gateway), "the tunnel afterwards")
    said = journal(host, f"llm-tunnel-check@{gateway}", since)
    assert f"127.0.0.1:8080 answers here, but nothing comes through 127.0.0.1:{port(host)} of the server" in said
    assert f"{gateway}: restarting the tunnel (failed checks in a row: " in said


def test_the_network_is_gone_without_a_word(host: Host, gateway: str) -> None:
    address = host.check_output(f"getent ahostsv4 {name(host)} | awk '{{print $1; exit}}'")
    before = pids(host, gateway, "ssh")
    on(gateway).check_output(f"ip route add blackhole {address}/32")
    try:
        until(lambda: pids(host, gateway, "ssh") != before, "ssh gave up")
        assert host.service(f"llm-tunnel-{gateway}").is_running
    finally:
        on(gateway).check_output(f"ip route del blackhole {address}/32")
    until(lambda: in_order(host, gateway), "the tunnel afterwards")


def test_a_target_that_is_down_is_left_alone(host: Host, gateway: str) -> None:
    since, run = now(host), run_of(host, gateway)
    host.check_output("systemctl stop target")
    try:
        left = f"{gateway}: the target 127.0.0.1:8080 takes no connections; the tunnel is left alone"
        until(lambda: left in journal(host, f"llm-tunnel-check@{gateway}", since), "the word of the check")
        assert run_of(host, gateway) == run
        report = host.run(f"llm-tunnel-check --report {gateway}")
        assert [finding["verdict"] for finding in json.loads(report.stdout)] == ["target", "open"]
    finally:
        host.check_output("systemctl start target")
    until(lambda: in_order(host, gateway), "the tunnel afterwards")
    assert run_of(host, gateway) == run


def test_a_target_that_hangs_is_left_alone(host: Host, gateway: str) -> None:
    since, run = now(host), run_of(host, gateway)
    host.check_output("systemctl kill --signal STOP target")
    try:
        left = f"{gateway}: the target 127.0.0.1:8080 does not answer in time; the tunnel is left alone"
        until(lambda: left in journal(host, f"llm-tunnel-check@{gateway}", since), "the word of the check")
        assert run_of(host, gateway) == run
    finally:
        host.check_output("systemctl kill --signal CONT target")
    until(lambda: in_order(host, gateway), "the tunnel afterwards")


def test_a_port_that_something_else_has(host: Host, gateway: str) -> None:
    """What a session that is dead and not noticed yet does too: the tunnel tries until the port is free."""
    host.check_output(f"systemctl stop llm-tunnel-{gateway}")
    assert not host.service(f"llm-tunnel-check@{gateway}.timer").is_running
    on(gateway).check_output(f"systemd-run --unit squatter python3 -m http.server --bind 127.0.0.1 {port(host)}")
    since = now(host)
    try:
        host.check_output(f"systemctl start --no-block llm-tunnel-{gateway}")
        failed = f"remote port forwarding failed for listen port {port(host)}"
        until(lambda: failed in journal(host, f"llm-tunnel-{gateway}", since), "the word of ssh")
        assert host.run(f"llm-tunnel-check --connected {gateway}").rc == 1
    finally:
        on(gateway).check_output("systemctl stop squatter")
    until(lambda: in_order(host, gateway), "the tunnel afterwards")


def test_an_operator_may_stop_a_tunnel(host: Host, gateway: str) -> None:
    """Its health check goes with it, and does not bring it back."""
    host.check_output(f"systemctl stop llm-tunnel-{gateway}")
    assert host.run(f"systemctl start llm-tunnel-check@{gateway}").rc != 0
    assert not host.service(f"llm-tunnel-{gateway}").is_running
    host.check_output(f"systemctl start llm-tunnel-{gateway}")
    assert host.service(f"llm-tunnel-check@{gateway}.timer").is_running
    until(lambda: in_order(host, gateway), "the tunnel afterwards")
