# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Replay the recordings against the stand-in, group by group, each in the order and the circumstances of its recording."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from pathlib import Path
from typing import Any, Callable

from contract import compare, differences, load, request_body
from launch import Answer, StandIn
from ollama_standin import gguf

GROUPS = ("models", "registry_down", "pull", "busy", "limits")
EXCLUDED = {
    "113_generate_format_json": "the recorded model babbled white space until it was stopped: a property of that model, not of the API",
    "14b_v1_responses": "/v1/responses is not part of the stand-in",
    "14c_v1_messages": "/v1/messages is not part of the stand-in",
    "14d_v1_messages_unknown": "/v1/messages is not part of the stand-in",
    "176_push_unreachable": "the stand-in cannot push",
}

# The registry that the pulls were recorded from, as a catalogue.
_REGISTRY = "127.0.0.1:21500/library/"
_SLOW = {"parameter_count": 33928192, "context_length": 4096, "embedding_length": 512, "file_type": 0, "size": 135715232}
_TINY = {"parameter_count": 86464, "context_length": 2048, "embedding_length": 64, "file_type": 0, "size": 354848}
_NO_LOCATION = "http: no Location header in response"
CATALOGUE = {
    f"{_REGISTRY}ok-tiny": _TINY,
    f"{_REGISTRY}direct-tiny-sys": {**_TINY, "system": "direct", "layer_error": _NO_LOCATION},
    f"{_REGISTRY}same-tiny-sys": {**_TINY, "system": "same", "layer_error": _NO_LOCATION},
    f"{_REGISTRY}auth-tiny-sys": {"manifest_error": "404: 404"},
    f"{_REGISTRY}slow-slow": _SLOW,
    f"{_REGISTRY}drop-slow": {"same_as": f"{_REGISTRY}slow-slow"},
    f"{_REGISTRY}corrupt-tiny": {**_TINY, "corrupt": True},
    f"{_REGISTRY}corrupt-tiny-tpl": _TINY,
}
# Bodies of recorded uploads, by their recorded digests; what could not be kept is made anew.
_TINY_DIGEST = "sha256:f6d510d399f562cb3f9e4a9096b533b1b1b3cbe6602032d2e1c0afa1eef3c319"
_BAD_DIGEST = "sha256:99faff7f87fc422dd4ee55c74cc9b3048912aa3e3ae9198cd2f70a71724e2bc7"
_TEXT_DIGEST = "sha256:708811ccb1510c6d6c6e6379ef09be39bdbb0e7edcf44fefcca21c6228ee6d89"
_ZERO_DIGEST = "sha256:" + "0" * 64

Step = Callable[[StandIn], None]
Special = Callable[[StandIn, "Replay", dict[str, Any]], Answer]


def tiny_model(pooling: bool = False, changes: dict[str, int] | None = None) -> bytes:
    """A GGUF file like the one that was recorded with."""
    changes = changes or {}
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *(chr(code) for code in range(33, 127))]
    embedding, context = changes.get("embedding_length", 64), changes.get("context_length", 2048)
    metadata: dict[str, Any] = {
        "general.architecture": "llama",
        "general.name": "tiny-random",
        "general.file_type": 0,
        "llama.context_length": context,
        "llama.embedding_length": embedding,
        "llama.block_count": 1,
        "llama.feed_forward_length": 128,
        "llama.attention.head_count": 2,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": 32,
        "llama.vocab_size": len(pieces),
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.scores": [-float(number) for number in range(len(pieces))],
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * 95,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.chat_template": "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:",
    }
    if pooling:
        metadata["llama.pooling_type"] = 1
    if "parameter_count" in changes:
        metadata["general.parameter_count"] = changes["parameter_count"]
    square = ("attn_k", "attn_norm", "attn_output", "attn_q", "attn_v")
    blocks = [(name, [64] if name == "attn_norm" else [64, 64]) for name in square]
    blocks += [("ffn_down", [128, 64]), ("ffn_gate", [64, 128]), ("ffn_norm", [64]), ("ffn_up", [64, 128])]
    tensors = [("output.weight", [64, len(pieces)]), ("output_norm.weight", [64]), ("token_embd.weight", [64, len(pieces)])]
    tensors += [(f"blk.0.{name}.weight", shape) for name, shape in blocks]
    return gguf.head(metadata, tensors) + bytes(gguf.data_size(tensors))


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def create(server: StandIn, name: str, data: bytes) -> None:
    """Make a model of a file."""
    assert server.ask("POST", f"/api/blobs/{digest(data)}", data).status in (200, 201)
    assert server.post("/api/create", {"model": name, "files": {"x.gguf": digest(data)}, "stream": False}).status == 200


