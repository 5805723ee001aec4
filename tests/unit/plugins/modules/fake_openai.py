# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A scripted OpenAI-compatible server, to show each way in which an API can fail its checks."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import itertools
import json
import ssl
import threading
import time
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

KEY = "sk-the-right-key-0123456789"
# Of a request with a virtual key: its status, when nothing is wrong with the gateway.
REFUSALS = {"unknown": 401, "blocked": 401, "expired": 401, "model": 403, "rate": 429, "budget": 422}


def self_signed(tmp_path: t.Any, host: str = "localhost", days: float = 1) -> str:
    """A self-signed certificate of a host and of 127.0.0.1, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    begun, ends = now - datetime.timedelta(hours=1), now + datetime.timedelta(days=days)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, begun, ends)
    cert = (
        builder.add_extension(names, False).add_extension(x509.BasicConstraints(ca=True, path_length=None), True).sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + cert.public_bytes(serialization.Encoding.PEM)
    )
    return str(path)


class FakeOpenAI:
    """Behaves well; a test sets the attribute that makes it fail."""

    def __init__(self) -> None:
        self.key: str | None = KEY
        # What a proxy before it wants to see in X-Pass.
        self.pass_for_the_proxy = ""
        self.models = ["phi3", "default", "embed"]
        self.backends = {"phi3": ["phi3@a", "phi3@b"], "embed": ["embed@a"]}
        self.names_backend = True
        self.without_database = False
        self.refusal_status = 401
        self.refusal_code = ""  # of the error, instead of the status
        self.takes_unknown_models = False
        self.unknown_status = 404
        self.chat_status = 200
        self.answer: t.Any = None  # the whole body of a chat
        self.list_body: bytes | None = None
        self.vectors: list[t.Any] | None = None
        self.chunks = ["one", " two", " three"]
        self.short_answers = 0  # so many streams have the first chunk only
        self.ending = "done"  # of a stream: done, no_done, cut, error, no_finish, garbage
        self.delay = 0.0
        self.together = threading.Barrier(1)  # so many requests to models are answered at a time
        self.fails_after: int | None = None  # chats that succeed before the backends fail
        self.keys: dict[str, dict[str, t.Any]] | None = None  # virtual keys; None for a gateway without a database
        self.faults: set[str] = set()  # reasons of REFUSALS that do not hold, and paths of the management API that fail
        self.records_spend = True
        self.hosts: list[str] = []  # the names that it was called by
        self.requests: list[tuple[str, str, str | None, t.Any]] = []
        self.calls = 0  # to models that exist
        self.open_now = 0
        self.open_most = 0
        self._turn = {name: itertools.cycle(names) for name, names in self.backends.items()}
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}"

    def serve(self, model: str, backends: list[str]) -> None:
        """Answers for the model come from these, in turn."""
        self.backends[model] = backends
        self._turn[model] = itertools.cycle(backends)

    def start(self, certificate: str | None = None) -> None:
        fake = self

        class Handler(_Handler):
            server_fake = fake

        self._server = _Server(("localhost", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.scheme = "https"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()

    def problem_with(self, key: str, model: str) -> str | None:
        """Why a virtual key is refused, as LiteLLM sees it."""
        row = (self.keys or {}).get(key)
        if row is None:
            return "unknown"
        checks = {
            "blocked": row.get("blocked"),
            "expired": time.time() > row["until"],
            "model": model and row.get("models") and model not in row["models"],
            "budget": row.get("max_budget") is not None and row.get("spend", 0) >= row["max_budget"],
            "rate": row.get("rpm_limit") is not None and row["used"].get("all", 0) >= row["rpm_limit"],
        }
        return next((reason for reason, holds in checks.items() if holds and reason not in self.faults), None)

    def manage(self, method: str, path: str, payload: t.Any) -> tuple[int, t.Any]:
        """LiteLLM's management API."""
        where, _, query = path.partition("?")
        if self.keys is None:
            return 500, {"error": {"message": "DB not connected"}}
        if where in self.faults:
            return 500, {"error": {"message": f"{where} failed for {json.dumps(payload)}"}}
        if where == "/key/generate":
            seconds = {"s": 1, "m": 60}[payload["duration"][-1]] * int(payload["duration"][:-1])
            self.keys[payload["key"]] = {**payload, "until": time.time() + seconds, "used": {}, "recorded": 0}
        elif where == "/key/block":
            self.keys[payload["key"]]["blocked"] = True
        elif where == "/key/delete":
            tokens = {hashlib.sha256(key.encode()).hexdigest(): key for key in self.keys}
            gone = [tokens.get(key, key) for key in payload["keys"] if tokens.get(key, key) in self.keys]
            if not gone:
                return 404, {"error": {"message": "No keys found"}}
            for key in gone if "keeps" not in self.faults else []:
                del self.keys[key]
        elif where == "/key/list":
            rows = [
                {
                    "key_alias": row["key_alias"],
                    "token": hashlib.sha256(key.encode()).hexdigest(),
                    "expires": datetime.datetime.fromtimestamp(row["until"], datetime.UTC).isoformat(),
                }
                for key, row in self.keys.items()
            ]
            return 200, {"keys": rows}
        elif where == "/user/daily/activity":
            token = query.rpartition("api_key=")[2]
            recorded = sum(row["recorded"] for key, row in self.keys.items() if hashlib.sha256(key.encode()).hexdigest() == token)
            return 200, {"metadata": {"total_successful_requests": recorded, "total_tokens": 7 * recorded, "total_spend": 0.0}}
        return 200, {}

    def next_backend(self, model: str) -> str:
        with self._lock:
            return next(self._turn[model])


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_args: t.Any) -> None:
        """A client that gave up is part of some tests."""


