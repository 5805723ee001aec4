#!/usr/bin/python3
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove that data goes through an SSH tunnel, and say so where it does not.

A tunnel can be up and dead: ssh runs, and nothing comes through. So a request is sent all the way round, from this host to the listener
on the server and back to the target, and the target is asked directly as well.

Exit codes: 0 in order, or nothing that a restart of the tunnel would mend; 1 out of order, and the tunnel is left to itself for now;
10 the tunnel has to be restarted, which llm-tunnel-check@.service then does.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import enum
import json
import os
import re
import socket
import struct
import sys
import time
import typing as t

SETTINGS = "/etc/selfhosted-llm/tunnels"
STATE = "/run/llm-tunnel-check"
RESTART = 10


class Answer(enum.Enum):
    """What comes of a connection."""

    DATA = "answers"
    CLOSED = "closes the connection without an answer"
    SILENT = "does not answer in time"
    REFUSED = "takes no connections"


class Verdict(enum.Enum):
    """What is to be said of a forward."""

    OPEN = "open"
    TARGET = "target"
    BLOCKED = "blocked"
    DEAD = "dead"
    DOWN = "down"


class Finding(t.NamedTuple):
    verdict: Verdict
    say: str


def connect(place: str, timeout: float) -> socket.socket:
    """To a socket file, or to an address with a port."""
    if place.startswith("/"):
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.settimeout(timeout)
            link.connect(place)
        except OSError:
            link.close()
            raise
        return link
    host, _colon, port = place.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=timeout)


def ask(place: str, health: str, timeout: float) -> Answer:
    """Send a request, or for `tcp` only the end of one, and see whether anything comes back."""
    end = time.monotonic() + timeout
    try:
        link = connect(place, timeout)
    except socket.timeout:
        return Answer.SILENT
    except OSError:
        return Answer.REFUSED
    with link:
        try:
            if health == "tcp":
                # Most servers end a connection whose other side has ended it: that too has come all the way back.
                link.shutdown(socket.SHUT_WR)
            else:
                link.sendall(
                    f"GET {health} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: llm-tunnel-check\r\nConnection: close\r\n\r\n".encode()
                )
            link.settimeout(max(0.1, end - time.monotonic()))
            return Answer.DATA if link.recv(1) else Answer.CLOSED
        except socket.timeout:
            return Answer.SILENT
        except OSError:
            return Answer.CLOSED


def holder(path: str, timeout: float) -> int | None:
    """The id of the process that listens at this socket file (unix(7): SO_PEERCRED), if one does."""
    try:
        with connect(path, timeout) as link:
            process, _user, _group = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    except OSError:
        return None
    return int(process)


class Tunnel:
    """One tunnel, as its file in SETTINGS describes it."""

    def __init__(
        self,
        plan: dict[str, t.Any],
        asking: t.Callable[[str, str, float], Answer] = ask,
        holding: t.Callable[[str, float], int | None] = holder,
    ) -> None:
        self.name: str = plan["name"]
        self.forwards: list[dict[str, str]] = plan["forwards"]
        self._control: str = plan["control"]
        self._timeout: float = plan["timeout"]
        self._attempts: int = plan["attempts"]
        self._ask = asking
        self._holder = holding

    def connected(self) -> bool:
        """Whether ssh is connected and every forward is open: with ExitOnForwardFailure it would have ended otherwise.

        The server forbids what is asked for here, so an end comes back. It may also be that of an ssh that has ended, and where forwards
        are refused the next one is there at once: it has to be the same ssh before and after.
        """
        before = self._holder(self._control, self._timeout)
        if before is None or self._ask(self._control, "tcp", self._timeout) not in (Answer.DATA, Answer.CLOSED):
            return False
        return self._holder(self._control, self._timeout) == before

    def look(self) -> list[Finding]:
        """All forwards at the same time: those that hang take long."""
        with concurrent.futures.ThreadPoolExecutor(len(self.forwards)) as pool:
            return list(pool.map(self.look_at, self.forwards))

    def look_at(self, forward: dict[str, str]) -> Finding:
        finding = self._once(forward)
        for _attempt in range(self._attempts - 1):
            # A target that has just come up looks blocked for a moment.
            if finding.verdict not in (Verdict.DEAD, Verdict.BLOCKED):
                break
            finding = self._once(forward)
        return finding

    def _once(self, forward: dict[str, str]) -> Finding:
        return self._reverse(forward) if forward["direction"] == "reverse" else self._forward(forward)

    def _reverse(self, forward: dict[str, str]) -> Finding:
        listen, target, health = forward["listen"], forward["target"], forward["health"]
        # More time than the target gets: a slow target is no dead tunnel.
        through = self._ask(forward["loop"], health, 2 * self._timeout)
        if through is Answer.DATA:
            return Finding(Verdict.OPEN, f"{target} answers through {listen} of the server")
        if through is Answer.REFUSED:
            return self._not_connected()
        here = self._ask(target, health, self._timeout)
        if through is Answer.CLOSED:
            if here is Answer.DATA:
                # An ssh that is ending closes it as well.
                if not self.connected():
                    return self._not_connected()
                return Finding(
                    Verdict.BLOCKED,
                    f"{target} answers here, but {listen} of the server closes the connection: does the key's line in authorized_keys there"
                    f' have permitopen="{listen}"?',
                )
            if health == "tcp" and here is not Answer.REFUSED:
                return Finding(Verdict.OPEN, f"{target} is reached through {listen} of the server")
            return Finding(Verdict.TARGET, f"the target {target} {here.value}; the tunnel is left alone")
        if here in (Answer.DATA, Answer.CLOSED):
            return Finding(
                Verdict.DEAD,
                f"{target} answers here, but nothing comes through {listen} of the server within {2 * self._timeout:g} seconds",
            )
        if not self.connected():
            return Finding(Verdict.DEAD, f"nothing comes through {listen} of the server, nor from the server itself")
        if health == "tcp" and here is Answer.SILENT:
            return Finding(Verdict.OPEN, f"{target} takes connections and says nothing, here and through {listen} of the server")
        return Finding(Verdict.TARGET, f"the target {target} {here.value}; the tunnel is left alone")

    def _forward(self, forward: dict[str, str]) -> Finding:
        listen, target, health = forward["listen"], forward["target"], forward["health"]
        through = self._ask(listen, health, 2 * self._timeout)
        if through is Answer.DATA:
            return Finding(Verdict.OPEN, f"{target} of the server answers through {listen}")
        if through is Answer.REFUSED:
            return self._not_connected()
        if through is Answer.CLOSED and health != "tcp":
            return Finding(
                Verdict.TARGET, f"the target {target} of the server {through.value}, or is not to be reached; the tunnel is left alone"
            )
        if through is Answer.SILENT and not self.connected():
            return Finding(Verdict.DEAD, f"nothing comes through {listen}, nor from the server itself")
        if through is Answer.SILENT and health != "tcp":
            return Finding(Verdict.TARGET, f"the target {target} of the server {through.value}; the tunnel is left alone")
        return Finding(Verdict.OPEN, f"{target} of the server is asked through {listen}")

    def _not_connected(self) -> Finding:
        return Finding(Verdict.DOWN, f"not connected, or a forward was refused: journalctl -u llm-tunnel-{self.name} has the reason")


