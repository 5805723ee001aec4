#!/usr/bin/env python3
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What traces are sent to: trace_collector.py --port 4318 --public-key pk-lf-… --secret-key sk-lf-…

It stands in for an OpenTelemetry collector (OTLP over HTTP, `/v1/traces`) and for a Langfuse (`/api/public/otel/v1/traces`, and
`/api/public/projects`, which says whether a key is right). It keeps what it is sent and shows it:

    GET /control/wait?path=…&text=…   answers when something that was sent to this path has the text in it, 404 after 60 s
    GET /control/seen?path=…&text=…   {"times": …}: how often the text is in what was sent to the path until now
    GET /control/headers?path=…       the headers of the last request to the path

OTLP is protobuf, whose strings are plain bytes: that is all that looking for a text needs.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import threading
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

COLLECTOR = "/v1/traces"
LANGFUSE = "/api/public/otel/v1/traces"


class TraceCollector(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], public_key: str, secret_key: str) -> None:
        super().__init__(address, Handler)
        self.login = "Basic " + base64.b64encode(f"{public_key}:{secret_key}".encode()).decode()
        self._changed = threading.Condition()
        self._bodies: dict[str, list[bytes]] = {COLLECTOR: [], LANGFUSE: []}
        self._headers: dict[str, dict[str, str]] = {COLLECTOR: {}, LANGFUSE: {}}

    def keep(self, path: str, headers: dict[str, str], body: bytes) -> None:
        with self._changed:
            self._bodies[path].append(body)
            self._headers[path] = headers
            self._changed.notify_all()

    def times(self, path: str, text: str) -> int:
        return sum(body.count(text.encode()) for body in self._bodies[path])

    def wait(self, path: str, text: str, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.times(path, text) > 0, seconds)

    def last_headers(self, path: str) -> dict[str, str]:
        return self._headers[path]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: TraceCollector

    def answer(self, status: int, content: t.Any = None) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf" if content is None else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def knows(self) -> bool:
        return self.headers.get("Authorization") == self.server.login

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path not in (COLLECTOR, LANGFUSE):
            self.answer(404, {})
        elif self.path == LANGFUSE and not self.knows():
            self.answer(401, {"message": "Invalid credentials"})
        else:
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            self.server.keep(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            self.answer(200)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        path, text = query.get("path", COLLECTOR), query.get("text", "")
        if parts.path == "/api/public/projects":
            self.answer(*((200, {"data": [{"name": "gateway"}]}) if self.knows() else (401, {"message": "Invalid credentials"})))
        elif parts.path == "/control/wait":
            found = self.server.wait(path, text, 60)
            self.answer(200 if found else 404, {"found": found})
        elif parts.path == "/control/seen":
            self.answer(200, {"times": self.server.times(path, text)})
        elif parts.path == "/control/headers":
            self.answer(200, self.server.last_headers(path))
        else:
            self.answer(404, {})

    def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002 - its name in the standard library
        """The journal of a node is about the service under test."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4318)
    parser.add_argument("--public-key", required=True)
    parser.add_argument("--secret-key", required=True)
    options = parser.parse_args()
    TraceCollector((options.host, options.port), options.public_key, options.secret_key).serve_forever()


if __name__ == "__main__":
    main()
