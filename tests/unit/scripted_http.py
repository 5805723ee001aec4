# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules against a scripted server: a test writes down the calls it expects, in order, and what each is answered.

    http = ScriptedHttp(monkeypatch)
    http.expect("GET", "/api/version", answer={"version": "1"})
    http.expect("POST", "/api/pull", json={"model": "a:latest"}, answer=[{"status": "pulling manifest"}, {"status": "success"}])
    result = run_module(monkeypatch, capsys, module, {"models": []})
    http.done()

It takes the place of the network below ApiClient in module_utils/http.py: a module's own client and its error handling are what is tested.
"""

from __future__ import annotations

import io
import json as jsonlib
import typing as t
from email.message import Message
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

from ansible_collections.selfhosted.llm.plugins.module_utils.http import ApiClient

ANY: t.Any = object()


class Answer(io.BytesIO):
    """What open_url returns. With `breaks_off` the read after the last byte raises it."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str], breaks_off: BaseException | None) -> None:
        super().__init__(body)
        self.status = status
        self.headers = Message()
        for name, value in headers.items():
            self.headers[name] = value
        self._breaks_off = breaks_off

    def getcode(self) -> int:
        return self.status

    def __next__(self) -> bytes:
        row = self.readline()
        if not row:
            if self._breaks_off:
                raise self._breaks_off
            raise StopIteration
        return row

    def read(self, size: int | None = -1, /) -> bytes:
        chunk = super().read(size)
        if self._breaks_off and (size is None or size < 0 or not chunk):
            raise self._breaks_off
        return chunk


class Expected(t.NamedTuple):
    method: str
    path: str
    json: t.Any
    status: int
    body: bytes
    headers: dict[str, str]
    error: BaseException | None
    breaks_off: BaseException | None


def to_bytes(answer: t.Any) -> bytes:
    """A dict is a JSON body, a list is one JSON document per line, text and bytes are themselves."""
    if isinstance(answer, bytes):
        return answer
    if isinstance(answer, str):
        return answer.encode()
    if isinstance(answer, list):
        return b"".join(jsonlib.dumps(row).encode() + b"\n" for row in answer)
    return jsonlib.dumps(answer).encode()


class ScriptedHttp:
    """The script. `target` is where a module that calls open_url itself looks it up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, target: str = "") -> None:
        self.expected: list[Expected] = []
        self.seen: list[str] = []
        self.requests: list[dict[str, t.Any]] = []
        if target:
            monkeypatch.setattr(target, self.open_url)
            return

        def send(client: ApiClient, request: Request, timeout: float) -> Answer:
            data = t.cast("bytes | None", request.data)
            return self.open_url(
                request.full_url, request.get_method(), data, headers=request.headers, timeout=timeout, use_proxy=client.use_proxy
            )

        monkeypatch.setattr(ApiClient, "_send", send)

    def expect(
        self,
        method: str,
        path: str,
        *,
        json: t.Any = ANY,
        answer: t.Any = "",
        status: int = 200,
        headers: dict[str, str] | None = None,
        error: BaseException | None = None,
        breaks_off: BaseException | None = None,
    ) -> None:
        """The next call. `error` is raised instead of an answer, `breaks_off` after its last byte."""
        self.expected.append(Expected(method, path, json, status, to_bytes(answer), headers or {}, error, breaks_off))

    def open_url(self, url: str, method: str = "GET", data: bytes | None = None, **options: t.Any) -> Answer:
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        self.seen.append(f"{method} {path}")
        self.requests.append({"url": url, "method": method, "data": data, **options})
        assert self.expected, f"not in the script: {method} {url} {data!r}"
        call = self.expected.pop(0)
        assert (method, path) == (call.method, call.path), f"got {method} {path}, the script has {call.method} {call.path}"
        if call.json is not ANY:
            assert (jsonlib.loads(data) if data else None) == call.json
        if call.error:
            raise call.error
        answer = Answer(call.status, call.body, call.headers, call.breaks_off)
        if call.status >= 400:
            raise HTTPError(url, call.status, "scripted", answer.headers, answer)
        return answer

    def done(self) -> None:
        assert not self.expected, "not called: " + ", ".join(f"{call.method} {call.path}" for call in self.expected)


def run_module(
    capsys: pytest.CaptureFixture[str], main: t.Callable[[], None], arguments: dict[str, t.Any], check_mode: bool = False
) -> dict[str, t.Any]:
    """The result of a module's main()."""
    capsys.readouterr()
    basic._ANSIBLE_ARGS = None
    # As a task without no_log sends it.
    internal = {"_ansible_check_mode": check_mode, "_ansible_no_log": False}
    with patch_module_args({**internal, **arguments}), pytest.raises(SystemExit):
        main()
    result = jsonlib.loads(capsys.readouterr().out)
    result.setdefault("failed", False)
    return t.cast("dict[str, t.Any]", result)
