# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from urllib.error import URLError

import pytest

from ansible_collections.selfhosted.llm.plugins.module_utils.probe import Probe, answer_of, missing_part, model_difference
from ansible_collections.selfhosted.llm.tests.unit.scripted_http import ScriptedHttp

URL = "http://127.0.0.1:4000"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[ScriptedHttp]:
    scripted = ScriptedHttp(monkeypatch)
    yield scripted
    scripted.done()


@pytest.mark.parametrize(
    ("expected", "actual", "wrong"),
    [
        ({}, {"a": 1}, None),
        ({"a": 1}, {"a": 1, "b": 2}, None),
        ({"a": {"b": True}}, {"a": {"b": True, "c": 0}}, None),
        ({"a": [1, 2]}, {"a": [1, 2]}, None),
        ({"a": 1}, {}, "answer has no 'a'"),
        ({"a": 1}, [], "answer is list, not an object"),
        ({"a": 1}, None, "answer is NoneType, not an object"),
        ({"a": {"b": 1}}, {"a": 1}, "answer.a is int, not an object"),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, "answer.a.b.c is 2, not 1"),
        ({"a": [1]}, {"a": [1, 2]}, "answer.a is [1, 2], not [1]"),
        ({"a": 1, "b": 2}, {"a": 1, "b": "2"}, "answer.b is '2', not 2"),
    ],
)
def test_missing_part(expected: t.Any, actual: t.Any, wrong: str | None) -> None:
    assert missing_part(expected, actual) == wrong


@pytest.mark.parametrize(
    ("expected", "answer", "wrong"),
    [
        (["a", "b"], {"data": [{"id": "b"}, {"id": "a"}]}, None),
        (["a"], {"data": [{"id": "a"}, {"id": "a"}]}, None),
        ([], {"data": []}, None),
        (["b", "a"], {"data": []}, "models missing: a, b"),
        ([], {"data": [{"id": "x"}]}, "models not declared: x"),
        (["a"], {"data": [{"id": "x"}]}, "models missing: a; models not declared: x"),
        (["a"], {"data": None}, "models missing: a"),
        (["a"], {"data": ["a"]}, "models missing: a"),
        (["a"], [], "models missing: a"),
    ],
)
def test_model_difference(expected: list[str], answer: t.Any, wrong: str | None) -> None:
    assert model_difference(expected, answer) == wrong


def test_good_answers(server: ScriptedHttp) -> None:
    server.expect("GET", "/ready", answer="not even JSON")
    assert answer_of(Probe("/ready"), URL) is None
    server.expect("GET", "/ready", answer={"status": True, "more": 1})
    assert answer_of(Probe("/ready", json={"status": True}), URL) is None
    server.expect("GET", "/v1/models", answer={"data": [{"id": "a"}]})
    assert answer_of(Probe("/v1/models", models=["a"], token="sk-1"), URL) is None
    request = server.requests[-1]
    assert request["headers"]["Authorization"] == "Bearer sk-1"
    # It asks this host, whatever proxy the host has.
    assert request["use_proxy"] is False
    assert request["timeout"] == 5


def test_the_wanted_status_may_be_an_error(server: ScriptedHttp) -> None:
    server.expect("GET", "/", status=401, answer="who are you")
    assert answer_of(Probe("/", status=401), URL) is None
    server.expect("GET", "/", answer="come in")
    assert answer_of(Probe("/", status=401), URL) == f"{URL}/ answered 200: come in"


BAD: list[tuple[Probe, dict[str, t.Any], str]] = [
    (Probe("/x"), {"status": 503, "answer": {"detail": "starting"}}, f"{URL}/x answered 503: starting"),
    (Probe("/x", json={"status": True}), {"answer": {"status": False}}, f"{URL}/x: answer.status is False, not True"),
    (Probe("/x", json={"status": True}), {"answer": "<html>"}, "the answer is not JSON: '<html>'"),
    (Probe("/x", models=["a"]), {"answer": {"data": []}}, f"{URL}/x: models missing: a"),
    (Probe("/x", models=[]), {"answer": {"data": [{"id": "a"}]}}, f"{URL}/x: models not declared: a"),
    (Probe("/x", json={"a": 1}, models=["a"]), {"answer": {}}, f"{URL}/x: answer has no 'a'"),
    (Probe("/x"), {"error": URLError(ConnectionRefusedError(111, "Connection refused"))}, f"{URL}/x: cannot connect: "),
]


@pytest.mark.parametrize(("probe", "reply", "wrong"), BAD)
def test_bad_answers(server: ScriptedHttp, probe: Probe, reply: dict[str, t.Any], wrong: str) -> None:
    server.expect("GET", "/x", **reply)
    assert (answer_of(probe, URL) or "").startswith(wrong)
