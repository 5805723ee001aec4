# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The client against a server of its own: what a script above the socket cannot show."""

from __future__ import annotations

import json
import threading
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ansible_collections.selfhosted.llm.plugins.module_utils import http as api
from ansible_collections.selfhosted.llm.plugins.module_utils import litellm_api
from ansible_collections.selfhosted.llm.plugins.module_utils.litellm_api import Gateway, explain


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.connections = 0
        self.keys: set[str] = set()
        self.in_flight = 0
        self.most = 0
        self.lock = threading.Lock()
        self.close_after: int | None = None
        self.answers: dict[str, tuple[int, bytes]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.served = 0
        with self.server.lock:
            self.server.connections += 1

    def log_message(self, *_words: t.Any) -> None:
        pass

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.in_flight += 1
            self.server.most = max(self.server.most, self.server.in_flight)
        threading.Event().wait(0.02)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, answer = self.server.answers.get(self.path, (200, json.dumps({"path": self.path, "sent": body.decode()}).encode()))
        self.server.keys.add(str(self.headers["Authorization"]))
        with self.server.lock:
            self.server.in_flight -= 1
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.served += 1
        if self.server.close_after == self.served:
            # As a server does with a connection that was idle for too long: it does not say so in an answer.
            self.close_connection = True

    do_POST = do_GET  # noqa: N815 (the name is the server's)


@pytest.fixture
def server() -> t.Iterator[Server]:
    serving = Server()
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield serving
    serving.shutdown()
    serving.server_close()
    thread.join()


def test_one_connection_for_many_requests(server: Server) -> None:
    gateway = Gateway(server.url + "/", "sk-master")
    assert [gateway.post("/x", {"a": number})["sent"] for number in range(5)] == [f'{{"a": {number}}}' for number in range(5)]
    gateway.close()
    assert server.connections == 1
    assert server.keys == {"Bearer sk-master"}
    assert gateway.requests == 5


def test_a_connection_that_the_server_closed(server: Server) -> None:
    server.close_after = 1
    gateway = Gateway(server.url, "sk-master")
    for _number in range(3):
        assert gateway.get("/x")["path"] == "/x"
        # The end of the connection has to arrive before the next request is sent on it.
        threading.Event().wait(0.05)
    assert server.connections == 3


def test_requests_side_by_side_are_bounded(server: Server) -> None:
    gateway = Gateway(server.url, "sk-master", concurrency=3)
    assert gateway.each(lambda number: gateway.get(f"/{number}")["path"], range(12)) == [f"/{number}" for number in range(12)]
    assert server.connections <= 3
    assert 1 < server.most <= 3


def test_pages(server: Server) -> None:
    for page in (1, 2, 3):
        server.answers[f"/list?page={page}&size=100"] = (200, json.dumps({"rows": [{"n": page}], "total_pages": 3}).encode())
    gateway = Gateway(server.url, "sk-master")
    assert gateway.pages("/list", "rows", "size") == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_an_answer_that_is_no_list(server: Server) -> None:
    with pytest.raises(api.ApiError, match="Is this a LiteLLM gateway") as caught:
        Gateway(server.url, "sk-master").keys()
    assert caught.value.layer == api.PROTOCOL


def test_an_answer_that_is_not_json(server: Server) -> None:
    server.answers["/x"] = (200, b"<html>")
    with pytest.raises(api.ApiError, match="is not JSON"):
        Gateway(server.url, "sk-master").get("/x")


def test_nobody_listens() -> None:
    with pytest.raises(api.ApiError) as caught:
        Gateway("http://127.0.0.1:9", "sk-master", timeout=2).get("/x")
    assert caught.value.layer == api.REFUSED


@pytest.mark.parametrize("url", ["ftp://x", "http://"])
def test_no_url(url: str) -> None:
    with pytest.raises(api.ApiError, match="url must be like"):
        Gateway(url, "sk-master")


def test_a_bundle_that_is_not_there() -> None:
    with pytest.raises(api.ApiError, match="ca_path /nowhere") as caught:
        Gateway("https://127.0.0.1:9", "sk-master", ca_path="/nowhere")
    assert caught.value.layer == api.TLS


@pytest.mark.parametrize(
    ("status", "body", "layer", "said"),
    [
        (500, {"error": {"message": "Authentication Error, Database not connected"}}, litellm_api.DATABASE, "The gateway has no database:"),
        (500, {"detail": {"error": "No db connected. prisma client=None"}}, litellm_api.DATABASE, "The gateway has no database:"),
        (
            500,
            {"error": {"message": "{'error': 'DB not connected. This endpoint needs a database; set DATABASE_URL'}"}},
            litellm_api.DATABASE,
            "The gateway has no database:",
        ),
        (400, {"error": {"message": "No connected db.", "type": "no_db_connection"}}, litellm_api.DATABASE, "or the master key is wrong"),
        (503, {"error": {"message": "x", "type": "no_db_connection"}}, litellm_api.DATABASE, "does not reach its database"),
        (401, {"error": {"message": "Invalid proxy server token passed"}}, api.AUTH, "refuses the master key"),
        (400, {"error": {"message": "{'error': \"It's wrong\"}"}}, api.BACKEND, "It's wrong (HTTP 400)"),
        (
            422,
            {"detail": [{"loc": ["body", "max_budget"], "msg": "must be a number"}]},
            api.BACKEND,
            "max_budget: must be a number (HTTP 422)",
        ),
        (404, {"detail": {"error": "Team not found, passed team_id=x"}}, api.PROTOCOL, "Team not found, passed team_id=x (HTTP 404)"),
    ],
)
def test_errors_in_words(status: int, body: t.Any, layer: str, said: str) -> None:
    error = explain(api.classify_status(status, json.dumps(body), "http://gateway/x"))
    assert error.layer == layer
    assert said in error.message
    assert error.status == status


def test_words_hide_keys() -> None:
    assert litellm_api.words('{"error": {"message": "Received sk-abcdefgh_1-2, refused"}}') == "Received sk-…, refused"
