# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import socket
import ssl
import threading
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ansible_collections.selfhosted.llm.plugins.module_utils.edge_checks import is_in
from ansible_collections.selfhosted.llm.plugins.modules import edge_check
from ansible_collections.selfhosted.llm.tests.unit.plugins.modules.fake_openai import self_signed
from ansible_collections.selfhosted.llm.tests.unit.scripted_http import run_module

Results = dict[str, t.Any]
HOST = "api.llm.invalid"
HSTS = "max-age=63072000"


class Edge:
    """A reverse proxy that keeps its promises; a test sets the attribute that breaks one."""

    def __init__(self, certificate: str) -> None:
        self.hsts = HSTS
        self.location = ""
        self.redirect_status = 308
        self.statuses: dict[str, int] = {"/ui/": 403, "/key/list": 403, "/v1/models": 401}
        self.bodies: dict[str, tuple[str, str]] = {
            "/": ("text/html; charset=utf-8", "<html>"),
            "/health": ("application/json", '{"status": true}'),
        }
        self.asked: list[tuple[str, str]] = []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        edge = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_args: t.Any) -> None:
                pass

            def answer(self, status: int, headers: dict[str, str], body: str = "") -> None:
                edge.asked.append((self.headers["Host"], self.path))
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body.encode())

        class Behind(Handler):
            def do_GET(self) -> None:
                kind, body = edge.bodies.get(self.path, ("application/json", "{}"))
                headers = {"Content-Type": kind, **({"Strict-Transport-Security": edge.hsts} if edge.hsts else {})}
                self.answer(edge.statuses.get(self.path, 200), headers, body)

        class Plain(Handler):
            def do_GET(self) -> None:
                self.answer(edge.redirect_status, {"Location": (edge.location or f"https://{HOST}:{edge.port}") + self.path})

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_args: t.Any) -> None:
                """A handshake that fails is part of the checks."""

            def get_request(self) -> t.Any:
                connection, address = super().get_request()
                return edge.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

        self.servers = [Quiet(("127.0.0.1", 0), Behind), ThreadingHTTPServer(("127.0.0.1", 0), Plain)]
        self.port, self.http_port = (server.server_address[1] for server in self.servers)
        for server in self.servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        for server in self.servers:
            server.shutdown()
            server.server_close()


@pytest.fixture(name="start")
def fixture_start(tmp_path: t.Any) -> t.Iterator[t.Callable[..., Edge]]:
    edges: list[Edge] = []

    def start(days: float = 90, host: str = HOST) -> Edge:
        edges.append(Edge(self_signed(tmp_path, host, days)))
        return edges[-1]

    yield start
    for edge in edges:
        edge.stop()


@pytest.fixture(name="edge")
def fixture_edge(start: t.Callable[..., Edge]) -> Edge:
    return start()


@pytest.fixture(name="run")
def fixture_run(capsys: pytest.CaptureFixture[str], tmp_path: t.Any) -> t.Callable[..., Results]:
    def run(edge: Edge, site: dict[str, t.Any] | None = None, **options: t.Any) -> Results:
        arguments = {
            "sites": [
                {"url": f"https://{HOST}:{edge.port}", "http_port": edge.http_port, "refused_paths": ["/ui/", "/key/list"], **(site or {})}
            ],
            "connect_to": "127.0.0.1",
            "ca_path": str(tmp_path / "server.pem"),
            "report_only": True,
            **options,
        }
        return run_module(capsys, edge_check.main, arguments)

    return run


def found(result: Results, status: str) -> dict[str, tuple[str | None, str]]:
    return {check["name"].partition(": ")[2]: (check["layer"], check["message"]) for check in result["checks"] if check["status"] == status}


def details(result: Results, name: str) -> t.Any:
    return next(check["details"] for check in result["checks"] if check["name"] == f"{HOST}: {name}")


