# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stand-in for Ollama answers as a real one was recorded to answer.

Every recording is replayed, or named in replay.EXCLUDED with the reason.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import contract
import pytest
import replay
from launch import Answer, StandIn

_RECORDINGS = [(group, recording) for group in replay.GROUPS for recording in contract.load(group)]
_NAMES = [recording["name"] for _group, recording in _RECORDINGS]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[str]]]:
    """Filled group by group: all of a group are replayed by the first that asks."""
    return {}


@pytest.mark.parametrize(("group", "recording"), _RECORDINGS, ids=_NAMES)
def test_answers_as_recorded(
    group: str, recording: dict[str, Any], results: dict[str, dict[str, list[str]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = recording["name"]
    if name in replay.EXCLUDED:
        pytest.skip(replay.EXCLUDED[name])
    if group not in results:
        results[group] = replay.Replay(group, tmp_path_factory.mktemp(group)).run()
    assert results[group][name] == []


def test_exclusions_and_circumstances_name_recordings() -> None:
    named = {*replay.EXCLUDED, *replay.BEFORE, *replay.SPECIAL}
    assert sorted(named - set(_NAMES)) == []
    assert all(replay.EXCLUDED.values())
    files = {path.stem for path in contract.RECORDINGS.glob("*.jsonl")}
    assert files == {*replay.GROUPS, "cli"}


# The comparison itself: it must see what is wrong.

_LINE = '{"model":"tiny","done":true,"done_reason":"length","eval_count":6,"message":{"content":"abc"}}'
_GIN = "application/json; charset=utf-8"
_RECORDED = {"status": 200, "headers": [["Content-Type", _GIN]], "lines": [_LINE], "newline": False}


def _answer(line: str = _LINE, status: int = 200, kind: str = _GIN, end: str = "content-length") -> Answer:
    headers = [("Content-Type", kind), ("Content-Length", str(len(line)))]
    return Answer(status, headers, line.encode(), [line], [0.0], end)


def test_comparison_accepts_what_may_differ() -> None:
    assert contract.differences(_RECORDED, _answer(), "/m") == []
    assert contract.differences(_RECORDED, _answer(_LINE.replace("abc", "xyz")), "/m") == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": 201},
        {"kind": "application/json"},
        {"end": "chunked-end"},
        {"line": '{"model":"other","done":true,"done_reason":"length","eval_count":6,"message":{"content":"abc"}}'},
        {"line": '{"model":"tiny","done":true,"done_reason":"stop","eval_count":6,"message":{"content":"abc"}}'},
        {"line": '{"model":"tiny","done":"true","done_reason":"length","eval_count":6,"message":{"content":"abc"}}'},
        {"line": '{"model":"tiny","done":true,"done_reason":"length","eval_count":5,"message":{"content":"abc"}}'},
        {"line": '{"model":"tiny","done":true,"done_reason":"length","eval_count":6,"message":{"text":"abc"}}'},
        {"line": '{"model":"tiny","done":true,"done_reason":"length","message":{"content":"abc"}}'},
        {"line": '{"model":"tiny","done":true,"done_reason":"length","eval_count":6,"message":{"content":"abc"},"more":1}'},
        {"line": _LINE + "\n"},
        {"line": "not JSON"},
    ],
)
def test_comparison_rejects(wrong: dict[str, Any]) -> None:
    assert contract.differences(_RECORDED, _answer(**wrong), "/m") != []


def test_comparison_rejects_other_lines_in_a_stream() -> None:
    recorded = {"status": 200, "headers": [], "lines": ['{"status":"writing manifest"}', '{"status":"success"}'], "end": "chunked-end"}
    lines = ['{"status":"writing manifest"}', '{"error":"no"}']
    body = "".join(line + "\n" for line in lines).encode()
    assert contract.differences(recorded, Answer(200, [], body, lines, [0.0, 0.0], "chunked-end"), "/m") != []
    body = b'{"status":"success"}\n'
    assert contract.differences(recorded, Answer(200, [], body, lines[:1], [0.0], "chunked-end"), "/m") != []


# The commands

_ANSI = re.compile(r"\x1b\[[?0-9;]*[a-zA-Z]")
_CLI_EXCLUDED = {
    "up_--help": "the stand-in has fewer commands, and says so",
    "up_serve_--help": "the stand-in does not list the variables",
}
_CLI = [json.loads(line) for line in (contract.RECORDINGS / "cli.jsonl").read_text(encoding="utf-8").splitlines()]


def _scrubbed(text: str, models: Path, progress: bool = True) -> str:
    """Without what differs each time: progress codes, times, addresses, sizes, digests, logs."""
    text = contract.scrub(_ANSI.sub("", text).replace(str(models), "/models"))
    unwanted = ("time=",) if progress else ("time=", "pulling DIGEST")
    text = "\n".join(line for line in text.splitlines() if not line.startswith(unwanted))
    text = re.sub(r"ssh-ed25519 \S+", "ssh-ed25519 KEY", text)
    text = re.sub(r"127\.0\.0\.1:\d{4,5}", "ADDRESS", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "ID", text)
    text = re.sub(r"\d+ (minutes|seconds) (ago|from now)|Less than a second ago|About a minute ago", "WHILE", text)
    return re.sub(r" +", " ", re.sub(r"[\d.]+ [KM]?B", "SIZE", text))


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One that runs, with the models of the recording, and one that does not."""
    catalogue = tmp_path_factory.mktemp("cli") / "catalogue.json"
    catalogue.write_text(json.dumps(replay.CATALOGUE))
    up = StandIn(tmp_path_factory.mktemp("up"), environ={"OLLAMA_STANDIN_CATALOGUE": str(catalogue), "OLLAMA_KEEP_ALIVE": "10m"})
    down = StandIn(tmp_path_factory.mktemp("down"))
    with up:
        replay.create_slow(up)
        replay.create(up, "emb", replay.tiny_model(pooling=True))
        assert up.post("/api/generate", {"model": "slow"}).status == 200
        yield {"up": up, "down": down}


@pytest.mark.parametrize("recorded", _CLI, ids=[recorded["name"] for recorded in _CLI])
def test_commands_as_recorded(recorded: dict[str, Any], servers: dict[str, StandIn], tmp_path: Path) -> None:
    if recorded["name"] in _CLI_EXCLUDED:
        pytest.skip(_CLI_EXCLUDED[recorded["name"]])
    server = servers[recorded["server"]]
    if recorded["name"].startswith("serve_"):
        server = StandIn(tmp_path)
        server.environ["OLLAMA_HOST"] = f"127.0.0.1:{servers['up'].port}"
    if recorded["name"] == "serve_bad_models_dir":
        server.environ.update({"OLLAMA_HOST": f"127.0.0.1:{server.port}", "OLLAMA_MODELS": "/proc/nope"})
    done = server.command(*recorded["args"])
    assert done.returncode == recorded["exit"]
    for name, got in (("stdout", done.stdout), ("stderr", done.stderr)):
        # Whether a small layer gets a line when it is fetched is a matter of milliseconds.
        progress = recorded["name"] != "up_pull_ok"
        assert _scrubbed(got, server.models, progress) == _scrubbed(recorded[name], Path("/models"), progress), name
