# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A minimal PostgreSQL client (protocol 3, simple queries): a host can be asked before any driver is installed on it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import socket
import ssl
import struct
import typing as t
from urllib.parse import parse_qs, unquote, urlsplit

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
PROTOCOL = 196608
SSL_REQUEST = 80877103
# No message of a server to these few queries is this long; a port of something else would otherwise be read as a length.
LONGEST_MESSAGE = 64 * 1024 * 1024

Row = t.Tuple[t.Optional[str], ...]


class PostgresError(Exception):
    """`kind` says what an operator can do about it; `code` is the SQLSTATE where the server answered."""

    def __init__(self, kind: str, message: str, code: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.code = code


class Target(t.NamedTuple):
    """What a connection URL says. The password is never part of a message."""

    host: str
    port: int
    user: str
    password: str
    database: str
    sslmode: str = "prefer"
    root_cert: str = ""
    schema: str = "public"

    @property
    def place(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}/{self.database}"


def parse_url(url: str) -> Target:
    """Raises PostgresError of kind `url`, in words that do not repeat the URL: it has a password."""

    def wrong(message: str) -> PostgresError:
        return PostgresError("url", message)

    form = "it must be postgresql://user:password@host:5432/database?sslmode=require"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 5432
    except ValueError as exc:
        raise wrong(f"{form}; special characters of the password must be percent-encoded, such as %2F for /") from exc
    if parts.scheme not in ("postgresql", "postgres"):
        raise wrong(f"its scheme is {parts.scheme or 'missing'!r}: {form}")
    if parts.fragment or "@" in parts.path or "#" in url:
        raise wrong("special characters of the password must be percent-encoded, such as %40 for @, %2F for / and %23 for #")
    if "," in parts.netloc.rpartition("@")[2]:
        raise wrong("it names several hosts. Name one, or an address that follows the primary")
    database = unquote(parts.path.lstrip("/"))
    if not host or not parts.username or not database:
        missing = [name for name, value in (("host", host), ("user", parts.username), ("database", database)) if not value]
        raise wrong(f"it has no {' and no '.join(missing)}: {form}")
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    # Prisma's own spelling of a verified connection.
    strict = query.get("sslaccept") == "strict"
    sslmode = query.get("sslmode", "prefer")
    if sslmode not in SSL_MODES:
        raise wrong(f"its sslmode is {sslmode!r}, which is none of {', '.join(SSL_MODES)}")
    return Target(
        host,
        port,
        unquote(parts.username),
        unquote(parts.password or ""),
        database,
        "verify-full" if strict and sslmode != "disable" else sslmode,
        query.get("sslrootcert") or (query.get("sslcert", "") if strict else ""),
        query.get("schema", "public"),
    )


def tls_context(target: Target, ca_bundle: str = "") -> ssl.SSLContext:
    """Trust as libpq does it: `require` checks the certificate only where a root certificate is named."""
    root = target.root_cert
    verify = target.sslmode.startswith("verify-") or bool(root)
    if root and not os.path.isfile(root):
        raise PostgresError("tls", f"the root certificate {root} that sslrootcert names is not on this host")
    try:
        context = ssl.create_default_context(cafile=root or ca_bundle or None)
    except (OSError, ssl.SSLError) as exc:
        raise PostgresError("tls", f"{root or ca_bundle} cannot be read as a file of certificates: {exc}") from exc
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif target.sslmode != "verify-full":
        context.check_hostname = False
    return context


class Scram:
    """The client's half of SCRAM-SHA-256 (RFC 5802 and 7677), without channel binding."""

    def __init__(self, password: str, nonce: str | None = None) -> None:
        self._password = password
        self._nonce = nonce or base64.b64encode(os.urandom(18)).decode()
        self._first = f"n=,r={self._nonce}"
        self._server_signature = b""

    def first(self) -> bytes:
        return f"n,,{self._first}".encode()

    def final(self, server_first: bytes) -> bytes:
        text = server_first.decode()
        fields = dict(part.split("=", 1) for part in text.split(","))
        if not fields["r"].startswith(self._nonce) or fields["r"] == self._nonce:
            raise PostgresError("protocol", "the server did not continue the exchange of the password")
        without_proof = f"c=biws,r={fields['r']}"
        message = ",".join((self._first, text, without_proof)).encode()
        salted = hashlib.pbkdf2_hmac("sha256", self._password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
        self._server_signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature))).decode()
        return f"{without_proof},p={proof}".encode()

    def check(self, server_final: bytes) -> None:
        """A server that does not know the password cannot sign this."""
        if not hmac.compare_digest(server_final, b"v=" + base64.b64encode(self._server_signature)):
            raise PostgresError("protocol", "the server could not prove that it knows the password")


