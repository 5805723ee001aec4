# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP/1.1 as Go's server speaks it: keep-alive, chunked streams, a request is cancelled when its client goes away."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Callable

GIN_JSON = "application/json; charset=utf-8"
JSON = "application/json"
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"
TEXT = "text/plain"

_MAX_HEAD = 1 << 20
# Go holds an answer back to 2 KiB to count it; a longer one is chunked.
_COUNTED = 2048
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def dumps(value: Any) -> str:
    """JSON in the form that Go writes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPES)


class Request:
    """One request with its whole body."""

    __slots__ = ("body", "headers", "method", "parameter", "path", "peer", "version")

    def __init__(self, method: str, target: str, version: str, headers: dict[str, str], peer: str) -> None:
        self.method = method
        self.path = target.partition("?")[0]
        self.version = version
        self.headers = headers
        self.body = b""
        self.peer = peer
        self.parameter = ""

    @property
    def keep_alive(self) -> bool:
        connection = self.headers.get("connection", "").lower()
        return connection != "close" if self.version == "HTTP/1.1" else connection == "keep-alive"


class Response:
    """The answer to one request: either send() once, or stream(), write()…, end()."""

    def __init__(self, connection: Connection, request: Request) -> None:
        self._connection = connection
        self._request = request
        self._chunked = False
        self.gated = True  # the control API answers even while the server hangs
        self.headers: list[tuple[str, str]] = []
        self.status = 0

    @property
    def started(self) -> bool:
        return self.status != 0

    async def _gate(self) -> None:
        if self.gated:
            await self._connection.control.gate()

    def _head(self, status: int, content_type: str, framing: Iterable[tuple[str, str]]) -> bytes:
        self.status = status
        headers = list(self.headers)
        if content_type:
            headers.append(("Content-Type", content_type))
        headers += [("Date", formatdate(usegmt=True)), *framing]
        if not self._request.keep_alive:
            headers.append(("Connection", "close"))
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    async def send(self, status: int, body: bytes = b"", content_type: str = "", chunked: bool = False) -> None:
        """A whole answer. A HEAD request gets the length of the body it does not get."""
        await self._gate()
        if status == HTTPStatus.NO_CONTENT:
            self._connection.write(self._head(status, content_type, []))
        elif self._request.method == "HEAD":
            framing = [("Content-Length", str(len(body)))] if body else []
            self._connection.write(self._head(status, content_type, framing))
        elif chunked or len(body) > _COUNTED:
            await self.stream(status, content_type)
            await self.write(body)
            await self.end()
        else:
            self._connection.write(self._head(status, content_type, [("Content-Length", str(len(body)))]) + body)
        await self._connection.drain()

    async def json(self, status: int, value: Any, content_type: str = GIN_JSON) -> None:
        # /v1 goes through Go's JSON encoder, which ends its output with a newline.
        await self.send(status, dumps(value).encode(), content_type)

    async def stream(self, status: int, content_type: str) -> None:
        await self._gate()
        self._chunked = self._request.version == "HTTP/1.1"
        framing = [("Transfer-Encoding", "chunked")] if self._chunked else []
        self._connection.write(self._head(status, content_type, framing))

    async def write(self, data: bytes) -> None:
        """One chunk, on the wire at once."""
        await self._gate()
        self._connection.write(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)
        await self._connection.drain()

    async def line(self, value: Any) -> None:
        await self.write(dumps(value).encode() + b"\n")

    async def event(self, value: Any) -> None:
        await self.write(b"data: " + dumps(value).encode() + b"\n\n")

    async def end(self) -> None:
        await self._gate()
        if self._chunked:
            self._connection.write(b"0\r\n\r\n")
        else:
            self._connection.close_after = True

    def drop(self) -> None:
        """Cut the connection without an answer."""
        self._connection.close_after = True


class BadRequestError(Exception):
    """What arrived is not HTTP."""


Handler = Callable[[Request, Response], Awaitable[None]]


class Connection(asyncio.Protocol):
    """One client: reads requests one after the other and has them answered."""

    def __init__(self, handler: Handler, control: Any, log: Callable[[Request, int, float], None]) -> None:
        self._handler = handler
        self._log = log
        self.control = control
        self.close_after = False
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: Any = None
        self._task: asyncio.Task[None] | None = None

    # What asyncio calls

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._arrived.set()

    def eof_received(self) -> bool:
        # As Go does: a client that closes its side has gone, and what it asked for is cancelled.
        if self._task:
            self._task.cancel()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        if self._task:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # What responses call

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    async def drain(self) -> None:
        if not self._writable.is_set():
            await self._writable.wait()

    # Reading

    async def _more(self) -> None:
        self._arrived.clear()
        await self._arrived.wait()

    async def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._more()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def _until(self, mark: bytes) -> bytes:
        searched = 0
        while True:
            found = self._buffer.find(mark, max(0, searched - len(mark)))
            if found >= 0:
                return (await self._take(found + len(mark)))[: -len(mark)]
            if len(self._buffer) > _MAX_HEAD:
                raise BadRequestError
            searched = len(self._buffer)
            await self._more()

    async def _read(self) -> Request:
        head = (await self._until(b"\r\n\r\n")).decode("latin-1").lstrip("\r\n").split("\r\n")
        parts = head[0].split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            raise BadRequestError
        headers = {}
        for line in head[1:]:
            name, colon, value = line.partition(":")
            if not colon:
                raise BadRequestError
            headers[name.strip().lower()] = value.strip()
        peer = self._transport.get_extra_info("peername")
        request = Request(parts[0], parts[1], parts[2], headers, peer[0] if peer else "")
        if headers.get("expect", "").lower() == "100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            request.body = await self._chunks()
        else:
            length = headers.get("content-length", "0")
            if not length.isdigit():
                raise BadRequestError
            request.body = await self._take(int(length))
        return request

    async def _chunks(self) -> bytes:
        chunks: list[bytes] = []
        while True:
            try:
                size = int((await self._until(b"\r\n")).split(b";")[0], 16)
            except ValueError as error:
                raise BadRequestError from error
            if size == 0:
                while await self._until(b"\r\n"):
                    pass
                return b"".join(chunks)
            chunks.append(await self._take(size))
            await self._take(2)

    async def _serve(self) -> None:
        try:
            while not self.close_after:
                request = await self._read()
                response = Response(self, request)
                started = time.monotonic()
                try:
                    await self._handler(request, response)
                finally:
                    self._log(request, response.status, time.monotonic() - started)
                self.close_after = self.close_after or not request.keep_alive
        except BadRequestError:
            self.write(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request")
        except asyncio.CancelledError:
            pass
        finally:
            self._transport.close()