def create_slow(server: StandIn) -> None:
    create(server, "slow", tiny_model(changes=_SLOW))


def _load(server: StandIn, name: str) -> None:
    assert server.post("/api/generate", {"model": name}).status == 200


def _chat(**more: Any) -> dict[str, Any]:
    return {"model": "slow", "messages": [{"role": "user", "content": "hello"}], **more}


def _until_running(server: StandIn, number: int = 1) -> None:
    """The control API tells when a request has its slot."""
    deadline = time.monotonic() + 10
    while server.counters()["running"] < number:
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Replay:
    """One group: a server, and what came of each recording."""

    def __init__(self, group: str, directory: Path) -> None:
        self._group = group
        catalogue = directory / "catalogue.json"
        catalogue.write_text(json.dumps(CATALOGUE))
        environ = {
            "models": {"OLLAMA_NO_CLOUD": "1", "OLLAMA_STANDIN_REGISTRY": "down"},
            "registry_down": {"OLLAMA_STANDIN_REGISTRY": "down"},
            "pull": {},
            "busy": {
                "OLLAMA_NUM_PARALLEL": "1",
                "OLLAMA_MAX_QUEUE": "2",
                "OLLAMA_KEEP_ALIVE": "10m",
                "OLLAMA_ORIGINS": "http://app.example",
            },
            "limits": {
                "OLLAMA_MAX_LOADED_MODELS": "1",
                "OLLAMA_CONTEXT_LENGTH": "1024",
                "OLLAMA_KEEP_ALIVE": "3s",
                "OLLAMA_NUM_PARALLEL": "4",
            },
        }[group]
        self.server = StandIn(
            directory, environ={"OLLAMA_STANDIN_CATALOGUE": str(catalogue), "OLLAMA_STANDIN_TOKENS_PER_SECOND": "0", **environ}
        )
        if group == "limits":
            self.server.environ["OLLAMA_HOST"] = f"0.0.0.0:{self.server.port}"
        self._blobs = {
            _TINY_DIGEST: tiny_model(),
            _BAD_DIGEST: gguf.MAGIC + b"\3\0\0\0" + b"\xff" * 1996,
            _TEXT_DIGEST: b"not a model",
            _ZERO_DIGEST: b"hello",
        }
        self.results: dict[str, list[str]] = {}

    def run(self) -> dict[str, list[str]]:
        """Name of the recording: what was wrong."""
        with self.server:
            setup = _SETUP.get(self._group)
            if setup:
                setup(self.server)
            for recording in load(self._group):
                name = recording["name"]
                if name in EXCLUDED:
                    continue
                before = BEFORE.get(name)
                if before:
                    before(self.server)
                special = SPECIAL.get(name)
                answer = special(self.server, self, recording) if special else self.send(recording)
                self.results.setdefault(name, []).extend(differences(recording["response"], answer, str(self.server.models)))
        return self.results

    def send(self, recording: dict[str, Any], **more: Any) -> Answer:
        request = recording["request"]
        path, body = request["path"], request.get("body")
        data: bytes | None = None
        if body is not None:
            data = self._upload(path) if path.startswith("/api/blobs/") else self._mapped(request_body(body)).encode()
        return self.server.ask(request["method"], self._mapped(path), data, request.get("headers"), **more)

    def _upload(self, path: str) -> bytes:
        return self._blobs[path.rpartition("/")[2]]

    def _mapped(self, text: str) -> str:
        """With the digests of what is uploaded now."""
        for old, data in self._blobs.items():
            if old != _ZERO_DIGEST:
                text = text.replace(old, digest(data))
        return text