def test_an_edge_that_keeps_its_promises(run: t.Any, edge: Edge) -> None:
    result = run(edge)
    assert result["ok"], result["msg"]
    assert result["client"] == "edge_check at 127.0.0.1"
    assert result["url"] == f"https://{HOST}:{edge.port}"
    passed = found(result, "passed")
    assert list(passed) == [
        "certificate is trusted and good for a while",
        "old versions of TLS are refused",
        "browsers are told to stay with https",
        "paths for administrators are refused",
        "http is sent on to https",
    ]
    assert found(result, "skipped") == {"name resolves": (None, "DNS does not know it yet here; 127.0.0.1 was called by its name")}
    assert {check["group"] for check in result["checks"]} == {"edge"}
    certificate = details(result, "certificate is trusted and good for a while")
    assert 89 < certificate["days_left"] < 91
    assert certificate["issuer"] == HOST
    assert certificate["tls"].startswith("TLSv1.")
    assert passed["paths for administrators are refused"][1] == "/ui/, /key/list: HTTP 403"
    assert details(result, "browsers are told to stay with https")["max_age"] == 63072000
    assert passed["http is sent on to https"][1] == f"HTTP 308 to https://{HOST}:{edge.port}/v1/models?redirected=1"
    # It was called by its name.
    assert {host.partition(":")[0] for host, _path in edge.asked} == {HOST}


def test_a_name_that_resolves(run: t.Any, start: t.Any) -> None:
    edge = start(host="localhost")
    result = run(edge, {"url": f"https://localhost:{edge.port}", "http_port": 0}, connect_to=None)
    assert result["ok"], result["msg"]
    assert "127.0.0.1" in found(result, "passed")["name resolves"][1]
    assert "http is sent on to https" not in found(result, "passed")
    assert result["client"] == "edge_check"


def test_a_name_that_does_not(run: t.Any, edge: Edge) -> None:
    result = run(edge, connect_to=None)
    failed = found(result, "failed")
    assert failed["name resolves"][0] == failed["certificate is trusted and good for a while"][0] == "dns"
    assert "what is behind TLS" in found(result, "skipped")


@pytest.mark.parametrize(("days", "least", "passes"), [(15, 14, True), (13.5, 14, False), (13.5, 13, True)])
def test_a_certificate_that_ends_soon(run: t.Any, start: t.Any, days: float, least: int, passes: bool) -> None:
    result = run(start(days=days), min_days=least)
    failed = found(result, "failed")
    assert result["ok"] == passes
    if not passes:
        assert failed["certificate is trusted and good for a while"][0] == "tls"
        assert "at least 14 are wanted" in failed["certificate is trusted and good for a while"][1]


def test_a_certificate_that_has_ended(run: t.Any, start: t.Any) -> None:
    result = run(start(days=-0.01))
    assert "expired" in found(result, "failed")["certificate is trusted and good for a while"][1]


def test_a_certificate_of_another_name(run: t.Any, edge: Edge) -> None:
    result = run(edge, {"url": f"https://other.llm.invalid:{edge.port}"})
    assert found(result, "failed")["certificate is trusted and good for a while"][0] == "tls"


def test_a_certificate_that_nobody_trusts(run: t.Any, edge: Edge) -> None:
    assert found(run(edge, ca_path=None), "failed")["certificate is trusted and good for a while"][0] == "tls"


def test_nothing_listens(run: t.Any, edge: Edge) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        result = run(edge, connect_to=f"127.0.0.1:{bound.getsockname()[1]}")
    assert found(result, "failed")["certificate is trusted and good for a while"][0] == "refused"
    # That port may be open all the same.
    assert "http is sent on to https" in found(result, "passed")


def test_old_tls(run: t.Any, edge: Edge) -> None:
    edge.context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.deprecated_call():
        edge.context.minimum_version = ssl.TLSVersion.TLSv1
    assert found(run(edge), "failed") == {"old versions of TLS are refused": ("tls", "TLS 1.0 and TLS 1.1 is accepted")}


def test_modern_tls_alone(run: t.Any, edge: Edge) -> None:
    edge.context.minimum_version = ssl.TLSVersion.TLSv1_3
    result = run(edge)
    assert result["ok"]
    assert details(result, "old versions of TLS are refused")["accepted"] == ["TLS 1.3"]


