# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands before a Space (*.hf.space): a private one is for those with a token of the Hub, which the Space does not get to see."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from spaces import Space

# What goes from hop to hop, and the Hub's own.
NOT_FORWARDED = {"host", "connection", "transfer-encoding", "x-hf-authorization"}


class Front(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    space: Space
    token: str

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        pass

    def _plain(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _forward(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        shown = self.headers.get("X-HF-Authorization") or self.headers.get("Authorization")
        if self.space.private and shown != f"Bearer {self.token}":
            self._plain(404, "Sorry, we can't find the page you are looking for.")
            return
        if self.space.stage == "SLEEPING":
            self.space.start(build=False)
        if self.space.stage != "RUNNING" or not self.space.backend:
            self._plain(503, f"The Space is in the stage {self.space.stage}.")
            return
        backend = http.client.HTTPConnection(urlsplit(self.space.backend).netloc, timeout=120)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in NOT_FORWARDED}
        try:
            backend.request(self.command, self.path, body, headers)
            answer = backend.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {"connection", "transfer-encoding"}:
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            while piece := answer.read1(65536):
                self.wfile.write(piece)
                self.wfile.flush()
        except (OSError, http.client.HTTPException) as exc:
            self._plain(502, f"The Space does not answer: {exc}")
        finally:
            backend.close()
            self.close_connection = True

    def do_GET(self) -> None:
        self._forward()

    def do_POST(self) -> None:
        self._forward()

    def do_PUT(self) -> None:
        self._forward()

    def do_DELETE(self) -> None:
        self._forward()

    def do_HEAD(self) -> None:
        self._forward()

    def do_OPTIONS(self) -> None:
        self._forward()


def start(space: Space, token: str, port: int) -> str:
    """The URL of the Space."""
    handler = type("FrontOf", (Front,), {"space": space, "token": token})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"
