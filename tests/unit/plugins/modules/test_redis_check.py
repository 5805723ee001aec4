# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import socket
import threading
import typing as t

import pytest

from ansible_collections.selfhosted.llm.plugins.modules import redis_check
from ansible_collections.selfhosted.llm.tests.unit.scripted_http import run_module

PASSWORD = "it's secret"
AUTH = b"*2\r\n$4\r\nAUTH\r\n$11\r\nit's secret\r\n"
PING = b"*1\r\n$4\r\nPING\r\n"
Redis = t.Callable[..., int]


@pytest.fixture
def redis() -> t.Iterator[Redis]:
    """A server that answers what it is asked; None closes the connection."""
    stack = contextlib.ExitStack()

    def start(answers: dict[bytes, bytes | None]) -> int:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def serve() -> None:
            with contextlib.suppress(OSError), contextlib.closing(listener.accept()[0]) as client:
                while asked := client.recv(4096):
                    answer = answers[asked]
                    if answer is None:
                        return
                    client.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return int(listener.getsockname()[1])

    yield start
    stack.close()


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> t.Callable[..., dict[str, t.Any]]:
    def call(port: int, **options: t.Any) -> dict[str, t.Any]:
        result = run_module(capsys, redis_check.main, {"host": "127.0.0.1", "port": port, **options})
        assert PASSWORD not in str(result)
        assert result.get("changed", False) is False
        return result

    return call


Check = t.Callable[..., dict[str, t.Any]]


def test_it_answers(redis: Redis, check: Check) -> None:
    assert check(redis({PING: b"+PONG\r\n"}))["reachable"] is True
    assert check(redis({AUTH: b"+OK\r\n", PING: b"+PONG\r\n"}), password=PASSWORD)["reachable"] is True


@pytest.mark.parametrize(
    ("answers", "password", "message"),
    [
        (
            {AUTH: b"-WRONGPASS invalid\r\n"},
            PASSWORD,
            "litellm_proxy_redis_password: Redis at 127.0.0.1:{port} refuses it (WRONGPASS invalid).",
        ),
        ({PING: b"-NOAUTH Authentication required.\r\n"}, "", "litellm_proxy_redis_password: Redis at 127.0.0.1:{port} asks for one."),
        ({PING: b"HTTP/1.1 400\r\n"}, "", "litellm_proxy_redis_host: what answers at 127.0.0.1:{port} is no usable Redis: HTTP/1.1 400"),
        ({PING: None}, "", "litellm_proxy_redis_host: Redis at 127.0.0.1:{port} does not answer: it closed the connection."),
    ],
)
def test_problems(redis: Redis, check: Check, answers: dict[bytes, bytes | None], password: str, message: str) -> None:
    port = redis(answers)
    result = check(port, password=password)
    assert result["failed"]
    assert result["msg"].startswith(message.format(port=port))


def test_nothing_listens(check: Check) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    message = f"open_webui_redis_host: nothing listens at 127.0.0.1:{port}. Start Redis there, or correct host and port."
    assert check(port, prefix="open_webui_redis_")["msg"] == message
    result = check(port, prefix="open_webui_redis_", may_be_missing=True)
    assert (result["failed"], result["reachable"], result["reason"]) == (False, False, message)


def test_a_name_that_does_not_resolve(check: Check) -> None:
    assert "the name redis.invalid does not resolve" in check(6379, host="redis.invalid")["msg"]


def test_tls_that_is_none(redis: Redis, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    class Anything(dict[bytes, bytes]):
        def __missing__(self, _key: bytes) -> bytes:
            return b"-ERR unknown command\r\n"

    assert "litellm_proxy_redis_tls: no TLS connection to Redis" in check(redis(Anything()), tls=True)["msg"]