def literal(text: str) -> str:
    """A string constant of SQL."""
    if "\0" in text or "\\" in text:
        raise ValueError("not a plain string")
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    if "\0" in name:
        raise ValueError("not a name")
    return '"' + name.replace('"', '""') + '"'


_KINDS = {
    "28P01": "password",
    "28000": "refused_client",
    "3D000": "database",
    "42501": "permission",
    "53300": "full",
    "57P03": "starting",
}


def server_error(payload: bytes) -> PostgresError:
    fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in payload.split(b"\0") if part}
    code, message = fields.get(b"C", ""), fields.get(b"M", "an error without a message")
    kind = _KINDS.get(code, "server")
    # Poolers answer with codes of their own.
    lowered = message.lower()
    if kind == "server" and ("password authentication failed" in lowered or "sasl authentication failed" in lowered):
        kind = "password"
    elif kind == "server" and ("no such database" in lowered or "tenant or user not found" in lowered):
        kind = "database"
    return PostgresError(kind, message + (f" ({fields[b'D']})" if fields.get(b"D") else ""), code)


class Connection:
    """One session. `parameters` are the settings that the server reports, `pid` the process that it names at the start."""

    def __init__(self, target: Target, ca_bundle: str = "", timeout: float = 10) -> None:
        self.target = target
        self.parameters: dict[str, str] = {}
        self.pid = 0
        self.encrypted = False
        self._socket = self._connect(timeout)
        try:
            self._encrypt(ca_bundle)
            self._start()
        except (OSError, struct.error) as exc:
            self.close()
            raise PostgresError("unreachable", f"the connection broke while it was made: {exc}") from exc
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendall(b"X\0\0\0\x04")
        with contextlib.suppress(OSError):
            self._socket.close()

    def query(self, sql: str, timeout: float = 60) -> list[Row]:
        """The rows of the last statement, values as the server writes them."""
        self._socket.settimeout(timeout)
        rows: list[Row] = []
        failure: PostgresError | None = None
        try:
            self._send(b"Q", sql.encode() + b"\0")
            while True:
                kind, payload = self._receive()
                if kind == b"T":
                    rows = []
                elif kind == b"D":
                    rows.append(_row(payload))
                elif kind == b"E":
                    failure = server_error(payload)
                elif kind == b"S":
                    self._parameter(payload)
                elif kind == b"Z":
                    break
        except (OSError, struct.error) as exc:
            if failure is None:
                failure = PostgresError("unreachable", f"the connection was lost: {exc}")
        if failure is not None:
            raise failure
        return rows

    def value(self, sql: str) -> str | None:
        """The first value of the first row."""
        rows = self.query(sql)
        return rows[0][0] if rows else None

    @property
    def version(self) -> int:
        """The major version of the server, 0 where it does not tell."""
        digits = self.parameters.get("server_version", "0").split(".")[0].split(" ")[0]
        return int("".join(char for char in digits if char.isdigit()) or 0)

    # The wire

    def _connect(self, timeout: float) -> socket.socket:
        try:
            stream = socket.create_connection((self.target.host, self.target.port), timeout)
        except socket.gaierror as exc:
            raise PostgresError("name", f"the name {self.target.host} does not resolve: {exc.strerror or exc}") from exc
        except ConnectionRefusedError as exc:
            raise PostgresError("refused", "nothing listens there") from exc
        except OSError as exc:
            raise PostgresError("unreachable", str(exc) or type(exc).__name__) from exc
        # A migration can keep the other end busy for minutes, and a lock is held meanwhile.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        return stream

    def _encrypt(self, ca_bundle: str) -> None:
        mode = self.target.sslmode
        if mode in ("disable", "allow"):
            return
        self._socket.sendall(struct.pack("!ii", 8, SSL_REQUEST))
        answer = self._socket.recv(1)
        if answer == b"S":
            context = tls_context(self.target, ca_bundle)
            try:
                self._socket = context.wrap_socket(self._socket, server_hostname=self.target.host)
            except ssl.SSLCertVerificationError as exc:
                raise PostgresError("tls", f"its certificate is not trusted: {exc.verify_message}") from exc
            except ssl.SSLError as exc:
                raise PostgresError("tls", f"no TLS connection came about: {exc.reason or exc}") from exc
            self.encrypted = True
        elif answer == b"":
            raise PostgresError("unreachable", "it closed the connection at once")
        elif mode != "prefer":
            raise PostgresError("tls", f"the server does not offer TLS, which sslmode={mode} asks for")

    def _start(self) -> None:
        settings = {
            "user": self.target.user,
            "database": self.target.database,
            "client_encoding": "UTF8",
            "application_name": "selfhosted.llm",
        }
        body = struct.pack("!i", PROTOCOL) + b"".join(f"{name}\0{value}\0".encode() for name, value in settings.items()) + b"\0"
        self._socket.sendall(struct.pack("!i", len(body) + 4) + body)
        scram = Scram(self.target.password)
        while True:
            kind, payload = self._receive()
            if kind == b"R":
                self._authenticate(payload, scram)
            elif kind == b"S":
                self._parameter(payload)
            elif kind == b"K":
                self.pid = int(struct.unpack("!i", payload[:4])[0])
            elif kind == b"E":
                raise server_error(payload)
            elif kind == b"Z":
                return

    def _authenticate(self, payload: bytes, scram: Scram) -> None:
        (method,) = struct.unpack("!i", payload[:4])
        password, user = self.target.password.encode(), self.target.user.encode()
        if method == 0:
            return
        if method == 3:
            self._send(b"p", password + b"\0")
        elif method == 5:
            inner = hashlib.md5(password + user).hexdigest().encode()  # noqa: S324 - the server's choice
            self._send(b"p", b"md5" + hashlib.md5(inner + payload[4:8]).hexdigest().encode() + b"\0")  # noqa: S324
        elif method == 10:
            mechanisms = payload[4:].split(b"\0")
            if b"SCRAM-SHA-256" not in mechanisms:
                offered = b", ".join(filter(None, mechanisms)).decode("ascii", "replace")
                raise PostgresError("protocol", f"the server asks for a sign-in by {offered}, which is not known here")
            first = scram.first()
            self._send(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first)
        elif method == 11:
            self._send(b"p", scram.final(payload[4:]))
        elif method == 12:
            scram.check(payload[4:])
        else:
            raise PostgresError("protocol", f"the server asks for a sign-in by method {method}, which is not known here")

    def _parameter(self, payload: bytes) -> None:
        name, value = payload.split(b"\0")[:2]
        self.parameters[name.decode()] = value.decode("utf-8", "replace")

    def _send(self, kind: bytes, body: bytes) -> None:
        self._socket.sendall(kind + struct.pack("!i", len(body) + 4) + body)

    def _receive(self) -> tuple[bytes, bytes]:
        kind = self._exactly(1)
        (length,) = struct.unpack("!i", self._exactly(4))
        if not 4 <= length <= LONGEST_MESSAGE:
            raise PostgresError("protocol", "what listens there does not speak PostgreSQL's protocol")
        return kind, self._exactly(length - 4)

    def _exactly(self, count: int) -> bytes:
        parts = b""
        while len(parts) < count:
            part = self._socket.recv(min(count - len(parts), 65536))
            if not part:
                raise ConnectionResetError("the server closed it")
            parts += part
        return parts


def _row(payload: bytes) -> Row:
    (count,) = struct.unpack("!h", payload[:2])
    values: list[str | None] = []
    position = 2
    for _column in range(count):
        (length,) = struct.unpack("!i", payload[position : position + 4])
        position += 4
        if length < 0:
            values.append(None)
        else:
            values.append(payload[position : position + length].decode("utf-8", "replace"))
            position += length
    return tuple(values)
