# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the verification of an edge node finds, against real servers on loopback."""

from __future__ import annotations

import importlib.util
import io
import json
import socket
import ssl
import threading
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

FILES = Path(__file__).resolve().parents[3] / "roles/reverse_proxy/files"
NAME = "api.example.org"


def load(name: str) -> t.Any:
    spec = importlib.util.spec_from_file_location(name, FILES / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ask_edge, edge_certificate = load("ask_edge"), load("edge_certificate")


class Edge:
    """Two ports as nginx has them, and one behind; `status` and `location` are what they answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        node = edge_certificate.Edge({"source": "self_signed", "names": [NAME, "192.0.2.1"], "folder": str(folder), "host": "edge"})
        node.renew(dry=False)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(node.site)
        self.location = ""
        self.statuses = {"plain": 308, "tls": 200, "stranger": 421, "behind": 200}
        self.servers: list[ThreadingHTTPServer] = []
        self.ports = {kind: self.start(kind) for kind in ("plain", "tls", "behind")}
        self.location = f"https://{NAME}:{self.ports['tls']}/v1/models"

    def start(self, kind: str) -> int:
        edge = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stranger = "not-served" in self.headers["Host"]
                self.send_response(edge.statuses["stranger" if stranger else kind])
                if kind == "plain":
                    self.send_header("Location", edge.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: t.Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_arguments: t.Any) -> None:
                """A client that does not trust it hangs up."""

        server = Server(("127.0.0.1", 0), Handler)
        if kind == "tls":
            server.socket = self.context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.servers.append(server)
        return server.server_address[1]

    def question(self, **changes: t.Any) -> dict[str, t.Any]:
        hosts = [{"host": "127.0.0.1", "port": self.ports["behind"]}]
        return {
            "http_port": self.ports["plain"],
            "https_port": self.ports["tls"],
            "names": [NAME, "192.0.2.1"],
            "certificate": str(self.folder / "site.pem"),
            "authority": str(self.folder / "ca.crt"),
            "services": [
                {"names": [NAME], "hosts": hosts, "path": "/health/liveliness", "what": "gateway"},
                {"names": [], "hosts": [], "path": "/health", "what": "Open WebUI"},
            ],
            **changes,
        }


@pytest.fixture
def edge(tmp_path: Path) -> t.Iterator[Edge]:
    one = Edge(tmp_path)
    yield one
    for server in one.servers:
        server.shutdown()
        server.server_close()


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_what_is_fine(edge: Edge, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for question in (edge.question(), edge.question(authority="")):
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(question)))
        ask_edge.main()
        assert json.loads(capsys.readouterr().out) == []


def test_a_name_that_the_certificate_is_not_for(edge: Edge) -> None:
    (problem,) = ask_edge.certificates(edge.question(names=["other.example.org"]), patience=0)
    assert "The certificate of other.example.org" in problem
    assert "is not valid for 'other.example.org'" in problem


def test_a_certificate_that_is_not_served_yet(edge: Edge, tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    edge_certificate.Edge({"source": "given", "names": [NAME], "folder": str(newer), "host": "edge"}).renew(dry=False)
    question = edge.question(authority="", certificate=str(newer / "site.pem"))
    (first, _second) = ask_edge.certificates(question, pause=0, patience=0)
    assert "another one than that of" in first
    # It comes within the patience.
    threading.Timer(0.1, edge.context.load_cert_chain, [newer / "site.pem"]).start()
    assert ask_edge.certificates(question, pause=0.02) == []


def test_a_port_that_does_not_redirect(edge: Edge) -> None:
    edge.statuses["plain"] = 200
    assert "and answers 200" in ask_edge.redirects(edge.question())[0]
    assert "does not answer" in ask_edge.redirects(edge.question(http_port=closed_port()))[0]


def test_a_redirect_to_an_address_of_ipv6(edge: Edge) -> None:
    edge.location = "https://[2001:db8::1]/v1/models"
    assert ask_edge.redirects(edge.question(names=["2001:db8::1"], https_port=443)) == []


def test_a_stranger_is_served(edge: Edge) -> None:
    edge.statuses["stranger"] = 200
    assert "answers 200 to a name that is not served" in ask_edge.strangers(edge.question())[0]
    assert ask_edge.strangers(edge.question(https_port=closed_port())) == []


def test_one_behind_that_is_down_or_ill(edge: Edge) -> None:
    question = edge.question()
    question["services"][0]["hosts"].append({"host": "127.0.0.1", "port": closed_port()})
    (problem,) = ask_edge.behind(question)
    assert "does not reach gateway 127.0.0.1 port" in problem
    edge.statuses["behind"] = 503
    assert "answers 503 to /health/liveliness" in ask_edge.behind(edge.question())[0]


def test_no_way_through(edge: Edge) -> None:
    edge.statuses["tls"] = 502
    assert f"https://{NAME}/health/liveliness answers 502" in ask_edge.behind(edge.question())[0]
    assert "does not answer on this host" in ask_edge.behind(edge.question(https_port=closed_port()))[0]
