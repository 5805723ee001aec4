# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health check of role ssh_tunnel: what it concludes from what answers, and what it takes for an answer."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
import sys
import threading
import typing as t
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "roles/ssh_tunnel/files/llm_tunnel_check.py"
_spec = importlib.util.spec_from_file_location("llm_tunnel_check", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
check = importlib.util.module_from_spec(_spec)
sys.modules["llm_tunnel_check"] = check
_spec.loader.exec_module(check)

DATA, CLOSED, SILENT, REFUSED = check.Answer.DATA, check.Answer.CLOSED, check.Answer.SILENT, check.Answer.REFUSED
CONTROL, LOOP, TARGET, LISTEN = "/run/t/control", "/run/t/loop-8080", "127.0.0.1:8080", "127.0.0.1:5432"


class Network:
    """Answers by place, and who was asked. A list of answers is used up to its last."""

    def __init__(self, answers: dict[str, t.Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str, float]] = []

    def __call__(self, place: str, health: str, timeout: float) -> t.Any:
        self.asked.append((place, health, timeout))
        answer = self.answers[place]
        if isinstance(answer, list):
            return answer.pop(0) if len(answer) > 1 else answer[0]
        return answer


def reverse(health: str = "/health") -> dict[str, str]:
    return {"direction": "reverse", "listen": "127.0.0.1:18080", "target": TARGET, "health": health, "loop": LOOP}


def forward(health: str = "tcp") -> dict[str, str]:
    return {"direction": "forward", "listen": LISTEN, "target": "127.0.0.1:6432", "health": health}


def tunnel(network: t.Any, *forwards: dict[str, str], attempts: int = 2, holders: t.Sequence[int | None] = (7,)) -> t.Any:
    """Its ssh has these process ids, the last of them from then on."""
    plan = {"name": "gw", "control": CONTROL, "timeout": 5, "attempts": attempts, "forwards": list(forwards)}
    left = list(holders)
    return check.Tunnel(plan, network, lambda _path, _timeout: left.pop(0) if len(left) > 1 else left[0])


@pytest.mark.parametrize(
    ("through", "here", "control", "verdict"),
    [
        (DATA, None, None, "open"),
        (REFUSED, None, None, "down"),
        # ssh could not reach the target either, or the target hangs: its own affair.
        (CLOSED, REFUSED, None, "target"),
        (CLOSED, SILENT, None, "target"),
        (CLOSED, CLOSED, None, "target"),
        (SILENT, SILENT, CLOSED, "target"),
        (SILENT, REFUSED, CLOSED, "target"),
        # The server lets the client listen, but not look.
        (CLOSED, DATA, CLOSED, "blocked"),
        (CLOSED, DATA, REFUSED, "down"),
        (SILENT, DATA, None, "dead"),
        (SILENT, CLOSED, None, "dead"),
        # Both are down.
        (SILENT, REFUSED, SILENT, "dead"),
        (SILENT, SILENT, REFUSED, "dead"),
    ],
)
def test_a_reverse_forward(through: t.Any, here: t.Any, control: t.Any, verdict: str) -> None:
    network = Network({LOOP: through, TARGET: here, CONTROL: control})
    assert tunnel(network, reverse()).look()[0].verdict.value == verdict


@pytest.mark.parametrize(
    ("through", "here", "control", "verdict"),
    [
        (DATA, None, None, "open"),
        (CLOSED, CLOSED, None, "open"),
        (CLOSED, DATA, CLOSED, "blocked"),
        (CLOSED, REFUSED, None, "target"),
        # It does not end a connection when its client does, and says nothing by itself.
        (SILENT, SILENT, CLOSED, "open"),
        (SILENT, SILENT, SILENT, "dead"),
        (SILENT, DATA, None, "dead"),
    ],
)
def test_a_reverse_forward_of_something_else_than_http(through: t.Any, here: t.Any, control: t.Any, verdict: str) -> None:
    network = Network({LOOP: through, TARGET: here, CONTROL: control})
    assert tunnel(network, reverse("tcp")).look()[0].verdict.value == verdict


@pytest.mark.parametrize(
    ("health", "through", "control", "verdict"),
    [
        ("tcp", DATA, None, "open"),
        ("tcp", CLOSED, None, "open"),
        ("tcp", SILENT, CLOSED, "open"),
        ("tcp", SILENT, SILENT, "dead"),
        ("tcp", REFUSED, None, "down"),
        ("/health", DATA, None, "open"),
        ("/health", CLOSED, None, "target"),
        ("/health", SILENT, CLOSED, "target"),
        ("/health", SILENT, REFUSED, "dead"),
    ],
)
def test_a_forward(health: str, through: t.Any, control: t.Any, verdict: str) -> None:
    assert tunnel(Network({LISTEN: through, CONTROL: control}), forward(health)).look()[0].verdict.value == verdict


def test_the_way_round_has_more_time_than_the_target() -> None:
    network = Network({LOOP: SILENT, TARGET: DATA})
    tunnel(network, reverse(), attempts=1).look()
    assert network.asked == [(LOOP, "/health", 10), (TARGET, "/health", 5)]


def test_a_tunnel_is_not_dead_before_the_last_attempt() -> None:
    assert tunnel(Network({LOOP: [SILENT, DATA], TARGET: DATA}), reverse()).look()[0].verdict is check.Verdict.OPEN
    network = Network({LOOP: SILENT, TARGET: DATA})
    assert tunnel(network, reverse(), attempts=3).look()[0].verdict is check.Verdict.DEAD
    assert [place for place, _health, _timeout in network.asked] == [LOOP, TARGET] * 3


def test_a_target_that_has_just_come_up_is_not_blocked() -> None:
    assert tunnel(Network({LOOP: [CLOSED, DATA], TARGET: DATA, CONTROL: CLOSED}), reverse()).look()[0].verdict is check.Verdict.OPEN


def test_connected_is_what_one_ssh_says() -> None:
    """A connection also ends when ssh does, right after the server has refused a forward; the next ssh comes within a second."""
    assert tunnel(Network({CONTROL: CLOSED}), reverse()).connected()
    assert not tunnel(Network({CONTROL: CLOSED}), reverse(), holders=(7, 8)).connected()
    assert not tunnel(Network({CONTROL: CLOSED}), reverse(), holders=(7, None)).connected()
    assert not tunnel(Network({}), reverse(), holders=(None,)).connected()
    assert not tunnel(Network({CONTROL: SILENT}), reverse()).connected()
    assert not tunnel(Network({CONTROL: REFUSED}), reverse()).connected()


@pytest.fixture
def failures(tmp_path: Path) -> t.Any:
    return check.Failures(str(tmp_path / "gw"))


def watch(network: t.Any, failures: t.Any, *forwards: dict[str, str]) -> tuple[int, list[str]]:
    said: list[str] = []
    return check.watch(tunnel(network, *(forwards or (reverse(),))), failures, said.append), said


def test_what_is_in_order_is_silent(failures: t.Any) -> None:
    assert watch(Network({LOOP: DATA}), failures) == (0, [])


def test_a_dead_tunnel_is_restarted_and_why(failures: t.Any) -> None:
    code, said = watch(Network({LOOP: SILENT, TARGET: DATA}), failures)
    assert code == check.RESTART
    assert said == [
        "gw: 127.0.0.1:8080 answers here, but nothing comes through 127.0.0.1:18080 of the server within 10 seconds",
        "gw: restarting the tunnel (failed checks in a row: 1)",
    ]


def test_a_target_that_is_down_is_its_own_affair(failures: t.Any) -> None:
    code, said = watch(Network({LOOP: CLOSED, TARGET: REFUSED}), failures)
    assert (code, said) == (0, ["gw: the target 127.0.0.1:8080 takes no connections; the tunnel is left alone"])


def test_restarts_that_do_not_help_become_rare(failures: t.Any) -> None:
    codes = [watch(Network({LOOP: CLOSED, TARGET: DATA, CONTROL: CLOSED}), failures)[0] for _ in range(9)]
    assert [number for number, code in enumerate(codes, 1) if code == check.RESTART] == [1, 2, 4, 8]
    assert set(codes) == {1, check.RESTART}
    assert watch(Network({LOOP: DATA}), failures)[0] == 0
    assert watch(Network({LOOP: CLOSED, TARGET: DATA, CONTROL: CLOSED}), failures)[0] == check.RESTART


def test_a_tunnel_that_is_connecting_gets_time(failures: t.Any) -> None:
    codes = [watch(Network({LOOP: REFUSED}), failures)[0] for _ in range(16)]
    assert [number for number, code in enumerate(codes, 1) if code == check.RESTART] == [4, 8, 16]


def test_one_forward_is_enough_to_restart(failures: t.Any) -> None:
    network = Network({LOOP: SILENT, TARGET: DATA, LISTEN: DATA})
    assert watch(network, failures, forward(), reverse())[0] == check.RESTART


def test_a_broken_state_file_is_a_fresh_start(tmp_path: Path) -> None:
    path = tmp_path / "gw"
    path.write_text("x")
    assert check.Failures(str(path)).count(True) == 1
    assert check.Failures(str(path)).count(True) == 2
    assert check.Failures(str(path)).count(False) == 0


def test_a_report_waits_for_a_tunnel_that_is_connecting(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.report(tunnel(Network({LOOP: [REFUSED, REFUSED, DATA]}), reverse()), 30, 0) == 0
    assert [finding["verdict"] for finding in json.loads(capsys.readouterr().out)] == ["open"]
    check.report(tunnel(Network({LOOP: REFUSED}), reverse()), 0, 0)
    assert [finding["verdict"] for finding in json.loads(capsys.readouterr().out)] == ["down"]


# --- real sockets -------------------------------------------------------------------------------


@contextlib.contextmanager
def server(behave: t.Callable[[socket.socket], t.Any], path: str = "") -> t.Iterator[str]:
    """A server that does this with its first connection."""
    listening = socket.socket(socket.AF_UNIX) if path else socket.create_server(("127.0.0.1", 0))
    if path:
        listening.bind(path)
        listening.listen()
    done = threading.Event()

    def serve() -> None:
        link, _peer = listening.accept()
        with link:
            behave(link)
            done.wait(10)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield path or f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        done.set()
        thread.join(10)
        listening.close()


def answer_http(link: socket.socket) -> None:
    request = link.recv(1000)
    assert request.startswith(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
    assert b"Connection: close\r\n\r\n" in request
    link.sendall(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")


def test_any_http_answer_will_do(tmp_path: Path) -> None:
    with server(answer_http) as place:
        assert check.ask(place, "/health", 5) is DATA
    with server(answer_http, str(tmp_path / "loop")) as place:
        assert check.ask(place, "/health", 5) is DATA


def test_a_connection_that_is_closed() -> None:
    with server(lambda link: (link.recv(1000), link.shutdown(socket.SHUT_RDWR))) as place:
        assert check.ask(place, "/health", 5) is CLOSED


def test_a_server_that_ends_when_its_client_does() -> None:
    def end(link: socket.socket) -> None:
        assert link.recv(1000) == b""
        link.shutdown(socket.SHUT_WR)

    with server(end) as place:
        assert check.ask(place, "tcp", 5) is CLOSED


def test_a_server_that_greets() -> None:
    with server(lambda link: link.sendall(b"SSH-2.0-x\r\n")) as place:
        assert check.ask(place, "tcp", 5) is DATA


def test_nothing_comes_back() -> None:
    for health in ("tcp", "/health"):
        with server(lambda link: None) as place:
            assert check.ask(place, health, 0.2) is SILENT


def test_nobody_is_there(tmp_path: Path) -> None:
    assert check.ask(str(tmp_path / "none"), "tcp", 5) is REFUSED
    # What a killed ssh leaves behind.
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "stale"))
    stale.close()
    assert check.ask(str(tmp_path / "stale"), "tcp", 5) is REFUSED
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert check.ask(f"127.0.0.1:{port}", "/health", 5) is REFUSED
    assert check.ask(f"[::1]:{port}", "/health", 5) is REFUSED


def test_who_listens(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    assert check.holder(path, 5) is None
    with server(lambda link: None, path):
        assert check.holder(path, 5) == os.getpid()
    assert check.holder(path, 5) is None