def test_a_machine_that_cannot_try_old_tls_proves_nothing(run: t.Any, edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    set_ciphers = ssl.SSLContext.set_ciphers

    def picky(context: ssl.SSLContext, ciphers: str) -> None:
        if "SECLEVEL=0" in ciphers:
            raise ssl.SSLError("no")
        set_ciphers(context, ciphers)

    monkeypatch.setattr(ssl.SSLContext, "set_ciphers", picky)
    assert "nothing was proven" in found(run(edge), "skipped")["old versions of TLS are refused"][1]


@pytest.mark.parametrize("header", ["", "max-age=0", "includeSubDomains"])
def test_no_hsts(run: t.Any, edge: Edge, header: str) -> None:
    edge.hsts = header
    assert found(run(edge), "failed")["browsers are told to stay with https"][0] == "protocol"
    assert run(edge, hsts=False)["ok"]


@pytest.mark.parametrize(
    ("status", "location", "words"),
    [
        (200, "", "answered 200"),
        (301, "http://api.llm.invalid", "is sent on to http://"),
        (308, "https://elsewhere.invalid", "is sent on to https://elsewhere.invalid"),
        (302, "https://api.llm.invalid:1", "is sent on to https://api.llm.invalid:1"),
        (301, "https://api.llm.invalid:{port}/other?x=", "is sent on to https://api.llm.invalid:"),
    ],
)
def test_no_redirect_to_here(run: t.Any, edge: Edge, status: int, location: str, words: str) -> None:
    edge.redirect_status, edge.location = status, location.format(port=edge.port)
    failed = found(run(edge), "failed")
    assert list(failed) == ["http is sent on to https"]
    assert words in failed["http is sent on to https"][1]


def test_an_admin_path_that_is_open(run: t.Any, edge: Edge) -> None:
    edge.statuses["/ui/"] = 200
    assert found(run(edge), "failed") == {
        "paths for administrators are refused": ("auth", "/ui/ answered 200 instead of 403, to 127.0.0.1")
    }
    # The gateway's own refusal is not the edge's.
    edge.statuses.update({"/ui/": 404, "/key/list": 401})
    assert "/key/list answered 401" in found(run(edge), "failed")["paths for administrators are refused"][1]


def test_who_is_an_administrator_cannot_prove_it(run: t.Any, edge: Edge) -> None:
    edge.statuses["/ui/"] = 200
    result = run(edge, {"admitted_networks": ["127.0.0.0/8"]})
    assert result["ok"]
    assert "127.0.0.1, is of those" in found(result, "skipped")["paths for administrators are refused"][1]
    assert not run(edge, {"admitted_networks": ["10.0.0.0/8", "fd00::/8"]})["ok"]


def test_pages_of_open_webui(run: t.Any, edge: Edge) -> None:
    site = {"kind": "webui", "refused_paths": []}
    result = run(edge, site)
    assert result["ok"], result["msg"]
    assert [name for name in found(result, "passed") if name in ("is well", "the page opens")] == ["is well", "the page opens"]
    edge.bodies.update({"/": ("application/json", "{}"), "/health": ("application/json", json.dumps({"status": False}))})
    failed = found(run(edge, site), "failed")
    assert failed["is well"] == ("protocol", f"https://{HOST}:{edge.port}/health: does not say that it is well")
    assert failed["the page opens"][1].endswith("/: answered with application/json instead of a page")
    edge.statuses.update({"/": 502, "/health": 502})
    assert {layer for layer, _message in found(run(edge, site), "failed").values()} == {"backend"}


def test_it_fails_by_itself(run: t.Any, edge: Edge) -> None:
    edge.hsts = ""
    result = run(edge, report_only=False)
    assert result["failed"]
    assert "1 of 6 checks failed (layer: protocol)" in result["msg"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sites": []}, "nothing to prove"),
        ({"sites": [{"url": "http://x"}]}, "such as https://api.example.com"),
        ({"sites": [{"url": "https://x/v1"}]}, "such as https://api.example.com"),
        ({"sites": [{"url": "https://x", "admitted_networks": ["here"]}]}, "admitted_networks: 'here'"),
        ({"timeout": 0}, "timeout"),
        ({"connect_to": "https://x"}, "connect_to: 'https://x' is not an address"),
    ],
)
def test_options_that_prove_nothing(run: t.Any, edge: Edge, options: t.Any, words: str) -> None:
    result = run(edge, **options)
    assert result["failed"]
    assert words in result["msg"]
    assert edge.asked == []


@pytest.mark.parametrize(
    ("address", "networks", "inside"),
    [
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("10.1.2.3", ["10.1.2.3"], True),
        ("10.1.2.3", ["10.9.9.9/8"], True),
        ("10.1.2.3", ["fd00::/8", "192.0.2.0/24"], False),
        ("10.1.2.3", [], False),
        ("::ffff:10.1.2.3", ["10.0.0.0/8"], True),
        ("fe80::1%eth0", ["fe80::/10"], True),
    ],
)
def test_networks(address: str, networks: list[str], inside: bool) -> None:
    assert is_in(address, networks) is inside
