# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of an edge node, for the tests: what it was answered, as JSON.

    python3 edge_client.py COMMAND '{"edge": "edge-bookworm", "ca": "/root/ca.crt", …}'

`edge` is where to connect, `name` what to ask for.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import socket
import ssl
import subprocess
import sys
import threading
import time
import uuid
from typing import Any

API = "api.edge.test"
BACKENDS = {"one": 4001, "two": 4002}
PATIENCE = 60
# An edge node that believes it counts each run of this as another client.
FROM = f"198.51.{secrets.randbelow(256)}.{secrets.randbelow(254) + 1}"

Options = dict[str, Any]


class Connection(http.client.HTTPSConnection):
    """Connects to one place, and asks for another name."""

    def __init__(self, edge: str, name: str, ca: str, port: int = 443) -> None:
        super().__init__(name, port, timeout=PATIENCE, context=ssl.create_default_context(cafile=ca))
        self.edge = edge

    def connect(self) -> None:
        plain = socket.create_connection((self.edge, self.port), self.timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = self._context.wrap_socket(plain, server_hostname=self.host)  # type: ignore[attr-defined]


def connection(options: Options) -> Connection:
    return Connection(options["edge"], options.get("name", API), options["ca"])


def ask(options: Options, headers: dict[str, str] | None = None, kept: Connection | None = None) -> http.client.HTTPResponse:
    one = kept or connection(options)
    body = b"x" * options.get("size", 0)
    method = options.get("method", "POST" if body else "GET")
    one.request(method, options["path"], body, {"X-Forwarded-For": FROM, **options.get("headers", {}), **(headers or {})})
    return one.getresponse()


def told(answer: http.client.HTTPResponse) -> Options:
    return {
        "status": answer.status,
        "headers": {name.lower(): value for name, value in answer.getheaders()},
        "body": answer.read().decode("utf-8", "replace"),
    }


def past_the_proxy(backend: str, method: str, path: str, test: str) -> Options:
    one = http.client.HTTPConnection("127.0.0.1", BACKENDS[backend], timeout=PATIENCE)
    one.request(method, path, headers={"X-Test": test})
    return json.loads(one.getresponse().read())  # type: ignore[no-any-return]


def counts(test: str) -> dict[str, int]:
    found = {}
    for backend in BACKENDS:
        try:
            found[backend] = past_the_proxy(backend, "GET", "/_test/count", test)["count"]
        except OSError:
            found[backend] = 0
    return found


def release(test: str, times: int = 1) -> None:
    for backend in BACKENDS:
        for _ in range(times):
            try:
                past_the_proxy(backend, "POST", "/_test/release", test)
            except OSError:
                break


def until(condition: Any) -> Any:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise TimeoutError


# --- commands


def requests(options: Options) -> list[Options]:
    """The same, `times` over one connection."""
    kept = connection(options)
    found = []
    for _ in range(options.get("times", 1)):
        found.append(told(ask(options, kept=kept)))
        if found[-1]["headers"].get("connection") == "close":
            kept = connection(options)
    return found


def counted(options: Options) -> Options:
    """One request, and how often each backend got it."""
    test = uuid.uuid4().hex
    answer = told(ask(options, {"X-Test": test}))
    return {**answer, "counts": counts(test)}


def stream(options: Options) -> Options:
    """Says that it has a piece before the next one is sent: whoever holds one back on the way waits for ever."""
    test = uuid.uuid4().hex
    answer = ask(options, {"X-Test": test, "X-Do": options.get("do", "stream")})
    pieces, broken = [], False
    try:
        while True:
            line = answer.readline()
            if not line:
                # http.client takes a cut between two chunks for an end.
                broken = answer.chunked and answer.chunk_left is not None
                break
            if line.startswith(b"data: "):
                pieces.append(int(line[6:]))
                release(test)
    except (http.client.HTTPException, OSError):
        broken = True
    return {"status": answer.status, "pieces": pieces, "broken": broken, "counts": counts(test)}


def at_once(options: Options) -> list[int]:
    """The status of as many requests as `times`, the last one asked when all others are held by the backends."""
    test = uuid.uuid4().hex
    held: list[int] = []
    threads = [
        threading.Thread(target=lambda: held.append(ask(options, {"X-Test": test, "X-Do": "wait"}).status))
        for _ in range(options["times"] - 1)
    ]
    for thread in threads:
        thread.start()
    until(lambda: sum(counts(test).values()) == len(threads))
    last = ask(options).status
    release(test, len(threads))
    for thread in threads:
        thread.join()
    return [*held, last]


def killed(options: Options) -> Options:
    """One request whose backend is killed while it works on it."""
    test = uuid.uuid4().hex
    answers: list[Options] = []
    thread = threading.Thread(target=lambda: answers.append(told(ask(options, {"X-Test": test, "X-Do": "wait"}))))
    thread.start()
    victim = until(lambda: next((name for name, count in counts(test).items() if count), None))
    subprocess.run(["systemctl", "kill", "--signal=KILL", f"backend-{victim}"], check=True)
    if options["repeated"]:
        until(lambda: sum(counts(test).values()))
        release(test)
    thread.join()
    others = sum(counts(test).values())
    subprocess.run(["systemctl", "restart", f"backend-{victim}"], check=True)
    until(lambda: answers_itself(victim))
    return {**answers[0], "victim": victim, "others": others}


def answers_itself(backend: str) -> bool:
    try:
        return "count" in past_the_proxy(backend, "GET", "/_test/count", "any")
    except OSError:
        return False


def websocket(options: Options) -> list[str]:
    """What comes back of the words, one after the other."""
    one = connection(options)
    one.connect()
    handshake = [
        f"GET {options['path']} HTTP/1.1",
        f"Host: {options['name']}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "X-Do: echo",
    ]
    one.sock.sendall("\r\n".join([*handshake, "", ""]).encode())
    stream = one.sock.makefile("rb")
    found = [stream.readline().decode().strip()]
    while stream.readline().strip():
        pass
    for word in options["words"]:
        mask, data = os.urandom(4), word.encode()
        one.sock.sendall(bytes([0x81, 0x80 | len(data)]) + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(data)))
        head = stream.read(2)
        found.append(stream.read(head[1]).decode())
    return found


COMMANDS = {
    "at_once": at_once,
    "counted": counted,
    "killed": killed,
    "requests": requests,
    "stream": stream,
    "websocket": websocket,
}

if __name__ == "__main__":
    print(json.dumps(COMMANDS[sys.argv[1]](json.loads(sys.argv[2]))))
