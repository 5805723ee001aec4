#!/usr/bin/env python3
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A company's backend that knows its keys: auth_backend.py --port 9400 --keys keys.json

It stands in for the service that docs/custom-auth.md speaks of, and misbehaves on demand. The file of keys:

    {"secret": "what the gateway shows", "keys": {"hc-sk-alice": {"tier": "premium", "user_id": "u1"}}}

`POST /check` with `{"key": …}`, and the secret as bearer token, is answered with `{"valid": true, …what the file has}` or
`{"valid": false}`; without the secret with 401. The rest is for the machine itself only, and refused from other addresses:

    PUT /control/script      from now on every check is answered with this JSON's "status", "headers" and "body", each optional;
                             with "hold" only after the next script, with "hang_up" never
    DELETE /control/script   honest again
    PUT /control/keys/KEY    add a key with this JSON as its entry; DELETE revokes it
    GET /control/counts      {"checks": …, "connections": …} since the last DELETE of it
"""

from __future__ import annotations

import argparse
import json
import secrets
import socket
import threading
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Json = dict[str, t.Any]


class AuthBackend(ThreadingHTTPServer):
    """The state is its attributes: a test in the same process changes them by the methods."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], keys: Json, secret: str = "") -> None:
        super().__init__(address, Handler)
        self.keys = keys
        self.secret = secret
        self.checks = 0
        self.connections = 0
        self._open: set[socket.socket] = set()
        self._script: Json | None = None
        self._changed = threading.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/check"

    def process_request(self, request: t.Any, client_address: t.Any) -> None:
        self.connections += 1
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: t.Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """As when the process ends: kept connections end, too."""
        super().server_close()
        for request in list(self._open):
            self.shutdown_request(request)

    def counts(self) -> Json:
        return {"checks": self.checks, "connections": self.connections}

    def reset_counts(self) -> None:
        self.checks = self.connections = 0

    def follow(self, script: Json | None) -> None:
        with self._changed:
            self._script = script
            self._changed.notify_all()

    def wait_for_checks(self, number: int) -> bool:
        """Until so many checks have arrived."""
        with self._changed:
            return self._changed.wait_for(lambda: self.checks >= number, timeout=30)

    def script(self) -> Json | None:
        """What to do with the check that just arrived; a held one comes back with the next script."""
        with self._changed:
            self.checks += 1
            self._changed.notify_all()
            script = self._script
            if script and script.get("hold"):
                self._changed.wait_for(lambda: self._script is not script)
            return self._script if script and script.get("hold") else script


class Handler(BaseHTTPRequestHandler):
    server: AuthBackend
    protocol_version = "HTTP/1.1"
    # Head and body are two writes, and the client's acknowledgement of the first may take 40 ms.
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002 - its name in the base class
        """Silent: requests have keys in them."""

    def answer(self, status: int, body: str, headers: t.Mapping[str, str] | None = None) -> None:
        data = body.encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def body(self) -> t.Any:
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"null")

    def do_POST(self) -> None:
        question = self.body()
        if self.path != "/check":
            self.answer(404, "{}")
            return
        script = self.server.script()
        if script is not None:
            if script.get("hang_up"):
                self.close_connection = True
                return
            self.answer(script.get("status", 200), script.get("body", ""), script.get("headers"))
            return
        shown = self.headers.get("Authorization", "").partition(" ")[2]
        if self.server.secret and not secrets.compare_digest(shown.encode(), self.server.secret.encode()):
            self.answer(401, '{"error": "wrong secret"}')
            return
        entry = self.server.keys.get(question["key"])
        self.answer(200, json.dumps({"valid": False} if entry is None else {"valid": True, **entry}))

    def control(self) -> None:
        _, _, what, *rest = [*self.path.split("/", 3), ""][:4] if self.path.startswith("/control/") else ["", "", "", ""]
        body = self.body()
        if not self.client_address[0].startswith("127."):
            self.answer(403, "{}")
        elif what == "counts":
            if self.command == "DELETE":
                self.server.reset_counts()
            self.answer(200, json.dumps(self.server.counts()))
        elif what == "script":
            self.server.follow(body if self.command == "PUT" else None)
            self.answer(200, "{}")
        elif what == "keys":
            self.server.keys.pop(rest[0], None)
            if self.command == "PUT":
                self.server.keys[rest[0]] = body
            self.answer(200, "{}")
        else:
            self.answer(404, "{}")

    def do_GET(self) -> None:
        self.control()

    def do_PUT(self) -> None:
        self.control()

    def do_DELETE(self) -> None:
        self.control()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9400)
    parser.add_argument("--keys", type=Path, required=True)
    options = parser.parse_args()
    declared = json.loads(options.keys.read_text(encoding="utf-8"))
    backend = AuthBackend((options.host, options.port), declared["keys"], declared.get("secret", ""))
    print(f"auth_backend: http://{options.host}:{backend.server_address[1]}", flush=True)
    backend.serve_forever()


if __name__ == "__main__":
    main()
