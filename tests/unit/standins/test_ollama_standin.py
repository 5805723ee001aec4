# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What tests of the collection rely on in the stand-in for Ollama: limits, faults, the store, the release archive."""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
import signal
import stat
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import build_release
import pytest
from launch import Answer, StandIn

MODEL = "qwen2.5:0.5b"
FAST = {"OLLAMA_STANDIN_PULL_BYTES_PER_SECOND": "0", "OLLAMA_STANDIN_LOAD_SECONDS": "0.05"}


def chat(**more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], **more}


def pulling(size: int) -> dict[str, str]:
    """Models of that size, at 200 MB/s."""
    return {"OLLAMA_STANDIN_PULL_BYTES": str(size), "OLLAMA_STANDIN_PULL_BYTES_PER_SECOND": "2e8"}


def pull(server: StandIn, name: str = MODEL) -> None:
    assert server.post("/api/pull", {"model": name, "stream": False}).json == {"status": "success"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(tmp_path, environ={"OLLAMA_NUM_PARALLEL": "2", **FAST}) as running:
        pull(running)
        yield running


def names(server: StandIn, path: str = "/api/tags") -> list[str]:
    return [model["name"] for model in server.get(path).json["models"]]


# Speed and limits


def test_parallel_limit_limits(server: StandIn) -> None:
    server.settings(tokens_per_second=0, delay=0.3)
    server.post("/api/generate", {"model": MODEL})
    server.post("/standin/reset", {})
    started = time.monotonic()
    answers = server.together([("/api/chat", chat(stream=False))] * 6)
    took = time.monotonic() - started
    assert [answer.status for answer in answers] == [200] * 6
    counters = server.counters()
    assert counters["max_running"] == 2
    assert counters["max_in_flight"] == 6
    assert counters["requests"] == {"POST /api/chat": 6}
    assert took >= 0.9  # three rounds of two


def test_waiting_requests_get_their_turn_when_a_client_leaves(server: StandIn) -> None:
    server.settings(reply_tokens=3000, tokens_per_second=50)
    server.post("/api/generate", {"model": MODEL})
    left = [
        threading.Thread(target=server.post, args=("/api/chat", chat()), kwargs={"enough": lambda answer: len(answer.lines) > 3})
        for _ in "ab"
    ]
    for thread in left:
        thread.start()
    answer = server.post("/api/chat", chat(options={"num_predict": 3}))
    assert len(answer.lines) == 4
    for thread in left:
        thread.join()
    deadline = time.monotonic() + 5
    while server.counters()["running"] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.counters()["running"] == 0


def test_a_stream_arrives_token_by_token(server: StandIn) -> None:
    server.settings(tokens_per_second=20)
    server.post("/api/generate", {"model": MODEL})
    answer = server.post("/api/chat", chat(options={"num_predict": 8}))
    gaps = [later - earlier for earlier, later in itertools.pairwise(answer.times[:-1])]
    assert len(gaps) == 7
    assert min(gaps) > 0.005
    assert 0.3 < sum(gaps) < 1.5


def test_a_slow_answer_that_is_not_streamed_takes_as_long(server: StandIn) -> None:
    server.settings(tokens_per_second=20)
    server.post("/api/generate", {"model": MODEL})
    started = time.monotonic()
    assert server.post("/api/chat", chat(stream=False, options={"num_predict": 8})).json["eval_count"] == 8
    assert time.monotonic() - started >= 0.4


def test_connections_are_kept_alive(server: StandIn) -> None:
    connection = http.client.HTTPConnection(server.host, server.port)
    sockets = set()
    for _ in range(3):
        connection.request("POST", "/api/chat", json.dumps(chat(options={"num_predict": 2})))
        assert connection.getresponse().read().endswith(b"}\n")
        sockets.add(id(connection.sock))
    assert len(sockets) == 1
    assert connection.sock is not None
    connection.close()


def test_many_at_once(server: StandIn) -> None:
    server.settings(tokens_per_second=0)
    answers = server.together([("/v1/chat/completions", {**chat(), "stream": number % 2 == 0}) for number in range(100)])
    assert {answer.status for answer in answers} == {200}
    assert all(answer.body.endswith(b"data: [DONE]\n\n") for answer in answers[::2])
    assert server.counters()["in_flight"] == 0


# Faults


def test_hang_hangs_and_comes_back(server: StandIn) -> None:
    server.settings(tokens_per_second=50, reply_tokens=60)
    server.post("/api/generate", {"model": MODEL})
    stream = server.later("/api/chat", chat())
    while not server.counters()["running"]:
        time.sleep(0.01)
    time.sleep(0.2)
    assert server.settings(hang=True)["hang"] is True
    for path in ("/", "/api/version"):
        with pytest.raises(TimeoutError):
            server.get(path, timeout=0.5)
    server.settings(hang=False)
    answer = stream()
    assert json.loads(answer.lines[-1])["done"]
    gaps = [later - earlier for earlier, later in itertools.pairwise(answer.times)]
    assert max(gaps) > 0.9  # it froze
    assert answer.times[-1] - answer.times[0] > 60 / 50 + 0.9  # and did not make up for it
    assert server.get("/").body == b"Ollama is running"


def test_sigterm_cuts_connections(server: StandIn) -> None:
    server.settings(reply_tokens=3000, tokens_per_second=100)
    server.post("/api/generate", {"model": MODEL})
    running = [server.later("/api/chat", chat(stream=stream)) for stream in (True, False)]
    while server.counters()["running"] < 2:
        time.sleep(0.01)
    waiting = server.later("/v1/chat/completions", chat())
    time.sleep(0.2)
    started = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert time.monotonic() - started < 2
    stream, plain, waited = (result() for result in (*running, waiting))
    assert stream.status == 200
    assert stream.end == "eof"
    assert plain.error == waited.error == "no response head: eof"
    assert server.get("/").error.startswith("ConnectionRefusedError")


@pytest.mark.parametrize(
    ("path", "kind"), [("/api/chat", str), ("/api/generate", str), ("/v1/chat/completions", dict), ("/api/embed", str)]
)
def test_told_to_fail_with_a_status(server: StandIn, path: str, kind: type) -> None:
    pull(server, "all-minilm")
    server.settings(fail="500")
    body = {"model": "all-minilm", "input": "x"} if path == "/api/embed" else {**chat(), "prompt": "hello"}
    answer = server.post(path, body)
    assert answer.status == 500
    assert isinstance(answer.json["error"], kind)
    assert server.get("/api/version").status == 200
    server.settings(fail="")
    assert server.post(path, body).status == 200


def test_told_to_drop_connections(server: StandIn) -> None:
    server.settings(fail="drop")
    assert server.post("/api/chat", chat()).error == "no response head: eof"


def test_runner_dies_in_a_stream(server: StandIn) -> None:
    server.settings(fail="runner")
    native = server.post("/api/chat", chat())
    assert json.loads(native.lines[-1]) == {"error": "an error was encountered while running the model: unexpected EOF"}
    assert native.end == "chunked-end"
    openai = server.post("/v1/chat/completions", chat(stream=True))
    last = json.loads(openai.lines[-1][len("data: ") :])
    assert last["model"] == ""
    assert last["choices"][0]["finish_reason"] is None
    assert openai.end == "chunked-end"


def test_settings_are_checked(server: StandIn) -> None:
    before = server.get("/standin/state").json
    for wrong in ({"hung": True}, {"delay": -1}, {"fail": "yes"}, {"vram": 2}, {"hang": "perhaps"}, {"delay": 1, "vram": "no"}):
        assert server.post("/standin/state", wrong).status == 400
    assert server.get("/standin/state").json == before


@pytest.mark.parametrize(("vram", "share", "shown"), [(True, 1.0, "100% GPU"), (False, 0.0, "100% CPU"), (0.25, 0.25, "75%/25% CPU/GPU")])
def test_vram(server: StandIn, vram: Any, share: float, shown: str) -> None:
    server.settings(vram=vram)
    server.post("/api/generate", {"model": MODEL})
    (model,) = server.get("/api/ps").json["models"]
    assert model["size_vram"] == int(model["size"] * share)
    assert shown in server.command("ps").stdout


# The store


def test_models_survive_a_restart(server: StandIn) -> None:
    pull(server, "all-minilm")
    made = {"model": "mine", "from": MODEL, "system": "Be brief.", "parameters": {"num_ctx": 2048}, "stream": False}
    assert server.post("/api/create", made).status == 200
    before = server.get("/api/tags").json
    shown = server.post("/api/show", {"model": "mine"}).json
    server.stop()
    server.start()
    assert server.get("/api/tags").json == before
    assert server.post("/api/show", {"model": "mine"}).json == shown
    assert shown["system"] == "Be brief."
    assert names(server, "/api/ps") == []
    assert server.post("/api/chat", chat(stream=False)).status == 200
    (loaded,) = server.get("/api/ps").json["models"]
    assert loaded["context_length"] == 4096


def test_deleting_removes_only_what_nothing_else_uses(server: StandIn) -> None:
    assert server.post("/api/copy", {"source": MODEL, "destination": "copied"}).status == 200
    blobs = sorted(path.name for path in (server.models / "blobs").iterdir())
    assert server.ask("DELETE", "/api/delete", {"model": MODEL}).status == 200
    assert sorted(path.name for path in (server.models / "blobs").iterdir()) == blobs
    assert server.ask("DELETE", "/api/delete", {"model": "copied"}).status == 200
    assert list((server.models / "blobs").iterdir()) == []
    assert names(server) == []


def test_home_gets_a_key_file(server: StandIn) -> None:
    key = server.home / ".ollama" / "id_ed25519"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.with_suffix(".pub").read_text().startswith("ssh-ed25519 ")


# Pulls


def test_pull_shows_progress(tmp_path: Path) -> None:
    with StandIn(tmp_path, environ=pulling(200000000)) as server:
        answer = server.post("/api/pull", {"model": "all-minilm"})
        lines = [json.loads(line) for line in answer.lines]
        assert names(server) == ["all-minilm:latest"]
        assert server.get("/api/tags").json["models"][0]["capabilities"] == ["embedding"]
    assert lines[0] == {"status": "pulling manifest"}
    assert [line["status"] for line in lines[-3:]] == ["verifying sha256 digest", "writing manifest", "success"]
    layer = [line for line in lines if line.get("total") == 200000000]
    completed = [line.get("completed", 0) for line in layer]
    assert len(completed) >= 5
    assert completed == sorted(completed)
    assert len(set(completed)) >= 5
    assert completed[-1] <= 200000000
    assert all(line["status"] == f"pulling {line['digest'][7:19]}" for line in layer)
    assert 0.8 < answer.times[-1] < 5


def test_an_interrupted_pull_goes_on_where_it_stopped(tmp_path: Path) -> None:
    body = {"model": "all-minilm"}
    with StandIn(tmp_path, environ=pulling(250000000)) as server:

        def half(answer: Answer) -> bool:
            return int(json.loads(answer.lines[-1]).get("completed", 0)) > 100_000_000

        first = server.post("/api/pull", body, enough=half)
        reached = json.loads(first.lines[-1])["completed"]
        assert names(server) == []
        time.sleep(0.2)
        again = server.post("/api/pull", body)
        assert json.loads(again.lines[1])["completed"] >= reached
        assert again.times[-1] < 1.5
        assert names(server) == ["all-minilm:latest"]


def test_unknown_model_ends_the_stream_with_an_error(server: StandIn) -> None:
    answer = server.post("/api/pull", {"model": "no-such-model"})
    assert answer.status == 200
    assert json.loads(answer.lines[-1]) == {"error": "pull model manifest: file does not exist"}
    assert server.post("/api/pull", {"model": "no-such-model", "stream": False}).status == 500


# Embeddings


def test_texts_that_share_words_are_near_each_other(server: StandIn) -> None:
    pull(server, "all-minilm")
    inputs = ["the cat sat on the mat", "a cat on a mat", "quarterly revenue report"]
    cat, mat, revenue = server.post("/api/embed", {"model": "all-minilm", "input": inputs}).json["embeddings"]
    assert len(cat) == 384
    assert abs(sum(value * value for value in cat) - 1) < 1e-4
    near, far = (sum(a * b for a, b in zip(cat, other, strict=True)) for other in (mat, revenue))
    assert near > far + 0.2


# The release


def test_release_is_reproducible_and_runs(tmp_path: Path) -> None:
    first, second = (build_release.build(tmp_path / name, "1.2.3", ["amd64"], "tgz", addons=False) for name in "ab")
    assert first == tmp_path / "a" / "v1.2.3"
    archive = first / "ollama-linux-amd64.tgz"
    assert archive.read_bytes() == (second / archive.name).read_bytes()
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert (first / "sha256sum.txt").read_text() == f"{digest}  ./{archive.name}\n"
    with tarfile.open(archive) as packed:
        members = packed.getmembers()
        assert {(member.uid, member.gid) for member in members} == {(0, 0)}
        found = {member.name for member in members}
        assert {"bin/ollama", "lib/ollama/llama-server", "lib/ollama/llama-quantize"} <= found
        assert not any(name.startswith((".", "/")) for name in found)
        prefix = tmp_path / "prefix"
        packed.extractall(prefix)  # noqa: S202 -- made above
    # Started through a link, as /usr/local/bin/ollama may be one.
    link = tmp_path / "ollama"
    link.symlink_to(prefix / "bin" / "ollama")
    with StandIn(tmp_path / "run", [str(link)], {"PYTHONPATH": "", **FAST}) as server:
        assert server.get("/api/version").json == {"version": "1.2.3"}
        assert server.command("--version").stdout == "ollama version is 1.2.3\n"
        pull(server)
        assert server.post("/api/chat", chat(stream=False)).status == 200
        server.post("/api/generate", {"model": MODEL, "keep_alive": 0})
        (prefix / "lib" / "ollama" / "llama-server").unlink()
        answer = server.post("/api/chat", chat(stream=False))
        assert answer.status == 500
        assert "llama-server" in answer.json["error"]
