# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import json
import socket
import threading
import typing as t
from types import SimpleNamespace

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.selfhosted.llm.plugins.module_utils import openai_load
from ansible_collections.selfhosted.llm.plugins.module_utils.openai_client import Answer, OpenAIClient
from ansible_collections.selfhosted.llm.plugins.modules import openai_api_check
from ansible_collections.selfhosted.llm.tests.unit.plugins.modules.fake_openai import KEY, FakeOpenAI, self_signed

MODELS = [
    {"name": "phi3", "aliases": ["default"], "backends": ["phi3@a", "phi3@b"]},
    {"name": "embed", "mode": "embedding", "backends": ["embed@a"]},
]
Results = dict[str, t.Any]


@pytest.fixture(name="api")
def fixture_api() -> t.Iterator[FakeOpenAI]:
    fake = FakeOpenAI()
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture(name="certificate")
def fixture_certificate(tmp_path: t.Any) -> str:
    return self_signed(tmp_path)


@pytest.fixture(name="run")
def fixture_run(capfd: t.Any) -> t.Callable[..., Results]:
    """Runs the module as Ansible does; what it printed, parsed."""

    def run(api: FakeOpenAI, **options: t.Any) -> Results:
        args = {"url": api.url, "api_key": KEY, "models": MODELS, "timeout": 5, "load": {"requests": 12, "concurrency": 4}}
        args.update(options)
        capfd.readouterr()
        with patch_module_args(args), pytest.raises(SystemExit) as end:
            openai_api_check.main()
        result: Results = json.loads(capfd.readouterr()[0])
        assert bool(end.value.code) == bool(result.get("failed"))
        assert result.get("changed", False) is False
        return result

    return run


def only(result: Results, group: str) -> list[Results]:
    return [check for check in result["checks"] if check["group"] == group]


def failed(result: Results) -> list[tuple[str, str]]:
    return [(check["name"], check["layer"]) for check in result["checks"] if check["status"] == "failed"]


def test_everything_passes(run: t.Any, api: FakeOpenAI) -> None:
    result = run(api)
    assert result["ok"]
    assert failed(result) == []
    assert result["counts"] == {"passed": 11, "failed": 0, "skipped": 0}
    assert result["url"] == api.url + "/v1"
    assert result["server_version"] == "1.2.3"
    assert result["listed_models"] == ["phi3", "default", "embed"]
    # Keys are for gateways with a database: test_openai_api_check_keys.py.
    assert {check["group"] for check in result["checks"]} == {"connection", *openai_api_check.GROUPS} - {"keys"}
    assert [check["name"] for check in only(result, "chat")] == ["chat with phi3", "chat with default"]
    stream = only(result, "stream")[0]["details"]
    assert stream["chunks"] == 3
    assert 0 < stream["ttft"] <= stream["seconds"]
    assert only(result, "embeddings")[0]["details"]["dimensions"] == 3


def test_base_url_may_have_v1_already(run: t.Any, api: FakeOpenAI) -> None:
    assert run(api, url=api.url + "/v1/", checks=["models"])["url"] == api.url + "/v1"


def test_headers_for_a_proxy_before_it(run: t.Any, api: FakeOpenAI) -> None:
    api.pass_for_the_proxy = "Bearer for-the-proxy"
    assert not run(api, checks=["models", "chat"])["ok"]
    result = run(api, headers={"X-Pass": "Bearer for-the-proxy"})
    assert failed(result) == []
    assert "for-the-proxy" not in str(result["checks"])


def test_load_numbers(run: t.Any, api: FakeOpenAI) -> None:
    api.delay = 0.02
    api.together = threading.Barrier(4)
    (load,) = run(api, checks=["load"])["load"]
    assert (load["model"], load["requests"], load["answered"], load["concurrency"]) == ("phi3", 12, 12, 4)
    assert [(entry["backend"], entry["requests"], entry["share"]) for entry in load["backends"]] == [("phi3@a", 6, 0.5), ("phi3@b", 6, 0.5)]
    assert api.open_most == 4
    assert load["latency"]["count"] == load["ttft"]["count"] == len(load["samples"]) == 12
    assert (
        0.02
        <= load["latency"]["min"]
        <= load["latency"]["p50"]
        <= load["latency"]["p95"]
        <= load["latency"]["p99"]
        <= load["latency"]["max"]
    )
    assert 1.0 < sum(entry["in_flight"] for entry in load["backends"]) <= 4.0
    # As many as run at a time go ahead, so that every backend is warm.
    assert len(api.requests) == 1 + 4 + 12