# Before the first recording of a group


def _busy(server: StandIn) -> None:
    create(server, "emb", tiny_model(pooling=True))
    create_slow(server)
    create(server, "tiny", tiny_model())


def _limits(server: StandIn) -> None:
    create(server, "tiny", tiny_model())
    time.sleep(1.1)  # so that the two are not of the same second
    create_slow(server)


_SETUP: dict[str, Step] = {"busy": _busy, "limits": _limits}


# Before single recordings


def _copy(source: str, destination: str) -> Step:
    def step(server: StandIn) -> None:
        assert server.post("/api/copy", {"source": source, "destination": destination}).status == 200

    return step


def _set(**changes: Any) -> Step:
    def step(server: StandIn) -> None:
        server.settings(**changes)

    return step


def _crash(server: StandIn) -> None:
    _load(server, "slow")
    assert server.post("/standin/kill-runners", {}).json["killed"] == 2


def _unload(server: StandIn) -> None:
    assert server.post("/api/generate", {"model": "slow", "keep_alive": 0}).status == 200
    server.settings(tokens_per_second=200)


def _reload(server: StandIn) -> None:
    """A request that says nothing of num_ctx loads again with the default."""
    assert server.post("/api/chat", _chat(stream=False, options={"num_predict": 4})).status == 200
    assert server.post("/api/generate", {"model": "emb", "keep_alive": 0}).status == 200


def _truncate(server: StandIn) -> None:
    with _weights(server, "tiny").open("r+b") as file:
        file.truncate(100000)


def _remove(server: StandIn) -> None:
    _weights(server, "tiny").unlink()


def _weights(server: StandIn, name: str) -> Path:
    manifest = json.loads((server.models / "manifests/registry.ollama.ai/library" / name / "latest").read_text())
    digest_of_weights = str(manifest["layers"][0]["digest"])
    return server.models / "blobs" / digest_of_weights.replace(":", "-")


def _pull_drop(server: StandIn) -> None:
    """The recording of this pull is lost; what it left is deleted by the next ones."""
    body = {"model": f"{_REGISTRY}drop-slow", "insecure": True, "stream": False}
    assert server.post("/api/pull", body).json == {"status": "success"}


def _pull_tiny(server: StandIn) -> None:
    body = {"model": f"{_REGISTRY}ok-tiny", "insecure": True, "stream": False}
    assert server.post("/api/pull", body).status == 200


def _expired(_server: StandIn) -> None:
    time.sleep(3.2)


BEFORE: dict[str, Step] = {
    "050_create_from_model_params": create_slow,
    "180_pull_ok_small": _set(pull_bytes_per_second=1e9),
    "190_pull_slow_interrupted": _set(pull_bytes_per_second=1e8),
    "193_tags_after_pull": _set(pull_bytes_per_second=0),
    "197_pull_digest_mismatch": _pull_tiny,
    "198_pull_digest_mismatch": _set(pull_bytes_per_second=0),
    "19a_delete_pulled": _pull_drop,
    "19b_pull_two_clients_A": _set(pull_bytes_per_second=2e8),
    "200_chat_long_stream": _set(reply_tokens=3000, tokens_per_second=400),
    "201_queue_burst_loaded_model": _set(tokens_per_second=3000),
    "203_queue_full_503": _set(load_seconds=0.5),
    "211_ps_after_runner_died": _crash,
    "213_runner_killed_nonstream": _set(tokens_per_second=200, load_seconds=0.05),
    "219b_unload_request": _unload,
    "21c_ps": _reload,
    "235_ps_after_keep_alive_env_expired": _expired,
    "240_load_truncated_blob": _truncate,
    "241_load_missing_blob": _remove,
}


# Recordings that are more than one request


def _burst(server: StandIn, replay: Replay, recording: dict[str, Any]) -> Answer:
    """Many at once: so many of each status as recorded; the one that was kept is compared."""
    body = json.loads(recording["request"]["body"])
    requests = [("/api/chat", {**body, "stream": number % 2 == 0}) for number in range(len(recording["burst"]))]
    answers = server.together(requests)
    got = sorted(answer.status for answer in answers)
    replay.results[recording["name"]] = compare(sorted(recording["burst"]), got, "burst", fixed=True)
    status = recording["response"]["status"]
    fitting = [answer for (_path, sent), answer in zip(requests, answers) if answer.status == status and sent["stream"] == body["stream"]]
    return fitting[0] if fitting else answers[0]