def worth_a_restart(verdict: Verdict, failures: int) -> bool:
    """Whether the n-th failed check in a row is one to act on: ever more rarely, in case a restart does not help.

    A tunnel that is not connected is being retried anyway; it gets a fresh start only now and then, in case ssh hangs.
    """
    power = failures & (failures - 1) == 0
    return power and (failures >= 4 if verdict is Verdict.DOWN else verdict in (Verdict.DEAD, Verdict.BLOCKED))


class Failures:
    """How many checks in a row have failed."""

    def __init__(self, path: str) -> None:
        self._path = path

    def count(self, failed: bool) -> int:
        try:
            with open(self._path, encoding="ascii") as handle:
                number = int(handle.read())
        except (OSError, ValueError):
            number = 0
        number = number + 1 if failed else 0
        with open(self._path, "w", encoding="ascii") as handle:
            handle.write(str(number))
        return number


# In the order of what the tunnel as a whole is: the first that is found.
_SEVERITY = (Verdict.DOWN, Verdict.DEAD, Verdict.BLOCKED, Verdict.TARGET, Verdict.OPEN)


def watch(tunnel: Tunnel, failures: Failures, say: t.Callable[[str], t.Any] = print) -> int:
    """One round of the health check: what to do about the tunnel, as an exit code."""
    findings = tunnel.look()
    for text in dict.fromkeys(finding.say for finding in findings if finding.verdict is not Verdict.OPEN):
        say(f"{tunnel.name}: {text}")
    worst = min((finding.verdict for finding in findings), key=_SEVERITY.index)
    failed = worst in (Verdict.DOWN, Verdict.DEAD, Verdict.BLOCKED)
    number = failures.count(failed)
    if not failed:
        return 0
    if worth_a_restart(worst, number):
        say(f"{tunnel.name}: restarting the tunnel (failed checks in a row: {number})")
        return RESTART
    return 1


def report(tunnel: Tunnel, wait: float, pause: float = 1) -> int:
    """The state of each forward as JSON, for the play that deploys it. Changes nothing, and waits for a tunnel that is just connecting."""
    end = time.monotonic() + wait
    while True:
        findings = tunnel.look()
        if time.monotonic() > end or not any(finding.verdict in (Verdict.DOWN, Verdict.DEAD) for finding in findings):
            break
        time.sleep(pause)
    print(json.dumps([{"verdict": finding.verdict.value, "say": finding.say} for finding in findings]))
    return 0


def main() -> int | str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tunnel", help="name of the tunnel")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--connected", action="store_true", help="only say whether it is connected and open")
    mode.add_argument("--report", action="store_true", help="print the state of each forward as JSON")
    parser.add_argument(
        "--wait", type=float, default=0, metavar="SECONDS", help="with --report, how long to wait for a tunnel that is down"
    )
    arguments = parser.parse_args()
    if not re.match(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z", arguments.tunnel):
        parser.error(f"{arguments.tunnel!r} is no name of a tunnel")
    path = os.path.join(SETTINGS, f"{arguments.tunnel}.json")
    try:
        with open(path, encoding="utf-8") as handle:
            tunnel = Tunnel(json.load(handle))
    except FileNotFoundError:
        sys.exit(f"there is no tunnel {arguments.tunnel}: {path} is missing")
    if arguments.connected:
        return 0 if tunnel.connected() else f"{tunnel.name}: not connected, or a forward was refused"
    if arguments.report:
        return report(tunnel, arguments.wait)
    return watch(tunnel, Failures(os.path.join(STATE, arguments.tunnel)))


if __name__ == "__main__":
    sys.exit(main())