def test_prompts_differ_so_that_no_cache_answers(run: t.Any, api: FakeOpenAI) -> None:
    run(api, checks=["load", "chat"])
    prompts = [request[3]["messages"][0]["content"] for request in api.requests if request[0] == "POST"]
    assert len(set(prompts)) == len(prompts)


def test_no_load_is_wanted(run: t.Any, api: FakeOpenAI) -> None:
    result = run(api, checks=["load"], load={"requests": 0})
    assert [(check["status"], check["message"]) for check in only(result, "load")] == [("skipped", "load.requests is 0: no load is wanted")]
    assert [request[0] for request in api.requests] == ["GET"]


def test_concurrency_is_at_least_two_per_backend(run: t.Any, api: FakeOpenAI) -> None:
    result = run(api, checks=["load"], load={"requests": 12, "concurrency": 1})
    assert result["load"][0]["concurrency"] == 4


def test_embedding_models_are_loaded_too(run: t.Any, api: FakeOpenAI) -> None:
    api.serve("embed", ["embed@a", "embed@b"])
    models = [{"name": "embed", "mode": "embedding", "backends": ["embed@a", "embed@b"]}]
    result = run(api, models=models, checks=["load"])
    assert result["load"][0]["ttft"] == {"count": 0}
    assert result["load"][0]["streamed"] is False


def test_refused(run: t.Any, api: FakeOpenAI) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        result = run(api, url=f"http://127.0.0.1:{free.getsockname()[1]}")
    assert failed(result) == [("answers at " + result["url"], "refused")]
    assert result["counts"] == {"passed": 0, "failed": 1, "skipped": 7}
    assert all("cannot be reached" in check["message"] for check in result["checks"] if check["status"] == "skipped")
    assert "layer: refused" in result["msg"]


def test_unresolvable(run: t.Any, api: FakeOpenAI) -> None:
    assert failed(run(api, url="http://no-such-host.invalid:4000"))[0][1] == "dns"


def test_timeout_is_tried_only_once(run: t.Any, api: FakeOpenAI) -> None:
    api.delay = 0.5
    result = run(api, timeout=0.1)
    assert [layer for _name, layer in failed(result)] == ["timeout"]
    assert len(api.requests) == 1


def test_tls(run: t.Any, certificate: str) -> None:
    api = FakeOpenAI()
    api.start(certificate)
    try:
        result = run(api)
        assert [layer for _name, layer in failed(result)] == ["tls"]
        assert run(api, ca_path=certificate)["ok"]
        assert run(api, validate_certs=False, checks=["models"])["ok"]
        result = run(api, ca_path="/no/such/file.pem")
        assert [layer for _name, layer in failed(result)] == ["tls"]
        assert "/no/such/file.pem" in result["msg"]
    finally:
        api.stop()


def test_a_name_that_dns_does_not_know_yet(run: t.Any, tmp_path: t.Any) -> None:
    api = FakeOpenAI()
    certificate = self_signed(tmp_path, "api.llm.invalid")
    api.start(certificate)
    try:
        options = {"url": "https://api.llm.invalid", "connect_to": f"127.0.0.1:{api.port}", "ca_path": certificate}
        assert run(api, **options)["ok"]
        assert set(api.hosts) == {"api.llm.invalid"}
        # The certificate is that of the name, not of the address.
        assert failed(run(api, **{**options, "url": "https://other.llm.invalid"}))[0][1] == "tls"
    finally:
        api.stop()


def test_plain_http_spoken_to_tls(run: t.Any, api: FakeOpenAI) -> None:
    assert failed(run(api, url=api.url.replace("http:", "https:")))[0][1] == "tls"


def test_redirect_is_not_followed(run: t.Any, api: FakeOpenAI) -> None:
    result = run(api, url=api.url + "/moved", checks=["models"])
    assert failed(result)[0][1] == "protocol"
    assert "elsewhere.invalid" in result["msg"]


