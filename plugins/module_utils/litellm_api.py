# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LiteLLM's management API: connections that stay open, lists read page by page, errors in words.

A reconciliation asks a lot of small questions of one server, so each thread keeps its connection, which open_url does not.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import threading
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode, urlsplit

from ansible_collections.selfhosted.llm.plugins.module_utils import http as api

# A layer beside those of module_utils/http.py: the gateway runs, and has no database, or lost it.
DATABASE = "database"
# What the declaration says cannot be.
DECLARATION = "declaration"

# LiteLLM serves no longer pages.
PAGE = 100

_NO_DATABASE = re.compile(
    r"no (connected )?db\b|db not connected|database not connected|not connected to (the )?db|connect proxy to database", re.IGNORECASE
)
_DATABASE_DOWN = re.compile(
    r"no_db_connection|can't reach database|database unavailable|query engine|all connection attempts failed", re.IGNORECASE
)
_UNVERIFIED_KEY = re.compile(r"no connected db", re.IGNORECASE)
# LiteLLM wraps the messages of its own exceptions in the text of a Python dict.
_WRAPPED = re.compile(r"""^\{'error': (['"])(?P<text>.*)\1\}$""", re.DOTALL)
# A key that an error repeats must not get into a log.
_KEY = re.compile(r"\bsk-[A-Za-z0-9_-]{4,}")


def connection_spec() -> dict[str, t.Any]:
    """The options of every module that talks to a gateway; doc_fragments/litellm.py describes them."""
    return {
        "url": {"type": "str", "default": "http://127.0.0.1:4000"},
        "master_key": {"type": "str", "required": True, "no_log": True},
        "ca_path": {"type": "path"},
        "validate_certs": {"type": "bool", "default": True},
        "timeout": {"type": "int", "default": 60},
    }


def hide_keys(text: str) -> str:
    return _KEY.sub("sk-…", text)


def words(body: str) -> str:
    """The message of an error answer, without LiteLLM's wrapping and without anything that looks like a key."""
    text = api.error_text(body)
    try:
        detail = json.loads(body).get("detail")
    except (ValueError, AttributeError):
        detail = None
    if isinstance(detail, dict) and detail.get("error"):
        text = str(detail["error"])
    elif isinstance(detail, list):
        # FastAPI's validation: one entry per field.
        text = "; ".join(f"{'.'.join(str(part) for part in row.get('loc', [])[1:])}: {row.get('msg')}" for row in detail)
    match = _WRAPPED.match(text)
    return hide_keys(" ".join((match.group("text") if match else text).split()))[:400]


def explain(error: api.ApiError) -> api.ApiError:
    """The same error with the remedy, where there is one to name."""
    text = words(error.body) if error.body else hide_keys(error.message)
    if error.status is not None and _NO_DATABASE.search(error.body):
        also = ""
        if error.status == 400 and _UNVERIFIED_KEY.search(error.body):
            # A gateway without a database knows its master key only, and says of any other that there is no database.
            also = ", or the master key is wrong"
        return api.ApiError(
            DATABASE,
            f"The gateway has no database{also}: keys, teams, users and budgets are stored in one. Set litellm_proxy_database_url "
            f"(with litellm_proxy_salt_key) and deploy the gateway. It answered {error.status}: {text}",
            error.status,
            error.body,
        )
    if error.status in (500, 503) and _DATABASE_DOWN.search(error.body):
        return api.ApiError(
            DATABASE,
            f"The gateway does not reach its database; is it running? It answered {error.status}: {text}",
            error.status,
            error.body,
        )
    if error.status == 401:
        return api.ApiError(
            api.AUTH, f"The gateway refuses the master key (401): {text}. Give it the one it was deployed with.", error.status, error.body
        )
    if "enterprise" in error.body.lower():
        return api.ApiError(api.BACKEND, f"LiteLLM offers this to its enterprise users only: {text}", error.status, error.body)
    if error.status is not None:
        return api.ApiError(error.layer, f"{text} (HTTP {error.status})", error.status, error.body)
    return error