class _Handler(BaseHTTPRequestHandler):
    server_fake: FakeOpenAI
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args: t.Any) -> None:
        pass

    def _send(self, status: int, body: t.Any, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _error(self, status: int, message: str, code: str = "") -> None:
        self._send(status, {"error": {"message": message, "code": code or str(status)}})

    def _let_in(self, model: str = "") -> bool:
        fake = self.server_fake
        if fake.pass_for_the_proxy and self.headers.get("X-Pass") != fake.pass_for_the_proxy:
            self._error(404, "there is nothing here")
            return False
        sent = self.headers.get("Authorization")
        if fake.keys is not None and sent and sent != "Bearer " + str(fake.key):
            key = sent[len("Bearer ") :]
            problem = fake.problem_with(key, model)
            if problem:
                self._error(REFUSALS[problem], f"{problem} exceeded: {key}", fake.refusal_code)
                return False
            fake.keys[key]["used"]["all"] = fake.keys[key]["used"].get("all", 0) + 1
            fake.keys[key]["recorded"] += fake.records_spend
            return True
        if fake.key is None or sent == "Bearer " + fake.key:
            return True
        if sent and fake.without_database:
            self._error(400, "No connected db.")
        else:
            self._error(fake.refusal_status, "Authentication Error, the key %s is wrong" % (sent or ""))
        return False

    def do_GET(self) -> None:
        fake = self.server_fake
        fake.hosts.append(self.headers["Host"])
        fake.requests.append(("GET", self.path, self.headers.get("Authorization"), None))
        time.sleep(fake.delay)
        if self.path == "/moved/v1/models":
            self.send_response(301)
            self.send_header("Location", "http://elsewhere.invalid/v1/models")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif not self._let_in():
            return
        elif not self.path.startswith("/v1/"):
            self._send(*fake.manage("GET", self.path, None))
        else:
            row = (fake.keys or {}).get(str(self.headers.get("Authorization"))[len("Bearer ") :], {})
            names = row.get("models") or fake.models
            body = fake.list_body or json.dumps({"data": [{"id": name} for name in names]}).encode()
            self._send(200, body, {"x-litellm-version": "1.2.3"})

    def do_POST(self) -> None:
        fake = self.server_fake
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fake.hosts.append(self.headers["Host"])
        fake.requests.append(("POST", self.path, self.headers.get("Authorization"), payload))
        if not self._let_in(payload.get("model", "")):
            return
        if not self.path.startswith("/v1/"):
            self._send(*fake.manage("POST", self.path, payload))
            return
        with fake._lock:
            fake.open_now += 1
            fake.open_most = max(fake.open_most, fake.open_now)
        fake.together.wait(20)
        time.sleep(fake.delay)
        # Before the answer: a client that has it may ask again at once.
        with fake._lock:
            fake.open_now -= 1
        self._answer(fake, payload)

    def _answer(self, fake: FakeOpenAI, payload: t.Any) -> None:
        model = {"default": "phi3"}.get(payload["model"], payload["model"])
        if model not in fake.backends and not fake.takes_unknown_models:
            self._error(fake.unknown_status, f"The model {model} does not exist")
            return
        if model not in fake.backends:
            model = "phi3"
        with fake._lock:
            fake.calls += 1
            chats = fake.calls
        if fake.chat_status != 200 or (fake.fails_after is not None and chats > fake.fails_after):
            self._error(
                fake.chat_status if fake.chat_status != 200 else 500, f"the backend is gone (asked with {self.headers['Authorization']})"
            )
            return
        headers = {"x-litellm-model-id": fake.next_backend(model)} if fake.names_backend else {}
        if self.path.endswith("/embeddings"):
            vectors = fake.vectors if fake.vectors is not None else [[0.1, 0.2, 0.3] for _text in payload["input"]]
            self._send(200, {"data": [{"embedding": vector} for vector in vectors]}, headers)
        elif payload.get("stream"):
            self._stream(fake, headers)
        else:
            body = fake.answer or {
                "choices": [{"message": {"content": "one two"}, "finish_reason": "stop"}],
                "usage": {"completion_tokens": 2},
            }
            self._send(200, body, headers)

    def _stream(self, fake: FakeOpenAI, headers: dict[str, str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        chunks = fake.chunks
        if fake.short_answers:
            fake.short_answers -= 1
            chunks = chunks[:1]
        for text in chunks:
            self._event(json.dumps({"choices": [{"delta": {"content": text}}]}))
        if fake.ending == "cut":
            self.close_connection = True
            return
        if fake.ending == "garbage":
            self._event("{not json")
        if fake.ending == "error":
            self._event(json.dumps({"error": {"message": "the backend went away"}}))
        elif fake.ending != "no_finish":
            self._event(json.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}]}))
        if fake.ending != "no_done":
            self._event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        self.wfile.flush()