@pytest.mark.parametrize("without_database", [False, True])
def test_own_key_refused(run: t.Any, api: FakeOpenAI, without_database: bool) -> None:
    api.without_database = without_database
    result = run(api, api_key="sk-another-key-0123456789")
    assert failed(result) == [("answers at " + result["url"], "auth")]
    # Who else is kept out can be told all the same.
    assert [check["status"] for check in only(result, "auth")] == ["passed", "passed"]
    assert [check["status"] for check in only(result, "chat")] == ["skipped"]


def test_refusal_without_a_database_is_named(run: t.Any, api: FakeOpenAI) -> None:
    api.without_database = True
    wrong, missing = only(run(api, checks=["auth"]), "auth")
    assert "No connected db" in wrong["message"]
    assert "401" in missing["message"]


def test_anyone_gets_in(run: t.Any, api: FakeOpenAI) -> None:
    api.key = None
    assert failed(run(api, checks=["auth"])) == [("wrong key is refused", "auth"), ("missing key is refused", "auth")]


def test_a_crash_is_no_refusal(run: t.Any, api: FakeOpenAI) -> None:
    api.refusal_status = 500
    result = run(api, checks=["auth"])
    assert [layer for _name, layer in failed(result)] == ["auth", "auth"]
    assert "500 instead of 401" in result["msg"]


def test_open_api(run: t.Any, api: FakeOpenAI) -> None:
    api.key = None
    result = run(api, api_key=None)
    assert result["ok"]
    assert [check["status"] for check in only(result, "auth")] == ["skipped", "skipped"]


def test_wrong_keys_are_random_and_the_right_one_is_never_sent_with_them(run: t.Any, api: FakeOpenAI) -> None:
    run(api, checks=["auth"])
    run(api, checks=["auth"])
    sent = [request[2] for request in api.requests]
    assert sent.count("Bearer " + KEY) == 2
    assert sent.count(None) == 4
    assert len({key for key in sent if key}) == 3


def test_model_list_differs(run: t.Any, api: FakeOpenAI) -> None:
    api.models = ["phi3", "default", "surprise"]
    result = run(api, checks=["models"])
    assert [layer for _name, layer in failed(result)] == ["model"]
    assert "not listed: embed; listed but not declared: surprise" in result["msg"]
    api.models = ["phi3", "default", "embed", "surprise"]
    assert run(api, checks=["models"], expect_exact_models=False)["ok"]


def test_model_not_served(run: t.Any, api: FakeOpenAI) -> None:
    models = [*MODELS, {"name": "absent"}]
    result = run(api, models=models, checks=["chat"])
    assert failed(result) == [("chat with absent", "model")]


@pytest.mark.parametrize("body", [b"<html>", b'{"models": []}', b"[]", b'{"data": 5}'])
def test_not_an_openai_api(run: t.Any, api: FakeOpenAI, body: bytes) -> None:
    api.list_body = body
    assert failed(run(api, checks=["models"]))[0][1] == "protocol"


def test_unknown_model_accepted(run: t.Any, api: FakeOpenAI) -> None:
    api.takes_unknown_models = True
    assert failed(run(api, checks=["unknown_model"])) == [("unknown model is refused", "model")]


@pytest.mark.parametrize(("status", "layer"), [(400, None), (404, None), (500, "protocol"), (403, "auth")])
def test_unknown_model_status(run: t.Any, api: FakeOpenAI, status: int, layer: str | None) -> None:
    api.unknown_status = status
    assert [found for _name, found in failed(run(api, checks=["unknown_model"]))] == ([layer] if layer else [])


def test_backend_fails_and_the_key_stays_secret(run: t.Any, api: FakeOpenAI) -> None:
    api.chat_status = 500
    result = run(api)
    assert {layer for _name, layer in failed(result)} == {"backend"}
    assert KEY not in json.dumps(result["checks"])
    assert [check["status"] for check in only(result, "load")] == ["failed", "skipped"]


def test_gateway_timed_out_on_its_backend(run: t.Any, api: FakeOpenAI) -> None:
    api.chat_status = 408
    assert failed(run(api, checks=["chat"]))[0][1] == "timeout"


