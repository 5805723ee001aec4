# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small typed HTTP client for the modules of this collection.

Proxies come from the environment, as in every other module. Every failure is an ApiError that names the layer at fault.
"""

from __future__ import annotations

import json
import socket
import ssl
import time
import typing as t
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener

# The layers an ApiError can name, from the wire upwards.
REFUSED = "refused"  # nothing listens there, or the network refuses
DNS = "dns"  # the host name does not resolve
TIMEOUT = "timeout"  # no answer in time
TLS = "tls"  # certificate or handshake
PROTOCOL = "protocol"  # an answer that is not the API's: not JSON, cut off, wrong shape
AUTH = "auth"  # 401 or 403
MODEL = "model"  # the model is unknown to the server
BACKEND = "backend"  # the server answered that it, or what is behind it, failed

Headers = t.Optional[t.Dict[str, str]]
Seconds = t.Optional[float]


class ApiError(Exception):
    """A failed call. `layer` is one of the constants above, `status` the HTTP status or None, `body` the answer's text."""

    def __init__(self, layer: str, message: str, status: int | None = None, body: str = "") -> None:
        super().__init__(message)
        self.layer = layer
        self.message = message
        self.status = status
        self.body = body

    def as_dict(self) -> dict[str, t.Any]:
        return {"layer": self.layer, "message": self.message, "status": self.status}


class RedirectError(ApiError):
    """The answer sends the client to `location`; it was not followed."""

    def __init__(self, message: str, status: int, location: str) -> None:
        super().__init__(PROTOCOL, message, status)
        self.location = location


class Response:
    """An answer read whole. Header names are lower-case; `elapsed` is in seconds."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes, elapsed: float) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.elapsed = elapsed

    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def json(self) -> t.Any:
        try:
            return json.loads(self.body)
        except ValueError as exc:
            raise ApiError(PROTOCOL, f"the answer is not JSON: {self.text()[:200]!r}", self.status, self.text()) from exc


class Stream:
    """An answer read line by line, as it arrives."""

    def __init__(self, raw: t.Any, url: str) -> None:
        self._raw = raw
        self._url = url
        self.status: int = raw.status if hasattr(raw, "status") else raw.getcode()
        self.headers: dict[str, str] = {k.lower(): v for k, v in raw.headers.items()}

    def __iter__(self) -> t.Iterator[str]:
        try:
            for line in self._raw:
                yield line.decode("utf-8", "replace").rstrip("\r\n")
        except Exception as exc:  # pylint: disable=broad-except
            raise classify(exc, self._url) from exc
        # http.client reports a cut only where all is read at once; line by line it looks like the end.
        chunks_due = getattr(self._raw, "chunked", False) and self._raw.chunk_left is not None
        if chunks_due or getattr(self._raw, "length", None):
            raise ApiError(PROTOCOL, f"{self._url}: the answer broke off")

    def close(self) -> None:
        self._raw.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_args: object) -> None:
        self.close()


def error_text(body: str) -> str:
    """The message in an error body: OpenAI's {"error": {"message": …}}, Ollama's {"error": "…"}, FastAPI's {"detail": …}."""
    try:
        data = json.loads(body)
    except ValueError:
        data = None
    error: t.Any = body
    if isinstance(data, dict):
        error = data.get("error", data.get("detail", data.get("message"))) or body
        if isinstance(error, dict):
            error = error.get("message", error)
    # One line: a proxy in between may answer with a page.
    return " ".join(str(error).split())[:300]


def classify_status(status: int, body: str, url: str) -> ApiError:
    """The ApiError for an HTTP status of 400 or more."""
    text = error_text(body)
    lowered = text.lower()
    if status in (401, 403):
        layer = AUTH
    elif (status == 404 and "model" in lowered) or (status == 400 and "invalid model name" in lowered):
        layer = MODEL
    elif status in (408, 504):
        layer = TIMEOUT
    elif status in (404, 405):
        layer = PROTOCOL
    else:
        layer = BACKEND
    return ApiError(layer, f"{url} answered {status}: {text}", status, body)


