# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
import struct
import threading
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ansible_collections.selfhosted.llm.plugins.modules import endpoint_check
from ansible_collections.selfhosted.llm.tests.unit.plugins.modules.fake_openai import FakeOpenAI, self_signed
from ansible_collections.selfhosted.llm.tests.unit.scripted_http import run_module

Results = dict[str, t.Any]
Run = t.Callable[..., Results]
OK = (200, b'{"status":"ok"}')
LOADING = (503, b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}')


class Server:
    """Answers every GET with the same, or does to the connection what a server behind a tunnel would."""

    def __init__(self) -> None:
        self.answer: tuple[int, bytes] = OK
        self.hangs_up = False
        self.silent: threading.Event | None = None
        self.together = threading.Barrier(1)
        self.asked: list[tuple[str, str | None]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_args: t.Any) -> None:
                pass

            def do_GET(self) -> None:
                server.asked.append((self.path, self.headers.get("Authorization")))
                server.together.wait(20)
                if server.silent:
                    server.silent.wait(20)
                if server.hangs_up or server.silent:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                status, body = server.answer
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_args: t.Any) -> None:
                """A client that gave up is part of some tests."""

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


@pytest.fixture(name="server")
def fixture_server() -> t.Iterator[Server]:
    server = Server()
    yield server
    if server.silent:
        server.silent.set()
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture(name="run")
def fixture_run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*endpoints: dict[str, t.Any], **options: t.Any) -> Results:
        return run_module(capsys, endpoint_check.main, {"endpoints": list(endpoints), "report_only": True, **options})

    return run


@pytest.fixture(name="closed")
def fixture_closed() -> t.Iterator[str]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def only(result: Results) -> tuple[str, str | None, str]:
    (check,) = result["checks"]
    return check["status"], check["layer"], check["message"]


def test_a_server_that_is_well(run: Run, server: Server) -> None:
    result = run({"name": "gpu-1:8080", "url": server.url + "/"})
    assert result["ok"]
    assert (result["client"], result["url"], result["counts"]) == ("endpoint_check", "", {"passed": 1, "failed": 0, "skipped": 0})
    (check,) = result["checks"]
    assert (check["name"], check["group"], check["status"], check["layer"]) == ("gpu-1:8080 is well", "servers", "passed", None)
    assert check["message"] == "HTTP 200, ok"
    assert check["details"] == {"endpoint": "gpu-1:8080", "url": server.url + "/", "via": "lan", "http_status": 200}
    assert server.asked == [("/health", None)]


def test_one_that_says_nothing_of_itself(run: Run, server: Server) -> None:
    server.answer = (204, b"")
    result = run({"name": "x", "url": server.url, "path": "/ping", "status": 204, "via": "tunnel"})
    assert only(result) == ("passed", None, "HTTP 204, through a tunnel")
    assert server.asked == [("/ping", None)]


def test_all_are_asked_at_once(run: Run, server: Server) -> None:
    server.together = threading.Barrier(20)
    result = run(*({"name": f"gpu-1:{8080 + number}", "url": server.url} for number in range(20)))
    assert result["counts"]["passed"] == 20
    assert [check["details"]["endpoint"] for check in result["checks"]] == [f"gpu-1:{8080 + number}" for number in range(20)]


def test_one_that_loads_its_model_is_told_from_one_that_failed(run: Run, server: Server) -> None:
    server.answer = LOADING
    assert only(run({"name": "x", "url": server.url})) == ("failed", "backend", "it is still loading its model (HTTP 503: Loading model)")
    server.answer = (503, b'{"error":{"message":"no slot"}}')
    status, layer, message = only(run({"name": "x", "url": server.url}))
    assert (status, layer) == ("failed", "backend")
    assert message.endswith("/health answered 503: no slot")


@pytest.mark.parametrize(
    ("answer", "layer"),
    [((401, b""), "auth"), ((404, b""), "protocol"), ((500, b""), "backend"), ((504, b""), "timeout"), ((204, b""), "protocol")],
)
def test_other_answers(run: Run, server: Server, answer: tuple[int, bytes], layer: str) -> None:
    server.answer = answer
    result = run({"name": "x", "url": server.url})
    assert only(result)[:2] == ("failed", layer)
    assert result["checks"][0]["details"]["http_status"] == answer[0]
    assert f"answered {answer[0]}" in result["msg"]


@pytest.mark.parametrize("via", ["lan", "tunnel"])
def test_nothing_listens(run: Run, closed: str, via: str) -> None:
    status, layer, message = only(run({"name": "x", "url": closed, "via": via}))
    assert (status, layer) == ("failed", "refused")
    assert ("tunnel, which may be down" in message) == (via == "tunnel")


@pytest.mark.parametrize("via", ["lan", "tunnel"])
def test_a_connection_that_leads_nowhere(run: Run, server: Server, via: str) -> None:
    server.hangs_up = True
    status, layer, message = only(run({"name": "x", "url": server.url, "via": via}))
    assert (status, layer) == ("failed", "protocol")
    assert ("the server behind it may be down" in message) == (via == "tunnel")


def test_a_dead_tunnel_that_is_still_open(run: Run, server: Server) -> None:
    server.silent = threading.Event()
    status, layer, message = only(run({"name": "x", "url": server.url, "via": "tunnel", "timeout": 0.2}))
    assert (status, layer) == ("failed", "timeout")
    assert "tunnel's other end may be gone" in message


def test_one_that_is_gone_does_not_hide_the_others(run: Run, server: Server, closed: str) -> None:
    result = run({"name": "a", "url": closed}, {"name": "b", "url": server.url}, report_only=False)
    assert result["failed"]
    assert result["counts"] == {"passed": 1, "failed": 1, "skipped": 0}
    assert result["msg"].startswith("1 of 2 checks failed (layer: refused). a is well [refused]: ")


def test_the_token_is_sent_and_not_told(run: Run, server: Server) -> None:
    server.answer = (403, b"the token was a-long-secret-token")
    result = run({"name": "x", "url": server.url, "token": "a-long-secret-token"})
    assert server.asked == [("/health", "Bearer a-long-secret-token")]
    assert "a-long-secret-token" not in str({key: result[key] for key in ("checks", "msg")})


def test_no_proxy_is_used(run: Run, server: Server, closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", closed)
    assert run({"name": "x", "url": server.url})["ok"]


def test_tls(run: Run, tmp_path: t.Any) -> None:
    api, certificate = FakeOpenAI(), self_signed(tmp_path)
    api.key = None
    api.start(certificate)
    try:
        endpoint = {"name": "x", "url": api.url, "path": "/v1/models"}
        assert only(run(endpoint))[:2] == ("failed", "tls")
        assert run({**endpoint, "ca_path": certificate})["ok"]
    finally:
        api.stop()


def test_nothing_to_ask(run: Run) -> None:
    assert "nothing to prove" in run()["msg"]
    assert "timeout of x" in run({"name": "x", "url": "http://x", "timeout": 0})["msg"]