@pytest.mark.parametrize(
    ("answer", "layer"), [({"choices": []}, "protocol"), ({"choices": [{"message": {"content": ""}}]}, "backend"), ({"a": 1}, "protocol")]
)
def test_bad_chat_answers(run: t.Any, api: FakeOpenAI, answer: t.Any, layer: str) -> None:
    api.answer = answer
    assert {found for _name, found in failed(run(api, checks=["chat"]))} == {layer}


def test_a_model_that_only_thinks_has_answered(run: t.Any, api: FakeOpenAI) -> None:
    api.answer = {"choices": [{"message": {"content": None, "reasoning_content": "hm"}, "finish_reason": "length"}]}
    assert run(api, checks=["chat"])["ok"]


@pytest.mark.parametrize(
    ("ending", "layer", "words"),
    [
        ("cut", "protocol", "broke off"),
        ("no_done", "protocol", "without [DONE] after 3 chunks"),
        ("error", "backend", "the backend went away"),
        ("no_finish", "protocol", "finish_reason"),
        ("garbage", "protocol", "not JSON"),
    ],
)
def test_broken_streams(run: t.Any, api: FakeOpenAI, ending: str, layer: str, words: str) -> None:
    api.ending = ending
    result = run(api, checks=["stream"])
    assert failed(result) == [("streamed chat with phi3", layer)]
    assert words in result["msg"]


def test_a_word_now_and_then_is_no_stream_that_was_collected(run: t.Any, api: FakeOpenAI) -> None:
    api.short_answers = 2
    assert run(api, checks=["stream"])["ok"]
    api.short_answers = 3
    assert failed(run(api, checks=["stream"])) == [("streamed chat with phi3", "protocol")]


def test_a_stream_in_one_piece_was_collected_on_the_way(run: t.Any, api: FakeOpenAI) -> None:
    api.chunks = ["one two three"]
    assert failed(run(api, checks=["stream"]))[0][1] == "protocol"


@pytest.fixture(name="answers")
def fixture_answers(monkeypatch: pytest.MonkeyPatch) -> list[Answer]:
    """The streams that come back, instead of those of the server; each time is the answer's own, not that of a clock."""
    streams: list[Answer] = []
    monkeypatch.setattr(OpenAIClient, "stream_chat", lambda *_arguments: streams.pop(0))
    return streams


def stream(ttft: float, seconds: float, chunks: int = 12) -> Answer:
    answer = Answer()
    answer.ttft, answer.seconds, answer.chunks, answer.finish_reason = ttft, seconds, chunks, "stop"
    return answer


def test_pieces_that_come_all_at_once_were_collected_on_the_way(run: t.Any, api: FakeOpenAI, answers: list[Answer]) -> None:
    """As through a proxy that buffers: silence while the model works, then the whole answer."""
    answers += [stream(0.6, 0.601), stream(0.61, 0.612), stream(0.6, 0.601)]
    result = run(api, checks=["stream"])
    assert failed(result) == [("streamed chat with phi3", "protocol")]
    assert "all 12 pieces came at once after 0.6 s, 3 times" in result["msg"]


@pytest.mark.parametrize(
    "answer",
    [stream(0.1, 1.0), stream(5.0, 5.2), stream(9.0, 9.03), stream(0.02, 0.0201), stream(0.6, 0.601, chunks=3)],
    ids=["as they are made", "after a queue", "by a busy gateway", "too fast to tell", "too few to tell"],
)
def test_pieces_that_come_as_they_are_made(run: t.Any, api: FakeOpenAI, answers: list[Answer], answer: Answer) -> None:
    answers.append(answer)
    assert run(api, checks=["stream"])["ok"]


def test_a_model_that_must_first_be_loaded_is_asked_again(run: t.Any, api: FakeOpenAI, answers: list[Answer]) -> None:
    answers += [stream(30.0, 30.01), stream(0.1, 0.4), stream(0.1, 0.4)]
    assert run(api, checks=["stream"])["ok"]
    assert len(answers) == 1


