# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stand-in for a company's key backend, as the scenarios start it: a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import typing as t
from http.client import HTTPConnection
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "standins/auth_backend.py"
SECRET = "shown-by-the-gateway"
ALICE = "hc-sk-alice"

Ask = t.Callable[..., tuple[int, t.Any]]


@pytest.fixture
def ask(tmp_path: Path) -> t.Iterator[Ask]:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"secret": SECRET, "keys": {ALICE: {"tier": "free", "user_id": "u1"}}}))
    process = subprocess.Popen([sys.executable, "-u", PROGRAM, "--port", "0", "--keys", keys], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    connection = HTTPConnection("127.0.0.1", int(process.stdout.readline().rpartition(":")[2]), timeout=30)

    def call(method: str, path: str, body: t.Any = None, secret: str = SECRET) -> tuple[int, t.Any]:
        connection.request(method, path, json.dumps(body), {"Authorization": f"Bearer {secret}"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    yield call
    connection.close()
    process.kill()
    process.wait()
    process.stdout.close()


def test_it_knows_its_keys(ask: Ask) -> None:
    assert ask("POST", "/check", {"key": ALICE}) == (200, {"valid": True, "tier": "free", "user_id": "u1"})
    assert ask("POST", "/check", {"key": "hc-sk-nobody"}) == (200, {"valid": False})
    assert ask("POST", "/check", {"key": ALICE}, secret="another")[0] == 401
    assert ask("POST", "/elsewhere", {"key": ALICE})[0] == 404


def test_keys_come_and_go(ask: Ask) -> None:
    ask("PUT", "/control/keys/hc-sk-bob", {"tier": "premium"})
    assert ask("POST", "/check", {"key": "hc-sk-bob"}) == (200, {"valid": True, "tier": "premium"})
    ask("DELETE", "/control/keys/hc-sk-bob")
    assert ask("POST", "/check", {"key": "hc-sk-bob"}) == (200, {"valid": False})


def test_it_misbehaves_on_demand_and_counts(ask: Ask) -> None:
    ask("PUT", "/control/script", {"status": 503, "body": '{"down": true}'})
    assert ask("POST", "/check", {"key": ALICE}, secret="another") == (503, {"down": True})
    ask("DELETE", "/control/script")
    assert ask("POST", "/check", {"key": ALICE})[0] == 200
    assert ask("GET", "/control/counts") == (200, {"checks": 2, "connections": 1})
    assert ask("DELETE", "/control/counts") == (200, {"checks": 0, "connections": 0})
    assert ask("GET", "/control/other")[0] == 404
