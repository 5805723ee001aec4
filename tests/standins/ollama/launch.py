# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Start the stand-in from its sources, and talk to it so closely that the framing of an answer can be checked."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

HERE = Path(__file__).resolve().parent
_START_TIMEOUT = 30.0
_TIMEOUT = 30.0


@dataclass
class Answer:
    """What came back."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    lines: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)  # of the lines, in seconds since the request
    # content-length, chunked-end, no-body; eof where it was cut; client-closed where the client had enough
    end: str = ""
    error: str = ""

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Reader:
    """A socket as a stream that may end anywhere."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = b""

    def _more(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise EOFError
        self._buffer += data

    def until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._more()
        data, _mark, self._buffer = self._buffer.partition(mark)
        return data

    def take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class StandIn:
    """One server, below a directory of its own."""

    def __init__(self, directory: Path, program: list[str] | None = None, environ: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.home = directory / "home"
        self.models = directory / "models"
        self.home.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.host = "127.0.0.1"
        self._program = program or [sys.executable, "-m", "ollama_standin"]
        self.environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(HERE),
            "HOME": str(self.home),
            "OLLAMA_MODELS": str(self.models),
            "OLLAMA_HOST": f"{self.host}:{self.port}",
            **(environ or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.log = directory / "server.log"

    # The process

    def start(self) -> StandIn:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([*self._program, "serve"], env=self.environ, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            try:
                socket.create_connection((self.host, self.port), 1).close()
                return self
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(self.log.read_text()) from None
                time.sleep(0.02)

    def signal(self, number: int) -> None:
        assert self._process
        self._process.send_signal(number)

    def wait(self) -> int:
        assert self._process
        return self._process.wait(_TIMEOUT)

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            self.signal(signal.SIGTERM)
            self.wait()

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the program as a client."""
        return subprocess.run([*self._program, *arguments], env=self.environ, capture_output=True, text=True, timeout=_TIMEOUT, check=False)

    def __enter__(self) -> StandIn:
        return self.start()

    def __exit__(self, *_details: object) -> None:
        self.stop()

    # Requests

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | str | dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        enough: Callable[[Answer], bool] | None = None,
        timeout: float = _TIMEOUT,
    ) -> Answer:
        """One request on a connection of its own, closed early when there is `enough` of the answer."""
        if isinstance(body, dict):
            body = json.dumps(body)
        data = body.encode() if isinstance(body, str) else body
        sent = {"Host": f"{self.host}:{self.port}", "Connection": "close", **(headers or {})}
        if data is not None:
            sent["Content-Length"] = str(len(data))
        head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        answer = Answer()
        started = time.monotonic()
        try:
            connection = socket.create_connection((self.host, self.port), timeout)
        except ConnectionRefusedError as error:
            answer.error = f"ConnectionRefusedError: {error}"
            return answer
        with connection:
            connection.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + (data or b""))
            _read(_Reader(connection), method, answer, started, enough)
        return answer

    def post(self, path: str, body: dict[str, Any], **more: Any) -> Answer:
        return self.ask("POST", path, body, **more)

    def get(self, path: str, **more: Any) -> Answer:
        return self.ask("GET", path, **more)

    def together(self, requests: list[tuple[str, dict[str, Any]]]) -> list[Answer]:
        """Several POST requests at once."""
        answers = [Answer() for _ in requests]

        def one(number: int) -> None:
            answers[number] = self.post(*requests[number])

        threads = [threading.Thread(target=one, args=(number,)) for number in range(len(requests))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    def later(self, path: str, body: dict[str, Any]) -> Callable[[], Answer]:
        """A POST request in the background; call the result for its answer."""
        answers: list[Answer] = []
        thread = threading.Thread(target=lambda: answers.append(self.post(path, body)))
        thread.start()

        def result() -> Answer:
            thread.join()
            return answers[0]

        return result

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Change settings; all of them, with the counters, come back."""
        answer = self.post("/standin/state", changes)
        assert answer.status == 200, answer.body
        return dict(answer.json)

    def counters(self) -> dict[str, Any]:
        return dict(self.get("/standin/state").json["counters"])


def _read(reader: _Reader, method: str, answer: Answer, started: float, enough: Callable[[Answer], bool] | None) -> None:
    try:
        head = reader.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
    except (EOFError, ConnectionError):
        answer.error = "no response head: eof"
        return
    answer.status = int(head[0].split(" ")[1])
    pairs = (line.partition(":") for line in head[1:])
    answer.headers = [(name, value.strip()) for name, _colon, value in pairs]

    def got(data: bytes) -> None:
        whole, answer.body = len(answer.lines), answer.body + data
        answer.lines = [line for line in answer.body.decode("utf-8", "replace").splitlines() if line.strip()]
        answer.times += [time.monotonic() - started] * (len(answer.lines) - whole)

    try:
        if method == "HEAD" or answer.status == 204:
            answer.end = "no-body"
        elif answer.header("Transfer-Encoding") == "chunked":
            while True:
                size = int(reader.until(b"\r\n"), 16)
                data = reader.take(size)
                reader.take(2)
                if not size:
                    answer.end = "chunked-end"
                    return
                got(data)
                if enough and enough(answer):
                    answer.end = "client-closed"
                    return
        else:
            got(reader.take(int(answer.header("Content-Length") or 0)))
            answer.end = "content-length"
    except (EOFError, ConnectionError):
        answer.end = "eof"