@pytest.mark.parametrize("vectors", [[], [[]], [[], []], [[1.0], [1.0, 2.0]], [[0.0], [0.0]], [["a"], [1.0]], ["x", "y"]])
def test_bad_vectors(run: t.Any, api: FakeOpenAI, vectors: t.Any) -> None:
    api.vectors = vectors
    assert failed(run(api, checks=["embeddings"])) == [("embeddings by embed", "backend")]


def test_a_backend_that_gets_nothing(run: t.Any, api: FakeOpenAI) -> None:
    api.serve("phi3", ["phi3@a"])
    result = run(api, checks=["load"])
    assert failed(result) == [("every backend of phi3 takes part", "backend")]
    assert "phi3@b answered 0 of 24 requests" in result["msg"]
    assert "So it was under each of 4 loads, those after the first twice as big" in result["msg"]
    assert (result["load"][0]["requests"], result["load"][0]["concurrency"]) == (24, 8)
    assert result["load"][0]["first_load"] == ["phi3@b answered 0 of 12 requests (0 %, at least 12.5 % wanted)"]
    assert len([request for request in api.requests if request[0] == "POST"]) == 4 + 12 + 3 * (8 + 24)


def test_a_backend_that_only_a_bigger_load_reaches(run: t.Any, api: FakeOpenAI) -> None:
    api.serve("phi3", ["phi3@a"] * (4 + 12) + ["phi3@a", "phi3@b"] * ((8 + 24) // 2))
    result = run(api, checks=["load"])
    assert failed(result) == []
    (share,) = [check for check in only(result, "load") if "takes part" in check["name"]]
    assert share["message"] == "within 2 loads, as the first did not reach every backend; under the last: phi3@a 50 %, phi3@b 50 %"
    assert (result["load"][0]["requests"], result["load"][0]["loads"]) == (24, 2)


def test_backends_that_are_reached_in_turn(run: t.Any, api: FakeOpenAI) -> None:
    """Each has its share under one of the loads, none of which reaches both: lumps, but both are in rotation."""
    api.serve("phi3", ["phi3@a"] * (4 + 12 + 8 + 24) + ["phi3@b"] * (8 + 24))
    result = run(api, checks=["load"])
    assert failed(result) == []
    assert result["load"][0]["loads"] == 3


def test_one_load_is_enough_where_every_backend_answers(run: t.Any, api: FakeOpenAI) -> None:
    result = run(api, checks=["load"], load={})
    assert failed(result) == []
    assert "first_load" not in result["load"][0]
    assert len(api.requests) == 1 + 8 + 40


@pytest.mark.parametrize(("share", "status"), [(0.25, "skipped"), (0.34, "failed"), (0.0, "passed")])
def test_too_few_answers_to_judge_by(run: t.Any, api: FakeOpenAI, share: float, status: str) -> None:
    """Of 6 answers each of 2 backends would have 3: nobody can tell a quarter of that from nothing."""
    api.serve("phi3", ["phi3@a"])
    result = run(api, checks=["load"], load={"requests": 6, "concurrency": 4}, min_share=share)
    assert only(result, "load")[1]["status"] == status


def test_the_second_load_is_too_much(run: t.Any, api: FakeOpenAI) -> None:
    api.serve("phi3", ["phi3@a"])
    api.fails_after = 4 + 12
    result = run(api, checks=["load"])
    assert failed(result) == [("every backend of phi3 takes part", "backend")]
    assert "phi3@b answered 0 of 12 requests" in result["msg"]
    assert "Under twice the load 8 of 8 warm-up requests failed" in result["msg"]


def test_a_load_that_takes_too_long_is_cut_short(run: t.Any, api: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each look at the clock is a second later.
    monkeypatch.setattr(openai_load, "time", SimpleNamespace(monotonic=itertools.count().__next__))
    result = run(api, checks=["load"], load={"requests": 2000, "concurrency": 4, "seconds": 60})
    assert failed(result) == []
    assert 8 <= result["load"][0]["answered"] <= 60
    assert "more not sent after 60 s" in only(result, "load")[0]["message"]


def test_skew_is_held_against_min_share(run: t.Any, api: FakeOpenAI) -> None:
    api.serve("phi3", ["phi3@a"] * 5 + ["phi3@b"])
    options = {"checks": ["load"], "load": {"requests": 36, "concurrency": 6}}
    assert run(api, min_share=0.25, **options)["ok"]
    result = run(api, min_share=0.4, **options)
    assert "phi3@b answered 12 of 72 requests (16.7 %, at least 20 % wanted)" in result["msg"]


def test_a_backend_that_is_not_declared(run: t.Any, api: FakeOpenAI) -> None:
    api.serve("phi3", ["phi3@x"])
    assert {name for name, _layer in failed(run(api, checks=["chat", "load"]))} == {
        "chat with phi3",
        "chat with default",
        "every backend of phi3 takes part",
    }


def test_backends_that_are_not_named_prove_nothing(run: t.Any, api: FakeOpenAI) -> None:
    api.names_backend = False
    result = run(api, checks=["load"])
    assert failed(result) == [("every backend of phi3 takes part", "protocol")]
    models = [{"name": "phi3"}]
    assert run(api, models=models, checks=["load"], load={"requests": 4, "concurrency": 2, "models": ["phi3"]})["counts"]["skipped"] == 1


def test_failing_under_load_stops_soon(run: t.Any, api: FakeOpenAI) -> None:
    api.fails_after = 4 + 6
    result = run(api, checks=["load"], load={"requests": 400, "concurrency": 4})
    assert ("load on phi3", "backend") in failed(result)
    assert result["load"][0]["answered"] == 6
    assert result["load"][0]["unsent"] > 380
    assert result["load"][0]["errors"] == {"backend": result["load"][0]["failed"]}


def test_report_only_returns_instead_of_failing(run: t.Any, api: FakeOpenAI) -> None:
    api.chat_status = 500
    result = run(api, report_only=True)
    assert "failed" not in result
    assert result["ok"] is False
    assert result["counts"]["failed"] > 0


def test_check_mode_makes_no_backend_work(run: t.Any, api: FakeOpenAI) -> None:
    result = run(api, _ansible_check_mode=True)
    assert result["ok"]
    assert {check["group"] for check in result["checks"] if check["status"] == "skipped"} == {"chat", "stream", "embeddings", "load"}
    assert all(
        request[3]["model"].startswith("no-such-model")
        for request in api.requests
        if request[0] == "POST" and request[2] == "Bearer " + KEY
    )


def test_no_model_of_a_kind(run: t.Any, api: FakeOpenAI) -> None:
    result = run(api, models=[{"name": "embed", "mode": "embedding"}], expect_exact_models=False)
    assert result["ok"]
    assert {check["group"] for check in result["checks"] if check["status"] == "skipped"} == {"chat", "stream", "load"}


def test_other_modes_are_only_looked_for(run: t.Any, api: FakeOpenAI) -> None:
    api.models = ["phi3", "default", "embed", "sorter"]
    result = run(api, models=[*MODELS, {"name": "sorter", "mode": "rerank", "backends": ["sorter@a", "sorter@b"]}])
    assert result["ok"]
    assert [check["status"] for check in only(result, "models")] == ["passed", "skipped"]
    assert not [request for request in api.requests if request[3] and request[3]["model"] == "sorter"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"models": []}, "nothing to prove"),
        ({"checks": []}, "nothing to prove"),
        ({"models": [{"name": "a", "aliases": ["b"]}, {"name": "b"}]}, "more than once: b"),
        ({"load": {"models": ["other"]}}, "not declared: other"),
        ({"models": [{"name": "a", "mode": "rerank"}], "load": {"models": ["a"]}}, "neither chat nor embedding"),
        ({"load": {"requests": -1}}, "load.requests"),
        ({"load": {"concurrency": 0}}, "load.concurrency"),
        ({"load": {"processes": 0}}, "load.processes"),
        ({"load": {"seconds": 0}}, "load.seconds"),
        ({"connect_to": "http://192.0.2.1"}, "connect_to: 'http://192.0.2.1' is not an address"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"timeout": 0}, "timeout"),
        ({"min_share": 2}, "min_share"),
    ],
)
def test_options_that_prove_nothing(run: t.Any, api: FakeOpenAI, options: t.Any, words: str) -> None:
    result = run(api, **options)
    assert result["failed"]
    assert words in result["msg"]
    assert api.requests == []
