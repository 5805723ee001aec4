# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tests/clients/aiterm_like.py tells apart what an operator has to tell apart. molecule/site asks a deployed gateway with it."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhosted.llm.plugins.plugin_utils.clients import client_settings

_spec = importlib.util.spec_from_file_location("aiterm_like", Path(__file__).resolve().parents[1] / "clients/aiterm_like.py")
assert _spec is not None
assert _spec.loader is not None
aiterm_like = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(aiterm_like)

KEY = "sk-a-key"
GOOD = {"choices": [{"message": {"content": " ls -la\n"}}]}


class Service(HTTPServer):
    status, answer = 200, json.dumps(GOOD)
    asked: Any = None


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        self.server.asked = self.path, self.headers["Authorization"], json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.answer.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    server = Service(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def run(service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def made(*arguments: str, text: str | None = None) -> tuple[int, str, str]:
        lines = client_settings(f"http://127.0.0.1:{service.server_port}", "tiny", "", KEY, "aiterm")
        # As the playbook prints it.
        shown = "ok: [localhost] =>\n    msg: |-\n" + "".join(f"        {line}\n" for line in lines)
        monkeypatch.setattr(sys, "stdin", io.StringIO(shown if text is None else text))
        monkeypatch.setattr(sys, "argv", ["aiterm_like.py", "--settings", "-", *arguments, "list", "files"])
        code = aiterm_like.main()
        told = capsys.readouterr()
        return code, told.out, told.err

    return made


@pytest.mark.parametrize("platform", ["linux", "macos", "windows"])
def test_it_asks_as_the_playbook_says(run: Any, service: Service, platform: str) -> None:
    assert run("--platform", platform) == (0, "ls -la\n", "")
    path, authorization, payload = service.asked
    assert (path, authorization) == ("/v1/chat/completions", f"Bearer {KEY}")
    system, user = payload["messages"]
    assert platform in system["content"]
    assert (user["content"], payload["model"]) == ("list files", "tiny")


@pytest.mark.parametrize(
    ("status", "answer", "code", "words"),
    [
        (401, "{}", 3, "authentication failed"),
        # What LiteLLM without a database says of a wrong key by itself: no client can tell.
        (400, '{"error": {"message": "No connected db."}}', 1, "HTTP 400"),
        (403, "{}", 1, "HTTP 403"),
        (503, "{}", 1, "HTTP 503"),
        (200, "<html>", 1, "the answer is none"),
        (200, '{"choices": []}', 1, "the answer is none"),
        (200, '{"choices": [{"message": {"content": null}}]}', 1, "the answer is empty"),
    ],
)
def test_what_it_makes_of_an_answer(run: Any, service: Service, status: int, answer: str, code: int, words: str) -> None:
    service.status, service.answer = status, answer
    found, output, errors = run()
    assert (found, output) == (code, "")
    assert words in errors


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{\n"api_endpoint": "", "api_token": "", "model": ""}'])
def test_without_settings(run: Any, text: str) -> None:
    assert run(text=text)[0] == 2
