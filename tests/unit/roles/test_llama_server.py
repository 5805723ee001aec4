# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts that the role llama_server runs on a host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import typing as t
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

FILES = Path(__file__).resolve().parents[3] / "roles/llama_server/files"
KEY = "sk-right,sk-another"


class Server(HTTPServer):
    """Answers like llama-server: path -> (status without a key, status with a wrong one, status with a right one, body)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        models = json.dumps({"data": [{"id": "tiny"}]})
        self.answers = {"/health": (200, 200, 200, "ok"), "/v1/models": (401, 401, 200, models), "/props": (401, 401, 200, "{}")}
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        which = 0 if not given else 2 if given in (KEY, *KEY.split(",")) else 1
        answer = t.cast("Server", self.server).answers[self.path]
        self.send_response(t.cast("int", answer[which]))
        self.end_headers()
        self.wfile.write(str(answer[3]).encode())

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def server() -> t.Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(server: Server, key: str = KEY) -> t.Any:
    question = json.dumps([{"unit": "llama-server-1", "url": server.url, "alias": "tiny", "key": key}])
    ran = subprocess.run([sys.executable, FILES / "ask_servers.py"], input=question, capture_output=True, text=True, check=True)
    assert key not in ran.stdout or not key
    return json.loads(ran.stdout)


def test_a_server_that_is_well(server: Server) -> None:
    assert ask(server) == {}


@pytest.mark.parametrize(
    ("path", "answer", "words"),
    [
        ("/health", (503, 503, 503, "Loading model"), "/health answers 503: Loading model"),
        ("/v1/models", (401, 401, 200, '{"data": [{"id": "other"}]}'), "/v1/models answers 200 and has other, not tiny"),
        ("/v1/models", (401, 401, 401, "no"), "/v1/models answers 401 and has no model, not tiny"),
        ("/props", (401, 200, 200, "{}"), "with 200, 401 and 401, and are with 200, 200, 401"),
        ("/props", (200, 401, 200, "{}"), "and are with 200, 401, 200"),
        ("/props", (401, 401, 401, "{}"), "and are with 401, 401, 401"),
    ],
)
def test_what_is_wrong_with_one(server: Server, path: str, answer: t.Any, words: str) -> None:
    server.answers[path] = answer
    (found,) = ask(server)["llama-server-1"]
    assert words in found


def test_a_server_without_a_key_is_not_asked_for_one(server: Server) -> None:
    server.answers = {"/health": (200, 200, 200, ""), "/v1/models": (200, 200, 200, server.answers["/v1/models"][3])}
    assert ask(server, key="") == {}


def test_a_server_that_is_not_there(server: Server) -> None:
    server.url = "http://127.0.0.1:1"
    (found,) = ask(server)["llama-server-1"]
    assert found.startswith("/health answers nothing")


@pytest.fixture
def try_settings(tmp_path: Path) -> t.Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the script with a systemd-run that says what it is told to."""

    def run(gpu: str, says: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        fake = tmp_path / "systemd-run"
        fake.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$*\" >{tmp_path}/called\nprintf '{says}'\nexit {code}\n")
        fake.chmod(0o755)
        command = [sys.executable, FILES / "try_settings.py", "llama-server", "/x/new.env", gpu, "/usr/bin/llama-server", "--seed", "7"]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        )

    return run


def test_settings_that_are_well(try_settings: t.Any, tmp_path: Path) -> None:
    assert try_settings("", "Available devices:\\n  (none)\\n").returncode == 0
    called = (tmp_path / "called").read_text()
    assert "--property=User=llama-server --property=EnvironmentFile=/x/new.env" in called
    assert called.endswith("/usr/bin/llama-server --seed 7 --list-devices\n")
    assert try_settings("0", "Available devices:\\n  CUDA0: NVIDIA A100 (81920 MiB)\\n").returncode == 0


def test_what_llama_server_says_is_passed_on(try_settings: t.Any) -> None:
    ran = try_settings("", "error: invalid argument: --seed\\n", 1)
    assert ran.returncode == 1
    assert "error: invalid argument: --seed\n/usr/bin/llama-server ended with 1" in ran.stderr


@pytest.mark.parametrize("says", ["Available devices:\\n  (none)\\n", "Available devices:\\n", "warning: no usable GPU found\\n"])
def test_no_gpu(try_settings: t.Any, says: str) -> None:
    ran = try_settings("3", says)
    assert ran.returncode == 1
    assert "llama-server sees no GPU 3" in ran.stderr
