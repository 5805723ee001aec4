# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PostgreSQL server of a few lines: it speaks the protocol, signs in like the real one, and answers what a test scripts."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import re
import socket
import ssl
import struct
import threading
import typing as t

Answer = t.Union[t.Sequence[t.Sequence[str | None]], "ServerError", None]


class ServerError(t.NamedTuple):
    code: str
    message: str


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def error(failure: ServerError) -> bytes:
    return message(b"E", b"SFATAL\0C%s\0M%s\0\0" % (failure.code.encode(), failure.message.encode()))


class Server:
    """`answers` is a list of (pattern, answer): the first pattern that a statement matches decides. `seen` is what was asked."""

    def __init__(
        self,
        answers: t.Sequence[tuple[str, t.Any]] = (),
        auth: str = "scram",
        password: str = "pw",  # noqa: S107
        version: str = "15.18 (Debian)",
        refuse: ServerError | None = None,
        tls: ssl.SSLContext | None = None,
        drop: str = "",
        pid: int = 42,
    ) -> None:
        self.answers = list(answers)
        self.auth = auth
        self.password = password
        self.version = version
        self.refuse = refuse
        self.tls = tls
        self.drop = drop
        self.pid = pid
        self.seen: list[str] = []
        self.startups: list[dict[str, str]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, query: str = "", password: str | None = None) -> str:
        return f"postgresql://user:{password or self.password}@127.0.0.1:{self.port}/db{query}"

    def close(self) -> None:
        # Else the thread that waits in accept() keeps the port open.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, ConnectionError, struct.error, ssl.SSLError):
            client = self._start(client)
            if self.drop != "start":
                self._serve(client)
        client.close()

    def _start(self, client: socket.socket) -> socket.socket:
        (length, code) = struct.unpack("!ii", self._read(client, 8))
        if code == 80877103:
            client.sendall(b"S" if self.tls else b"N")
            if self.tls:
                client = self.tls.wrap_socket(client, server_side=True)
            (length, code) = struct.unpack("!ii", self._read(client, 8))
        words = self._read(client, length - 8).decode().split("\0")
        self.startups.append(dict(zip(words[::2], words[1::2], strict=False)))
        if self.refuse:
            client.sendall(error(self.refuse))
            raise ConnectionError
        if not self._sign_in(client):
            client.sendall(error(ServerError("28P01", 'password authentication failed for user "user"')))
            raise ConnectionError
        client.sendall(message(b"R", struct.pack("!i", 0)))
        client.sendall(message(b"S", f"server_version\0{self.version}\0".encode()))
        client.sendall(message(b"K", struct.pack("!ii", self.pid, 7)) + message(b"Z", b"I"))
        return client

    def _sign_in(self, client: socket.socket) -> bool:
        password = self.password.encode()
        if self.auth == "trust":
            return True
        if self.auth == "cleartext":
            client.sendall(message(b"R", struct.pack("!i", 3)))
            return self._receive(client)[1] == password + b"\0"
        if self.auth == "md5":
            client.sendall(message(b"R", struct.pack("!i", 5) + b"salt"))
            inner = hashlib.md5(password + b"user").hexdigest().encode()  # noqa: S324
            return self._receive(client)[1] == b"md5" + hashlib.md5(inner + b"salt").hexdigest().encode() + b"\0"  # noqa: S324
        if self.auth != "scram":
            client.sendall(message(b"R", struct.pack("!i", int(self.auth)) + b"OAUTHBEARER\0\0"))
            return self._receive(client) == (b"", b"")
        return self._scram(client, password)

    def _scram(self, client: socket.socket, password: bytes) -> bool:
        client.sendall(message(b"R", struct.pack("!i", 10) + b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"))
        first = self._receive(client)[1].partition(b"n,,")[2]
        server_first = b"r=" + first.partition(b"r=")[2] + b"SERVER,s=" + base64.b64encode(b"0123456789abcdef") + b",i=4096"
        client.sendall(message(b"R", struct.pack("!i", 11) + server_first))
        final = self._receive(client)[1]
        without_proof, _, proof = final.partition(b",p=")
        signed = b",".join((first, server_first, without_proof))
        salted = hashlib.pbkdf2_hmac("sha256", password, b"0123456789abcdef", 4096)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        if bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True)) != client_key:
            return False
        verifier = b"v=" + base64.b64encode(hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256"))
        client.sendall(message(b"R", struct.pack("!i", 12) + (b"v=AAAA" if self.drop == "signature" else verifier)))
        return True

    def _serve(self, client: socket.socket) -> None:
        while True:
            kind, body = self._receive(client)
            if kind != b"Q":
                return
            statement = body[:-1].decode()
            self.seen.append(statement)
            if self.drop == "query":
                return
            client.sendall(self._reply(statement) + message(b"Z", b"I"))

    def _reply(self, statement: str) -> bytes:
        for pattern, answer in self.answers:
            if re.search(pattern, statement):
                found = answer(statement) if callable(answer) else answer
                if isinstance(found, ServerError):
                    return error(found)
                rows = b"".join(message(b"D", self._row(row)) for row in found or ())
                return message(b"T", struct.pack("!h", 0)) + rows + message(b"C", b"OK\0")
        return message(b"C", b"OK\0")

    @staticmethod
    def _row(row: t.Sequence[str | None]) -> bytes:
        cells = (struct.pack("!i", -1) if cell is None else struct.pack("!i", len(cell.encode())) + cell.encode() for cell in row)
        return struct.pack("!h", len(row)) + b"".join(cells)

    def _receive(self, client: socket.socket) -> tuple[bytes, bytes]:
        kind = self._read(client, 1)
        (length,) = struct.unpack("!i", self._read(client, 4))
        return kind, self._read(client, length - 4)

    @staticmethod
    def _read(client: socket.socket, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = client.recv(count - len(data))
            if not part:
                raise ConnectionError
            data += part
        return data
