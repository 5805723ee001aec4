# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import socket
import typing as t
from http.client import IncompleteRead
from pathlib import Path
from urllib.error import URLError

import pytest
from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhosted.llm.plugins.modules import ollama_model
from ansible_collections.selfhosted.llm.tests.unit.scripted_http import ScriptedHttp, run_module

GPU = {"size": 4000, "size_vram": 4000, "context_length": 4096, "expires_at": "2319-01-01T00:00:00Z"}
PULLED = [
    {"status": "pulling manifest"},
    {"status": "pulling 04e184c1b0ef", "digest": "sha256:04", "total": 100},
    {"status": "pulling 04e184c1b0ef", "digest": "sha256:04", "total": 100, "completed": 100},
    {"status": "verifying sha256 digest"},
    {"status": "writing manifest"},
    {"status": "success"},
]
CREATED = [{"status": "using existing layer sha256:04"}, {"status": "writing manifest"}, {"status": "success"}]


class Server(ScriptedHttp):
    """The calls that every run begins with, and the ones that recur."""

    def tags(self, *names: str) -> None:
        models = [{"name": name, "digest": f"digest of {name}", "size": 354999} for name in names]
        self.expect("GET", "/api/tags", answer={"models": models})

    def start(self, *names: str) -> None:
        self.expect("GET", "/api/version", answer={"version": "0.32.15"})
        self.tags(*names)

    def pull(self, name: str, answer: t.Any = None, **more: t.Any) -> None:
        self.expect("POST", "/api/pull", json={"model": name}, answer=PULLED if answer is None else answer, **more)

    def ps(self, **models: dict[str, t.Any]) -> None:
        self.expect("GET", "/api/ps", answer={"models": [dict(facts, name=f"{name}:latest") for name, facts in models.items()]})

    def show(self, name: str, **answer: t.Any) -> None:
        self.expect("POST", "/api/show", json={"model": name}, answer=answer)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Server]:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    scripted = Server(monkeypatch)
    yield scripted
    scripted.done()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> t.Callable[..., dict[str, t.Any]]:
    def call(*models: dict[str, t.Any], check_mode: bool = False, **options: t.Any) -> dict[str, t.Any]:
        return run_module(capsys, ollama_model.main, {"models": list(models), **options}, check_mode)

    return call


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the module warns of. Where controller code is loaded too, as other tests do, it is no part of the result."""
    texts: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _self, text: texts.append(text))
    return texts


def actions(result: dict[str, t.Any]) -> dict[str, str]:
    return {model["name"]: model["action"] for model in result["models"]}


def test_models_that_are_there_are_left_alone(server: Server, run: t.Any) -> None:
    server.start("a:latest", "B:7b")
    result = run({"name": "a"}, {"name": "b:7B"})
    assert not result["changed"]
    assert result["version"] == "0.32.15"
    assert actions(result) == {"a:latest": "none", "b:7B": "none"}
    assert result["models"][0]["digest"] == "digest of a:latest"
    assert result["models"][0]["size"] == 354999


def test_pull(server: Server, run: t.Any, tmp_path: Path) -> None:
    server.start()
    server.pull("a:latest")
    server.tags("a:latest")
    result = run({"name": "a"}, progress_file=str(tmp_path / "progress"))
    assert result["changed"]
    assert actions(result) == {"a:latest": "pulled"}
    assert result["models"][0]["digest"] == "digest of a:latest"
    assert result["diff"] == {"before": {"a:latest": "absent"}, "after": {"a:latest": "present"}}
    assert json.loads((tmp_path / "progress").read_text())["name"] == "a:latest"


def test_pull_from_an_insecure_registry(server: Server, run: t.Any) -> None:
    server.start()
    server.expect("POST", "/api/pull", json={"model": "10.0.0.9:5000/library/a:latest", "insecure": True}, answer=PULLED)
    server.tags("10.0.0.9:5000/library/a:latest")
    assert run({"name": "10.0.0.9:5000/library/a", "insecure": True})["changed"]


@pytest.mark.parametrize(
    "interruption",
    [
        {"answer": PULLED[:2], "breaks_off": IncompleteRead(b"")},
        {"answer": PULLED[:2], "breaks_off": ConnectionResetError("reset")},
        {"answer": PULLED[:2], "breaks_off": TimeoutError("timed out")},
        {"answer": PULLED[:2]},
        {"answer": [*PULLED[:2], {"error": "max retries exceeded: EOF"}]},
    ],
)
def test_an_interrupted_pull_goes_on(server: Server, run: t.Any, interruption: dict[str, t.Any]) -> None:
    server.start()
    server.pull("a:latest", **interruption)
    server.pull("a:latest")
    server.tags("a:latest")
    assert actions(run({"name": "a"})) == {"a:latest": "pulled"}


def test_a_pull_is_not_tried_for_ever(server: Server, run: t.Any) -> None:
    server.start()
    for _attempt in range(3):
        server.pull("a:latest", PULLED[:2])
    result = run({"name": "a"}, retries=2)
    assert result["failed"]
    assert result["errors"] == [
        {"layer": "protocol", "message": "pulling a:latest: the answer broke off", "status": None, "model": "a:latest"},
    ]


def test_a_stream_that_is_200_and_fails_is_a_failure_and_others_go_on(server: Server, run: t.Any) -> None:
    server.start()
    server.pull("a:latest", [{"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}])
    server.pull("b:latest")
    server.tags("b:latest")
    result = run({"name": "a"}, {"name": "b"})
    assert result["failed"]
    assert result["changed"]
    assert result["msg"] == "pulling a:latest: pull model manifest: file does not exist"
    assert result["errors"][0]["layer"] == "model"
    assert actions(result) == {"a:latest": "failed", "b:latest": "pulled"}


def test_a_refused_name_is_a_failure(server: Server, run: t.Any) -> None:
    server.start()
    server.pull("bad name!:latest", {"error": "invalid model name"}, status=400)
    result = run({"name": "bad name!"})
    assert result["errors"][0]["status"] == 400
    assert "invalid model name" in result["msg"]


def test_a_line_that_is_not_json_is_a_failure(server: Server, run: t.Any) -> None:
    server.start()
    server.pull("a:latest", "<html>\n")
    result = run({"name": "a"}, retries=0)
    assert result["errors"][0]["layer"] == "protocol"


@pytest.mark.parametrize(
    ("error", "layer"),
    [
        (URLError(ConnectionRefusedError(111, "Connection refused")), "refused"),
        (URLError(socket.gaierror(-2, "Name or service not known")), "dns"),
        (TimeoutError("timed out"), "timeout"),
    ],
)
def test_a_server_that_cannot_be_reached(server: Server, run: t.Any, error: Exception, layer: str) -> None:
    server.expect("GET", "/api/version", error=error)
    result = run({"name": "a"})
    assert result["failed"]
    assert [entry["layer"] for entry in result["errors"]] == [layer]


def test_a_server_that_goes_away_ends_it(server: Server, run: t.Any) -> None:
    server.start()
    server.pull("a:latest", error=URLError(ConnectionRefusedError(111, "Connection refused")))
    result = run({"name": "a"}, {"name": "b"}, retries=0)
    assert actions(result) == {"a:latest": "failed"}


def test_check_mode_where_no_server_runs_yet(server: Server, run: t.Any) -> None:
    server.expect("GET", "/api/version", error=URLError(ConnectionRefusedError(111, "Connection refused")))
    result = run({"name": "a", "preload": True}, {"name": "c", "from": "a"}, {"name": "b", "state": "absent"}, check_mode=True)
    assert result["changed"]
    assert actions(result) == {"b:latest": "none", "a:latest": "pulled", "c:latest": "created"}
    assert result["to_load"] == ["a:latest"]
    assert result["version"] == ""


def test_check_mode_asks_only(server: Server, run: t.Any) -> None:
    server.start("old:latest", "gone:latest")
    server.ps()
    models = [{"name": "a", "preload": True}, {"name": "gone", "state": "absent"}, {"name": "c", "from": "a"}]
    result = run(*models, exclusive=True, check_mode=True)
    assert actions(result) == {"gone:latest": "removed", "a:latest": "pulled", "c:latest": "created", "old:latest": "removed"}
    assert result["to_load"] == ["a:latest"]


def test_removed_before_anything_is_pulled_and_unlisted_ones_last(server: Server, run: t.Any) -> None:
    server.start("gone:latest", "old:7b", "base:latest")
    server.expect("DELETE", "/api/delete", json={"model": "gone:latest"})
    server.pull("a:latest")
    server.expect("POST", "/api/create", json={"model": "c:latest", "from": "base:latest"}, answer=CREATED)
    server.expect("DELETE", "/api/delete", json={"model": "old:7b"})
    server.tags("a:latest", "base:latest", "c:latest")
    result = run({"name": "c", "from": "base"}, {"name": "a"}, {"name": "gone", "state": "absent"}, exclusive=True)
    assert actions(result) == {"gone:latest": "removed", "a:latest": "pulled", "c:latest": "created", "old:7b": "removed"}


def test_nothing_unlisted_goes_when_something_failed(server: Server, run: t.Any) -> None:
    server.start("old:latest")
    server.pull("a:latest", [{"error": "pull model manifest: file does not exist"}])
    assert actions(run({"name": "a"}, exclusive=True)) == {"a:latest": "failed"}


def test_a_custom_model_and_its_missing_base(server: Server, run: t.Any) -> None:
    server.start()
    server.pull("base:latest")
    payload = {
        "model": "c:latest",
        "from": "base:latest",
        "system": "Be terse.",
        "parameters": {"num_ctx": 4096, "stop": ["END"]},
        "license": ["MIT"],
        "messages": [{"role": "user", "content": "a"}],
    }
    server.expect("POST", "/api/create", json=payload, answer=CREATED)
    server.tags("base:latest", "c:latest")
    declared = dict(payload, name="c", parameters={"num_ctx": "4096", "stop": "END"})
    del declared["model"]
    result = run(declared)
    assert actions(result) == {"c:latest": "created"}
    assert result["diff"]["after"] == {"base:latest": "present", "c:latest": "present"}


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_custom_model_that_differs_is_made_again(server: Server, run: t.Any, check_mode: bool) -> None:
    server.start("base:latest", "c:latest")
    server.show("c:latest", modelfile="FROM x\n", details={"parent_model": "base:latest"}, system="Be terse.", parameters="num_ctx 2048")
    server.show("base:latest", modelfile="FROM x\n", details={})
    if not check_mode:
        server.expect("POST", "/api/create", answer=CREATED)
        server.tags("base:latest", "c:latest")
    result = run({"name": "c", "from": "base", "system": "Be terse.", "parameters": {"num_ctx": 4096}}, check_mode=check_mode)
    assert actions(result) == {"c:latest": "updated"}
    assert result["diff"] == {
        "before": {"c:latest": {"parameters": {"num_ctx": ["2048"]}}},
        "after": {"c:latest": {"parameters": {"num_ctx": ["4096"]}}},
    }


def test_a_custom_model_as_declared_is_not_written(server: Server, run: t.Any) -> None:
    server.start("base:latest", "c:latest")
    server.show("c:latest", modelfile="FROM x\n", details={"parent_model": "base:latest"}, parameters="num_ctx     4096")
    server.show("base:latest", modelfile="FROM x\n", details={})
    assert not run({"name": "c", "from": "base", "parameters": {"num_ctx": 4096}})["changed"]


def test_a_create_that_fails_at_once(server: Server, run: t.Any) -> None:
    server.start("base:latest")
    server.expect("POST", "/api/create", answer={"error": "template error: template: :1: unclosed action"}, status=400)
    result = run({"name": "c", "from": "base", "template": "{{ .Nope"})
    assert result["errors"][0]["status"] == 400
    assert "unclosed action" in result["msg"]


@pytest.mark.parametrize(
    ("models", "part"),
    [
        ([{"name": "a"}, {"name": "A:latest"}], "listed twice"),
        ([{"name": "a", "system": "x"}], "system can be set only with `from`"),
        ([{"name": "a", "from": "a:latest"}], "made from itself"),
        ([{"name": "a", "from": "b", "parameters": {"num_ctx": "many"}}], "num_ctx must be a whole number"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused_before_any_call(server: Server, run: t.Any, models: t.Any, part: str) -> None:
    result = run(*models)
    assert result["failed"]
    assert part in result["msg"]
    assert result["errors"][0]["layer"] == "declaration"
    assert server.seen == []


def test_a_parameter_that_ollama_does_not_know_is_told(server: Server, run: t.Any, warned: list[str]) -> None:
    server.start("b:latest")
    server.expect("POST", "/api/create", answer=CREATED)
    server.tags("b:latest", "a:latest")
    assert run({"name": "a", "from": "b", "parameters": {"no_such": 1}})["changed"]
    assert "no_such" in warned[0]


def test_preload(server: Server, run: t.Any) -> None:
    server.start("a:latest", "e:latest", "in:latest")
    server.ps(**{"in": GPU})
    server.show("a:latest", capabilities=["completion"])
    server.expect("POST", "/api/generate", json={"model": "a:latest", "stream": False, "keep_alive": -1}, answer={"done_reason": "load"})
    server.show("e:latest", capabilities=["embedding"])
    server.expect("POST", "/api/embed", json={"model": "e:latest", "input": "load"}, answer={"embeddings": [[1]]})
    server.ps(a=GPU, e=GPU, **{"in": GPU})
    result = run(
        {"name": "a", "preload": True, "keep_alive": "-1"}, {"name": "e", "preload": True}, {"name": "in", "preload": True}, expect_gpu=True
    )
    assert not result["changed"]
    assert result["to_load"] == ["a:latest", "e:latest"]
    assert [entry["vram_share"] for entry in result["loaded"]] == [1.0, 1.0, 1.0]
    assert result["loaded"][0]["context_length"] == 4096


def test_a_load_that_fails(server: Server, run: t.Any) -> None:
    server.start("a:latest")
    server.ps()
    server.show("a:latest", capabilities=["completion"])
    server.expect("POST", "/api/generate", answer={"error": "model requires more system memory"}, status=500)
    server.ps()
    result = run({"name": "a", "preload": True})
    assert result["failed"]
    assert "more system memory" in result["msg"]


@pytest.mark.parametrize(("policy", "failed"), [("warn", False), ("fail", True)])
def test_a_model_beside_the_gpu_is_told(server: Server, run: t.Any, warned: list[str], policy: str, failed: bool) -> None:
    server.start("a:latest")
    server.ps(a=dict(GPU, size_vram=1000))
    result = run({"name": "a"}, expect_gpu=True, gpu_policy=policy)
    assert result["failed"] is failed
    text = result["msg"] if failed else warned[0]
    assert "a:latest: 25 % of it is in GPU memory" in text