def classify(exc: BaseException, url: str) -> ApiError:
    """The ApiError for whatever urllib, ssl or the socket raised."""
    if isinstance(exc, ApiError):
        return exc
    reason: t.Any = exc
    while isinstance(reason, URLError) and not isinstance(reason, HTTPError) and isinstance(reason.reason, BaseException):
        reason = reason.reason
    text = str(reason) or type(reason).__name__
    lowered = text.lower()
    if isinstance(reason, (ssl.SSLError, ssl.CertificateError)) or "certificate" in lowered:
        return ApiError(TLS, f"{url}: TLS failed: {text}")
    if isinstance(reason, (socket.timeout, TimeoutError)) or "timed out" in lowered:
        return ApiError(TIMEOUT, f"{url}: no answer in time: {text}")
    if isinstance(reason, socket.gaierror) or "name or service not known" in lowered or "name resolution" in lowered:
        return ApiError(DNS, f"{url}: the host name does not resolve: {text}")
    # A server that hangs up was there, unlike one that refuses.
    if isinstance(reason, (HTTPException, ConnectionResetError, BrokenPipeError)):
        return ApiError(PROTOCOL, f"{url}: the answer broke off: {type(reason).__name__} {text}")
    if isinstance(reason, OSError) or isinstance(exc, URLError):
        return ApiError(REFUSED, f"{url}: cannot connect: {text}")
    return ApiError(PROTOCOL, f"{url}: {type(reason).__name__}: {text}")


def tls_context(ca_path: str | None) -> ssl.SSLContext:
    """Trusts the authorities of that file, or the system's."""
    try:
        return ssl.create_default_context(cafile=ca_path)
    except OSError as exc:
        raise ApiError(TLS, f"the certificate authorities in {ca_path} cannot be used: {exc}") from exc


class _NoRedirect(HTTPRedirectHandler):
    """A redirect would carry the key to wherever it points."""

    def redirect_request(self, req: t.Any, fp: t.Any, code: int, msg: str, headers: t.Any, newurl: str) -> None:  # noqa: ARG002 (inherited)
        raise RedirectError(f"{req.full_url} redirects to {newurl}: give that address instead", code, newurl)


def split_address(text: str, default_port: int) -> tuple[str, int]:
    """Host and port of "host", "host:port", an IPv6 address or one in brackets, with or without a port."""
    # More than one colon and no brackets: that is an IPv6 address alone.
    bare = text.count(":") > 1 and not text.startswith("[")
    try:
        parts = urlsplit(f"//[{text}]" if bare else f"//{text}")
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if not parts.hostname or parts.path or parts.query or parts.fragment or parts.username is not None:
        raise ApiError(PROTOCOL, f"{text!r} is not an address such as 192.0.2.10, 192.0.2.10:8443 or [2001:db8::10]:8443")
    return parts.hostname, port if port is not None else default_port


def _directed(kind: t.Any, address: tuple[str, int]) -> t.Callable[..., t.Any]:
    """Makes connections to that address, whatever host they are for: header and certificate stay those of the host."""

    def make(host: str, **options: t.Any) -> t.Any:
        connection = kind(host, **options)
        connection._create_connection = lambda _named, *rest: socket.create_connection(address, *rest)
        return connection

    return make


class _HttpTo(HTTPHandler):
    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__()
        self._address = address

    def http_open(self, req: Request) -> t.Any:
        return self.do_open(_directed(HTTPConnection, self._address), req)