def _interrupted(server: StandIn, replay: Replay, recording: dict[str, Any]) -> Answer:
    """The client leaves after a while."""
    return replay.send(recording, enough=lambda answer: len(answer.lines) > 12)


def _two_clients(server: StandIn, replay: Replay, recording: dict[str, Any]) -> Answer:
    """The first one's pull; the second's, which joins it, is compared with its own recording."""
    request = json.loads(recording["request"]["body"])
    first = server.later("/api/pull", request)
    time.sleep(0.3)
    _two_clients_second.append(server.post("/api/pull", request))
    return first()


_two_clients_second: list[Answer] = []


def _cut_pull(server: StandIn, replay: Replay, recording: dict[str, Any]) -> Answer:
    """SIGTERM in the midst of a file."""

    def cut(answer: Answer) -> bool:
        if sum('"completed"' in line for line in answer.lines) == 2:
            server.signal(signal.SIGTERM)
        return False

    answer = replay.send(recording, enough=cut)
    server.wait()
    server.start()
    server.settings(pull_bytes_per_second=2e8)
    return answer


def _killed(server: StandIn, replay: Replay, recording: dict[str, Any]) -> Answer:
    result = server.later("/api/chat", json.loads(recording["request"]["body"]))
    _until_running(server)
    time.sleep(0.1)
    assert server.post("/standin/kill-runners", {}).json["killed"]
    return result()


def _left(server: StandIn, replay: Replay, recording: dict[str, Any]) -> Answer:
    return replay.send(recording, enough=lambda answer: len(answer.lines) > 20)


def _unload_during_stream(server: StandIn, replay: Replay, recording: dict[str, Any]) -> Answer:
    """The answer comes at once, the model goes when the stream has ended."""
    stream = server.later("/api/chat", _chat(options={"num_predict": 60}))
    _until_running(server)
    answer = replay.send(recording)
    models = [model["name"] for model in server.get("/api/ps").json["models"]]
    replay.results[recording["name"]] = compare(True, "slow:latest" in models, "still loaded")
    assert json.loads(stream().lines[-1])["done"]
    return answer


def _other_context(server: StandIn, replay: Replay, recording: dict[str, Any]) -> Answer:
    """Waits for the stream that runs, then loads again."""
    started = time.monotonic()
    stream = server.later("/api/chat", _chat(options={"num_predict": 60}))
    _until_running(server)
    answer = replay.send(recording)
    waited = time.monotonic() - started
    stream()
    replay.results[recording["name"]] = [] if waited > 60 / 200 else [f"answered after {waited} s, before the stream had ended"]
    return answer


def _waiting_at_the_end(server: StandIn, replay: Replay, recording: dict[str, Any]) -> Answer:
    """SIGTERM while it waits for its turn behind a stream."""
    stream = server.later("/api/chat", _chat(options={"num_predict": 3000}))
    _until_running(server)
    waiting = server.later("/api/chat", json.loads(recording["request"]["body"]))
    time.sleep(0.2)
    server.stop()
    replay.results[recording["name"]] = compare("eof", stream().end, "the stream")
    return waiting()


SPECIAL: dict[str, Special] = {
    "190_pull_slow_interrupted": _interrupted,
    "19b_pull_two_clients_A": _two_clients,
    "19c_pull_two_clients_B": lambda server, replay, recording: _two_clients_second.pop(),
    "19e_pull_server_sigterm": _cut_pull,
    "201_queue_burst_loaded_model": _burst,
    "203_queue_full_503": _burst,
    "213_runner_killed_nonstream": _killed,
    "215_client_disconnect": _left,
    "219b_unload_request": _unload_during_stream,
    "21b_other_num_ctx_during_stream_B": _other_context,
    "220b_sigterm_waiting": _waiting_at_the_end,
}