class Gateway:
    """A LiteLLM gateway. Safe to use from several threads, each of which keeps a connection open."""

    def __init__(
        self,
        url: str,
        master_key: str,
        ca_path: str | None = None,
        validate_certs: bool = True,
        timeout: float = 60.0,
        concurrency: int = 8,
    ) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise api.ApiError(DECLARATION, f"url must be like http://host:4000, not {url!r}")
        self.url = url.rstrip("/")
        self.concurrency = max(1, concurrency)
        self.requests = 0
        self._host = parts.hostname
        self._port = parts.port
        self._prefix = parts.path.rstrip("/")
        self._key = master_key
        self._timeout = timeout
        self._context: ssl.SSLContext | None = None
        if parts.scheme == "https":
            try:
                self._context = ssl.create_default_context(cafile=ca_path or None)
            except OSError as exc:
                raise api.ApiError(api.TLS, f"ca_path {ca_path}: {exc}") from exc
            if not validate_certs:
                self._context.check_hostname = False
                self._context.verify_mode = ssl.CERT_NONE
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[http.client.HTTPConnection] = []

    def close(self) -> None:
        with self._lock:
            connections, self._open = self._open, []
        for connection in connections:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        if self._context:
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._context)
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        connection.connect()
        # Headers and body are two writes: without this the second waits for the first to be acknowledged.
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open.append(connection)
        return connection

    def _send(self, method: str, path: str, data: bytes | None) -> tuple[int, bytes]:
        headers = {"Accept": "application/json", "Authorization": f"Bearer {self._key}", "User-Agent": "selfhosted.llm"}
        if data is not None:
            headers["Content-Type"] = "application/json"
        connection = getattr(self._local, "connection", None)
        reused = connection is not None
        while True:
            if connection is None:
                connection = self._connect()
            self._local.connection = None
            try:
                connection.request(method, self._prefix + path, body=data, headers=headers)
                response = connection.getresponse()
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                connection.close()
                if not reused:
                    raise
                # The server closed an idle connection; it has not seen this request.
                connection, reused = None, False
                continue
            except BaseException:
                connection.close()
                raise
            body = response.read()
            if response.will_close:
                connection.close()
            else:
                self._local.connection = connection
            return response.status, body

    def request(self, method: str, path: str, payload: t.Any = None) -> t.Any:
        """The parsed answer. Raises ApiError for every other outcome."""
        url = self.url + path
        with self._lock:
            self.requests += 1
        try:
            status, body = self._send(method, path, None if payload is None else json.dumps(payload).encode())
        except Exception as exc:
            raise explain(api.classify(exc, url)) from exc
        text = body.decode("utf-8", "replace")
        if status >= 400:
            raise explain(api.classify_status(status, text, url))
        try:
            return json.loads(text)
        except ValueError as exc:
            raise api.ApiError(
                api.PROTOCOL, f"{url}: the answer is not JSON: {text[:200]!r}. Is this a LiteLLM gateway?", status, text
            ) from exc

    def get(self, path: str) -> t.Any:
        return self.request("GET", path)

    def post(self, path: str, payload: t.Any) -> t.Any:
        return self.request("POST", path, payload)

    def each(self, work: t.Callable[[t.Any], t.Any], items: t.Sequence[t.Any]) -> list[t.Any]:
        """`work` for each item, several at a time; the results in the order of the items."""
        if len(items) < 2 or self.concurrency < 2:
            return [work(item) for item in items]
        with ThreadPoolExecutor(max_workers=min(self.concurrency, len(items))) as pool:
            return list(pool.map(work, items))

    def pages(self, path: str, rows: str, size_name: str, **query: str) -> list[dict[str, t.Any]]:
        """All rows of a list endpoint: the first page tells how many there are, the others are read side by side."""

        def read(page: int) -> dict[str, t.Any]:
            answer = self.get(f"{path}?{urlencode({**query, 'page': page, size_name: PAGE})}")
            if not isinstance(answer, dict) or not isinstance(answer.get(rows), list):
                raise api.ApiError(api.PROTOCOL, f"{self.url}{path}: the answer has no {rows}. Is this a LiteLLM gateway?")
            return answer

        first = read(1)
        total = int(first.get("total_pages") or 1)
        found = list(first[rows])
        for answer in self.each(read, range(2, total + 1)):
            found += answer[rows]
        return found

    # Sorted by what never changes, so that a row written meanwhile does not move others from page to page.

    def keys(self) -> list[dict[str, t.Any]]:
        return self.pages("/key/list", "keys", "size", return_full_object="true", sort_by="token", sort_order="asc")

    def teams(self) -> list[dict[str, t.Any]]:
        return self.pages("/v2/team/list", "teams", "page_size", sort_by="team_id", sort_order="asc")

    def users(self) -> list[dict[str, t.Any]]:
        return self.pages("/user/list", "users", "page_size", sort_by="user_id", sort_order="asc")


def connect(params: t.Mapping[str, t.Any]) -> Gateway:
    return Gateway(
        params["url"],
        params["master_key"],
        ca_path=params["ca_path"],
        validate_certs=params["validate_certs"],
        timeout=float(params["timeout"]),
        concurrency=int(params.get("concurrency") or 8),
    )


def now() -> float:
    """Seconds since 1970; a name of its own for tests."""
    return time.time()