class _HttpsTo(HTTPSHandler):
    def __init__(self, address: tuple[str, int], context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._address = address
        self._tls = context

    def https_open(self, req: Request) -> t.Any:
        return self.do_open(_directed(HTTPSConnection, self._address), req, context=self._tls)


class ApiClient:
    """Calls one API. `timeout` is in seconds, between two reads, not for the whole call. Safe to use from several threads.

    `use_proxy=False` is for services of this host: where a host has a proxy, its own address is not always exempt.
    `connect_to` is "address" or "address:port" to connect to instead of the URL's host; no proxy is used then.
    `headers` go with every request.
    """

    def __init__(
        self,
        base_url: str,
        token: str | None = None,
        ca_path: str | None = None,
        timeout: float = 30.0,
        validate_certs: bool = True,
        use_proxy: bool = True,
        connect_to: str | None = None,
        headers: Headers = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.headers = dict(headers or {})
        self.token = token
        self.ca_path = ca_path or None
        self.timeout = timeout
        self.validate_certs = validate_certs
        self.use_proxy = use_proxy and not connect_to
        self.connect_to = connect_to or None
        self._opener: OpenerDirector | None = None

    def _build_opener(self) -> OpenerDirector:
        handlers: list[t.Any] = [_NoRedirect()]
        if not self.use_proxy:
            handlers.append(ProxyHandler({}))
        context = None
        if self.base_url.startswith("https:"):
            context = tls_context(self.ca_path)
            if not self.validate_certs:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
        if self.connect_to:
            address = split_address(self.connect_to, urlsplit(self.base_url).port or (443 if context else 80))
            handlers.append(_HttpsTo(address, context) if context else _HttpTo(address))
        elif context:
            handlers.append(HTTPSHandler(context=context))
        return build_opener(*handlers)

    def _send(self, request: Request, timeout: float) -> t.Any:
        # Kept: to read the certificate authorities costs tens of milliseconds, and open_url does it for each request.
        if self._opener is None:
            self._opener = self._build_opener()
        return self._opener.open(request, timeout=timeout)

    def _open(self, method: str, path: str, payload: t.Any, headers: Headers, timeout: Seconds) -> t.Any:
        """The answer, not yet read, whatever its status."""
        url = self.base_url + path
        sent = {"Accept": "application/json", "User-Agent": "selfhosted.llm"}
        data = None
        if payload is not None:
            data = json.dumps(payload).encode()
            sent["Content-Type"] = "application/json"
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        sent.update({**self.headers, **(headers or {})})
        try:
            return self._send(Request(url, data=data, headers=sent, method=method), timeout or self.timeout)
        except HTTPError as exc:
            return exc
        except Exception as exc:
            raise classify(exc, url) from exc

    def _read(self, raw: t.Any, path: str) -> bytes:
        try:
            return t.cast(bytes, raw.read())
        except Exception as exc:
            raise classify(exc, self.base_url + path) from exc

    def call(self, method: str, path: str, payload: t.Any = None, headers: Headers = None, timeout: Seconds = None) -> Response:
        """Any answer, whatever its status. Raises ApiError only where there was none."""
        started = time.monotonic()
        raw = self._open(method, path, payload, headers, timeout)
        body = self._read(raw, path)
        return Response(raw.getcode(), {k.lower(): v for k, v in raw.headers.items()}, body, time.monotonic() - started)

    def request(self, method: str, path: str, payload: t.Any = None, headers: Headers = None, timeout: Seconds = None) -> Response:
        """An answer below 400. Raises ApiError otherwise."""
        response = self.call(method, path, payload, headers, timeout)
        if response.status >= 400:
            raise classify_status(response.status, response.text(), self.base_url + path)
        return response

    def stream(self, method: str, path: str, payload: t.Any = None, headers: Headers = None, timeout: Seconds = None) -> Stream:
        """An answer below 400, to be read line by line. Raises ApiError otherwise."""
        raw = self._open(method, path, payload, headers, timeout)
        if isinstance(raw, HTTPError):
            raise classify_status(raw.code, self._read(raw, path).decode("utf-8", "replace"), self.base_url + path)
        return Stream(raw, self.base_url + path)
