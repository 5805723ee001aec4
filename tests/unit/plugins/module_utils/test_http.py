# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every layer of the client against real sockets of this machine."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
import typing as t
from pathlib import Path

import pytest

from ansible_collections.selfhosted.llm.plugins.module_utils import http
from ansible_collections.selfhosted.llm.plugins.module_utils.http import ApiClient, ApiError, classify_status, error_text
from ansible_collections.selfhosted.llm.tests.unit.plugins.modules.fake_openai import self_signed

Answer = t.Callable[[socket.socket], None]
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def answer(body: bytes | str = b"", status: str = "200 OK", headers: str = "", length: int | None = None) -> bytes:
    data = body.encode() if isinstance(body, str) else body
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(data) if length is None else length}\r\nConnection: close\r\n{headers}\r\n"
    return head.encode() + data


class Server:
    """Accepts connections, keeps what was asked, and answers all of them with the same bytes, or lets `handle` do it."""

    def __init__(self, reply: bytes | Answer, context: ssl.SSLContext | None = None) -> None:
        self.requests: list[str] = []
        self._reply = reply
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._stopped = False
        self.port = self._socket.getsockname()[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection = self._socket.accept()[0]
            with connection, contextlib.suppress(OSError):
                if self._stopped:
                    return
                connection.settimeout(5)
                if self._context:
                    connection = self._context.wrap_socket(connection, server_side=True)
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            request = b""
            # A TLS handshake, sent to a server that knows none, has no end of that kind.
            while b"\r\n\r\n" not in request and not request.startswith(b"\x16"):
                request += connection.recv(65536) or b"\r\n\r\n"
            head, _, body = request.partition(b"\r\n\r\n")
            for line in head.split(b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    while len(body) < int(line.split(b":")[1]):
                        body += connection.recv(65536)
            self.requests.append((head + b"\r\n\r\n" + body).decode("utf-8", "replace"))
            if callable(self._reply):
                self._reply(connection)
            else:
                connection.sendall(self._reply)

    def stop(self) -> None:
        self._stopped = True
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        self._thread.join(10)
        self._socket.close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def serve() -> t.Iterator[t.Callable[..., Server]]:
    servers: list[Server] = []

    def start(reply: bytes | Answer, context: ssl.SSLContext | None = None) -> Server:
        servers.append(Server(reply, context))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def closed_port() -> t.Iterator[int]:
    """Bound, but nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def error_of(call: t.Callable[[], t.Any]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        call()
    return caught.value


# An answer


def test_a_call(serve: t.Callable[..., Server]) -> None:
    server = serve(answer('{"a": 1}', headers="X-Request-ID: 7\r\n"))
    response = ApiClient(server.url + "/", token="sk-1").request("GET", "/v1/models")
    assert (response.status, response.json(), response.text()) == (200, {"a": 1}, '{"a": 1}')
    assert response.headers["x-request-id"] == "7"
    assert 0 < response.elapsed < 5
    request = server.requests[0]
    assert request.startswith("GET /v1/models HTTP/1.1\r\n")
    assert "Authorization: Bearer sk-1\r\n" in request
    assert "Accept: application/json\r\n" in request
    assert "User-Agent: selfhosted.llm" in request


def test_a_payload(serve: t.Callable[..., Server]) -> None:
    server = serve(answer("{}"))
    ApiClient(server.url).request("POST", "/x", {"text": "ä"}, headers={"X-Extra": "1", "Accept": "text/plain"})
    head, _, body = server.requests[0].partition("\r\n\r\n")
    assert json.loads(body) == {"text": "ä"}
    assert "Content-Type: application/json" in head
    assert "X-Extra: 1" in head
    assert "Accept: text/plain" in head
    assert "Authorization" not in head


def test_an_empty_payload_is_one(serve: t.Callable[..., Server]) -> None:
    server = serve(answer("{}"))
    ApiClient(server.url).request("POST", "/x", {})
    assert server.requests[0].endswith("\r\n\r\n{}")


def test_a_netrc_does_not_replace_the_token(serve: t.Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server = serve(answer("{}"))
    ApiClient(server.url, token="sk-1").request("GET", "/")
    ApiClient(server.url).request("GET", "/")
    assert "Bearer sk-1" in server.requests[0]
    assert "Authorization" not in server.requests[1]


def test_proxy(serve: t.Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, server = serve(answer('"from the proxy"')), serve(answer('"from the server"'))
    monkeypatch.setenv("http_proxy", proxy.url)
    assert ApiClient(server.url).request("GET", "/").json() == "from the proxy"
    assert ApiClient(server.url, use_proxy=False).request("GET", "/").json() == "from the server"
    assert proxy.requests[0].startswith(f"GET {server.url}/ HTTP/1.1")


# Elsewhere than the name says


def test_connect_to(serve: t.Callable[..., Server], closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(answer("{}"))
    client = ApiClient("http://api.llm.invalid:4000", connect_to=f"127.0.0.1:{server.port}")
    assert client.request("GET", "/x").status == 200
    assert "Host: api.llm.invalid:4000" in server.requests[0]
    # A proxy would look the name up.
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port}")
    assert ApiClient("http://api.llm.invalid:4000", connect_to=f"127.0.0.1:{server.port}").request("GET", "/x").status == 200
    assert error_of(lambda: ApiClient("http://x", connect_to=f"127.0.0.1:{closed_port}").call("GET", "/")).layer == http.REFUSED


def test_connect_to_with_the_port_of_the_url(serve: t.Callable[..., Server]) -> None:
    server = serve(answer("{}"))
    assert ApiClient(f"http://api.llm.invalid:{server.port}", connect_to="127.0.0.1").request("GET", "/").status == 200


def test_connect_to_with_tls(serve: t.Callable[..., Server], tmp_path: Path) -> None:
    certificate = self_signed(tmp_path, "api.llm.invalid")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    asked: list[str] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    server = serve(answer("{}"), context)
    address = f"127.0.0.1:{server.port}"
    assert ApiClient("https://api.llm.invalid", ca_path=certificate, connect_to=address).request("GET", "/").status == 200
    assert asked == ["api.llm.invalid"]
    assert "Host: api.llm.invalid\r\n" in server.requests[0]
    error = error_of(lambda: ApiClient("https://other.llm.invalid", ca_path=certificate, connect_to=address).call("GET", "/"))
    assert error.layer == http.TLS


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", ("192.0.2.1", 443)),
        ("192.0.2.1:8443", ("192.0.2.1", 8443)),
        ("edge-1", ("edge-1", 443)),
        ("2001:db8::1", ("2001:db8::1", 443)),
        ("[2001:db8::1]", ("2001:db8::1", 443)),
        ("[2001:db8::1]:8443", ("2001:db8::1", 8443)),
    ],
)
def test_split_address(text: str, address: tuple[str, int]) -> None:
    assert http.split_address(text, 443) == address


@pytest.mark.parametrize("text", ["", ":443", "http://x", "x:port", "x:99999", "x/y", "me@x", "[::1"])
def test_addresses_that_are_none(text: str) -> None:
    assert "is not an address such as" in error_of(lambda: http.split_address(text, 443)).message


# No answer


def test_refused(closed_port: int) -> None:
    error = error_of(lambda: ApiClient(f"http://127.0.0.1:{closed_port}").call("GET", "/v1/models"))
    assert error.layer == http.REFUSED
    assert error.message.startswith(f"http://127.0.0.1:{closed_port}/v1/models: cannot connect: ")
    assert error.as_dict() == {"layer": "refused", "message": error.message, "status": None}


@pytest.mark.parametrize("words", ["Temporary failure in name resolution", "No address associated with hostname"])
def test_dns(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    def fail(*_args: t.Any, **_options: t.Any) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, words)

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    error = error_of(lambda: ApiClient("http://gpu-1.invalid").call("GET", "/"))
    assert error.layer == http.DNS
    assert "the host name does not resolve" in error.message


def silent(after: bytes) -> tuple[Answer, threading.Event]:
    """Sends the beginning of an answer, and nothing more until the event."""
    done = threading.Event()

    def handle(connection: socket.socket) -> None:
        connection.sendall(after)
        done.wait(10)

    return handle, done


@pytest.mark.parametrize("sent", [b"", answer("{", length=100)], ids=["nothing", "half an answer"])
def test_timeout(serve: t.Callable[..., Server], sent: bytes) -> None:
    handle, done = silent(sent)
    server = serve(handle)
    error = error_of(lambda: ApiClient(server.url, timeout=0.2).call("GET", "/"))
    done.set()
    assert error.layer == http.TIMEOUT
    assert "no answer in time" in error.message


def test_timeout_of_one_call(serve: t.Callable[..., Server]) -> None:
    handle, done = silent(b"")
    server = serve(handle)
    assert error_of(lambda: ApiClient(server.url, timeout=60).call("GET", "/", timeout=0.2)).layer == http.TIMEOUT
    done.set()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


BROKEN_OFF: dict[str, bytes | Answer] = {
    "closed without a word": b"",
    "reset": reset,
    "half a status line": b"HTTP/1.1 2",
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "less than announced": answer("{", length=100),
    "a chunk too few": CHUNKED + chunk(b"{") + b"5\r\n12",
}


@pytest.mark.parametrize("reply", BROKEN_OFF.values(), ids=BROKEN_OFF.keys())
def test_an_answer_that_breaks_off(serve: t.Callable[..., Server], reply: bytes | Answer) -> None:
    error = error_of(lambda: ApiClient(serve(reply).url).call("GET", "/"))
    assert error.layer == http.PROTOCOL
    assert error.message.startswith("http://127.0.0.1:")


@pytest.fixture
def certificate(tmp_path: Path) -> str:
    return self_signed(tmp_path)


@pytest.fixture
def tls(certificate: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_tls_of_an_unknown_authority(serve: t.Callable[..., Server], tls: ssl.SSLContext) -> None:
    error = error_of(lambda: ApiClient(serve(answer(), tls).url).call("GET", "/"))
    assert error.layer == http.TLS
    assert "self" in error.message
    assert "signed certificate" in error.message


def test_tls_of_a_known_authority(serve: t.Callable[..., Server], tls: ssl.SSLContext, certificate: str) -> None:
    server = serve(answer("{}"), tls)
    assert ApiClient(server.url, ca_path=certificate).request("GET", "/").json() == {}
    assert ApiClient(server.url, validate_certs=False).request("GET", "/").json() == {}


def test_tls_with_a_server_that_speaks_none(serve: t.Callable[..., Server]) -> None:
    server = serve(answer("{}"))
    error = error_of(lambda: ApiClient(server.url.replace("http", "https")).call("GET", "/"))
    assert error.layer == http.TLS


def test_an_address_that_is_none() -> None:
    assert error_of(lambda: ApiClient("http://127.0.0.1:port").call("GET", "/")).layer == http.PROTOCOL
    assert error_of(lambda: ApiClient("gopher://x").call("GET", "/")).layer == http.REFUSED


# An answer that is not the wanted one


def test_not_json(serve: t.Callable[..., Server]) -> None:
    response = ApiClient(serve(answer(b"<html>\xff" + b"x" * 500)).url).request("GET", "/")
    error = error_of(response.json)
    assert (error.layer, error.status) == (http.PROTOCOL, 200)
    assert error.message.startswith("the answer is not JSON: '<html>\ufffdxxx")
    assert len(error.message) < 300


STATUSES = [
    ("401 Unauthorized", '{"error": {"message": "bad key"}}', http.AUTH, "bad key"),
    ("403 Forbidden", '{"detail": "no"}', http.AUTH, "no"),
    ("404 Not Found", '{"error": "model \\"x\\" not found, try pulling it first"}', http.MODEL, 'model "x" not found'),
    ("404 Not Found", '{"detail": "Not Found"}', http.PROTOCOL, "Not Found"),
    ("405 Method Not Allowed", "", http.PROTOCOL, "405"),
    ("400 Bad Request", '{"error": {"message": "Invalid model name passed in model=x"}}', http.MODEL, "Invalid model name"),
    ("400 Bad Request", '{"error": {"message": "temperature"}}', http.BACKEND, "temperature"),
    ("408 Request Timeout", "", http.TIMEOUT, "408"),
    ("504 Gateway Timeout", "<html>upstream</html>", http.TIMEOUT, "upstream"),
    ("429 Too Many Requests", '{"message": "slow down"}', http.BACKEND, "slow down"),
    ("500 Internal Server Error", "boom", http.BACKEND, "boom"),
    ("502 Bad Gateway", "<html>\n<body>\n  nginx</body>", http.BACKEND, "<html> <body> nginx</body>"),
    ("503 Service Unavailable", "", http.BACKEND, "503"),
]


@pytest.mark.parametrize(("status", "body", "layer", "words"), STATUSES)
def test_statuses(serve: t.Callable[..., Server], status: str, body: str, layer: str, words: str) -> None:
    server = serve(answer(body, status))
    client = ApiClient(server.url)
    code = int(status.split(maxsplit=1)[0])
    response = client.call("GET", "/x")
    assert (response.status, response.text()) == (code, body)
    for error in (error_of(lambda: client.request("GET", "/x")), error_of(lambda: client.stream("GET", "/x"))):
        assert (error.layer, error.status, error.body) == (layer, code, body)
        assert error.message.startswith(f"{server.url}/x answered {code}: ")
        assert words in error.message


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", ""),
        ("plain\n\n text", "plain text"),
        ('{"error": {"message": "m", "code": 1}}', "m"),
        ('{"error": {"code": 1}}', "{'code': 1}"),
        ('{"error": "e"}', "e"),
        ('{"detail": [{"loc": 1}]}', "[{'loc': 1}]"),
        ('{"message": "m"}', "m"),
        ('{"error": null, "other": 1}', '{"error": null, "other": 1}'),
        ('["list"]', '["list"]'),
        ("x" * 1000, "x" * 300),
    ],
)
def test_error_text(body: str, text: str) -> None:
    assert error_text(body) == text


def test_classify_status_needs_no_server() -> None:
    assert classify_status(404, '{"error": "Model gone"}', "u").layer == http.MODEL


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"])
def test_a_redirect_is_not_followed(serve: t.Callable[..., Server], status: str) -> None:
    server = serve(answer("", status, headers="Location: https://elsewhere.invalid/x\r\n"))
    error = error_of(lambda: ApiClient(server.url, token="sk-1").call("GET", "/x"))
    assert isinstance(error, http.RedirectError)
    assert (error.layer, error.status, error.location) == (http.PROTOCOL, int(status[:3]), "https://elsewhere.invalid/x")
    assert len(server.requests) == 1


# Streams


def test_a_stream_arrives_line_by_line(serve: t.Callable[..., Server]) -> None:
    go_on = threading.Event()

    def handle(connection: socket.socket) -> None:
        connection.sendall(CHUNKED + chunk(b"data: 1\r\n"))
        go_on.wait(10)
        connection.sendall(chunk(b"data: \xc3\xa4\n\nda") + chunk(b"ta: [DONE]\n") + b"0\r\n\r\n")

    with ApiClient(serve(handle).url, timeout=5).stream("POST", "/v1/chat/completions", {"stream": True}) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream"
        lines = iter(stream)
        # The rest is sent only after this line was read.
        assert next(lines) == "data: 1"
        go_on.set()
        assert list(lines) == ["data: ä", "", "data: [DONE]"]


@pytest.mark.parametrize(
    "reply",
    [CHUNKED + chunk(b"data: 1\n"), CHUNKED + chunk(b"data: 1\n") + b"9\r\nda", answer("data: 1\n", length=100)],
    ids=["between two chunks", "in a chunk", "less than announced"],
)
def test_a_stream_that_breaks_off(serve: t.Callable[..., Server], reply: bytes) -> None:
    server = serve(reply)
    lines: list[str] = []
    with ApiClient(server.url).stream("GET", "/") as stream:
        error = error_of(lambda: lines.extend(stream))
    assert lines[0] == "data: 1"
    assert error.layer == http.PROTOCOL
    assert "the answer broke off" in error.message


def test_a_stream_that_stalls(serve: t.Callable[..., Server]) -> None:
    handle, done = silent(CHUNKED + chunk(b"data: 1\n"))
    with ApiClient(serve(handle).url, timeout=0.2).stream("GET", "/") as stream:
        assert error_of(lambda: list(stream)).layer == http.TIMEOUT
    done.set()


@pytest.mark.parametrize("reply", [answer("data: 1\n"), b"HTTP/1.0 200 OK\r\n\r\ndata: 1\n"], ids=["length", "until the end"])
def test_a_stream_without_chunks(serve: t.Callable[..., Server], reply: bytes) -> None:
    with ApiClient(serve(reply).url).stream("GET", "/") as stream:
        assert list(stream) == ["data: 1"]


def test_a_stream_that_does_not_begin(closed_port: int) -> None:
    assert error_of(lambda: ApiClient(f"http://127.0.0.1:{closed_port}").stream("GET", "/")).layer == http.REFUSED
