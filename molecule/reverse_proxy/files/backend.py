# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway, or a web interface, that does as the header X-Do says, counts what it gets, and goes on when it is told to.

    python3 backend.py NAME PORT

What belongs together has the same X-Test. Told and asked it is past the proxy: POST /_test/release, GET /_test/count.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import hashlib
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NAME, PORT = sys.argv[1], int(sys.argv[2])
COUNTS: collections.Counter[str] = collections.Counter()
GATES: collections.defaultdict[str, threading.Semaphore] = collections.defaultdict(lambda: threading.Semaphore(0))
LOCK = threading.Lock()
PIECES = 5
PATIENCE = 60


def gate(test: str) -> threading.Semaphore:
    with LOCK:
        return GATES[test]


def first(test: str) -> bool:
    """Whether no other backend on this machine has got this one."""
    try:
        os.close(os.open(f"/tmp/first-{test}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Each piece is sent as it is written.
    wbufsize = 0

    def log_message(self, *_arguments: Any) -> None:
        pass

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle_one_request()

    def answer(self, data: Any, status: int = 200) -> None:
        body = data.encode() if isinstance(data, str) else json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def piece(self, number: int) -> None:
        data = f"data: {number}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.piece(0)

    def do_any(self) -> None:
        length = len(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        test, do = self.headers.get("X-Test", ""), self.headers.get("X-Do", "answer")
        if self.path == "/_test/release":
            gate(test).release()
            self.answer({})
        elif self.path == "/_test/count":
            self.answer({"count": COUNTS[test]})
        else:
            with LOCK:
                COUNTS[test] += 1
            getattr(self, f"do_{do}")(test, length)

    do_GET = do_POST = do_any  # noqa: N815

    def do_answer(self, _test: str, length: int) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.answer({"backend": NAME, "path": self.path, "length": length, "headers": headers})

    def do_refuse(self, _test: str, _length: int) -> None:
        self.answer({"error": {"message": "the gateway's own words"}}, 503)

    def do_wait(self, test: str, length: int) -> None:
        gate(test).acquire(timeout=PATIENCE)
        self.do_answer(test, length)

    def do_die_first(self, test: str, length: int) -> None:
        """Without a word, where it is the first to get it."""
        if first(test):
            self.close_connection = True
        else:
            self.do_answer(test, length)

    def do_stream(self, test: str, _length: int) -> None:
        """No piece before the client says that it has the one before."""
        self.begin_stream()
        for number in range(1, PIECES):
            if not gate(test).acquire(timeout=PATIENCE):
                self.close_connection = True
                return
            self.piece(number)
        self.wfile.write(b"0\r\n\r\n")

    def do_break_off(self, test: str, _length: int) -> None:
        """In the middle of an answer, when the client has its beginning."""
        self.begin_stream()
        gate(test).acquire(timeout=PATIENCE)
        self.close_connection = True

    def do_echo(self, _test: str, _length: int) -> None:
        """A WebSocket; frames of less than 126 bytes."""
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest())  # noqa: S324
        self.send_response(101)
        for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept.decode())):
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        while True:
            head = self.rfile.read(6)
            if len(head) < 6 or head[0] & 15 == 8:
                return
            data = bytes(byte ^ head[2 + index % 4] for index, byte in enumerate(self.rfile.read(head[1] & 127)))
            self.wfile.write(bytes([0x81, len(data)]) + data)


ThreadingHTTPServer.request_queue_size = 128
ThreadingHTTPServer(("0.0.0.0", PORT), Handler).serve_forever()
