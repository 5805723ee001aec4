# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The litellm_* modules against a scripted gateway: a test writes down the calls it expects and what each is answered.

Calls that run side by side may come in any order, so a call is looked up among all that are expected; `seen` has the order they came in.
The answers have the form that LiteLLM 1.106.2 gave.
"""

from __future__ import annotations

import json as jsonlib
import threading
import typing as t
from collections import defaultdict
from urllib.parse import parse_qs, urlsplit

import pytest

from ansible_collections.selfhosted.llm.plugins.module_utils import litellm_api

ANY: t.Any = object()
MASTER = "sk-master-3f9a1c7e5b2d8046"
CONNECTION = {"url": "http://gateway.test:4000", "master_key": MASTER}

NO_DATABASE = {"error": {"message": "Authentication Error, Database not connected", "type": "internal_server_error", "code": "500"}}
NO_DATABASE_TEAMS = {"detail": {"error": "No db connected. prisma client=None"}}
NO_DATABASE_KEY = {"error": {"message": "No connected db.", "type": "no_db_connection", "param": None, "code": "400"}}


class Expected(t.NamedTuple):
    method: str
    path: str
    json: t.Any
    status: int
    body: bytes
    error: BaseException | None


class ScriptedGateway:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.expected: list[Expected] = []
        self.seen: list[str] = []
        self.sent: dict[str, list[t.Any]] = defaultdict(list)
        self._lock = threading.Lock()
        monkeypatch.setattr(litellm_api.Gateway, "_send", lambda _self, method, path, data: self.send(method, path, data))

    def expect(
        self,
        method: str,
        path: str,
        *,
        json: t.Any = ANY,
        answer: t.Any = None,
        status: int = 200,
        error: BaseException | None = None,
    ) -> None:
        body = answer.encode() if isinstance(answer, str) else jsonlib.dumps({} if answer is None else answer).encode()
        self.expected.append(Expected(method, path, json, status, body, error))

    def send(self, method: str, path: str, data: bytes | None) -> tuple[int, bytes]:
        parts = urlsplit(path)
        sent = jsonlib.loads(data) if data else None
        with self._lock:
            self.seen.append(f"{method} {parts.path}")
            self.sent[parts.path].append(sent if method == "POST" else {name: value[0] for name, value in parse_qs(parts.query).items()})
            for call in self.expected:
                if (call.method, call.path) in ((method, path), (method, parts.path)) and (call.json is ANY or call.json == sent):
                    self.expected.remove(call)
                    if call.error:
                        raise call.error
                    return call.status, call.body
        raise AssertionError(f"not in the script: {method} {path} {sent}")

    def done(self) -> None:
        assert not self.expected, "not called: " + ", ".join(f"{call.method} {call.path} {call.json}" for call in self.expected)

    # What the lists answer

    def keys(self, *rows: dict[str, t.Any]) -> None:
        self.expect("GET", "/key/list", answer={"keys": list(rows), "total_count": len(rows), "current_page": 1, "total_pages": 1})

    def teams(self, *rows: dict[str, t.Any]) -> None:
        self.expect("GET", "/v2/team/list", answer={"teams": list(rows), "total": len(rows), "page": 1, "page_size": 100, "total_pages": 1})

    def users(self, *rows: dict[str, t.Any]) -> None:
        self.expect("GET", "/user/list", answer={"users": list(rows), "total": len(rows), "page": 1, "page_size": 100, "total_pages": 1})


def key_row(alias: str, token: str, **more: t.Any) -> dict[str, t.Any]:
    """A key as /key/list shows it."""
    row = {
        "token": token,
        "key_name": "sk-...abcd",
        "key_alias": alias,
        "spend": 0.0,
        "max_budget": None,
        "expires": None,
        "models": [],
        "user_id": None,
        "team_id": None,
        "max_parallel_requests": None,
        "metadata": {},
        "tpm_limit": None,
        "rpm_limit": None,
        "tpd_limit": None,
        "budget_duration": None,
        "budget_reset_at": None,
        "blocked": None,
        "budget_limits": None,
        "created_at": "2026-11-21T02:31:23.903000Z",
    }
    return {**row, **more}


def team_row(team_id: str, alias: str | None = None, **more: t.Any) -> dict[str, t.Any]:
    """A team as /v2/team/list shows it: with the user of the master key."""
    row = {
        "team_id": team_id,
        "team_alias": alias or team_id,
        "members_with_roles": [{"user_id": "default_user_id", "user_email": None, "role": "admin"}],
        "metadata": {},
        "tpm_limit": None,
        "rpm_limit": None,
        "max_budget": None,
        "budget_duration": None,
        "budget_limits": None,
        "models": [],
        "blocked": False,
    }
    return {**row, **more}


def user_row(user_id: str, **more: t.Any) -> dict[str, t.Any]:
    """A user as /user/list shows one."""
    row = {
        "user_id": user_id,
        "user_alias": None,
        "user_role": "internal_user",
        "user_email": None,
        "max_budget": None,
        "budget_duration": None,
        "models": [],
        "metadata": {},
        "tpm_limit": None,
        "rpm_limit": None,
    }
    return {**row, **more}
