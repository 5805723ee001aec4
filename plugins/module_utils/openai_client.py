# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The calls an OpenAI client makes, as the checks need them: with times, and with the backend that answered.

Failures are ApiErrors; the layer is named as the client of a gateway sees it.
"""

from __future__ import annotations

import json
import math
import time
import typing as t

from ansible_collections.selfhosted.llm.plugins.module_utils.http import (
    AUTH,
    BACKEND,
    PROTOCOL,
    TIMEOUT,
    ApiClient,
    ApiError,
    Response,
    error_text,
)

# LiteLLM names the deployment that answered in these headers, on streams and embeddings as well; the id is the better name.
BACKEND_HEADERS = ("x-litellm-model-id", "x-litellm-model-api-base")
VERSION_HEADER = "x-litellm-version"


def api_base(url: str) -> str:
    """The base URL with /v1, whether or not it was given."""
    url = url.strip().rstrip("/")
    return url if url.endswith("/v1") else url + "/v1"


def backend_of(headers: dict[str, str]) -> str | None:
    for name in BACKEND_HEADERS:
        if headers.get(name):
            return headers[name]
    return None


def is_missing_database(status: int | None, body: str) -> bool:
    """LiteLLM without a database refuses every key but the master key this way, instead of with 401."""
    return status == 400 and "no connected db" in error_text(body).lower()


def explain(error: ApiError) -> ApiError:
    """The same error, with the layer put right where only this API's conventions can tell."""
    if is_missing_database(error.status, error.body):
        return ApiError(AUTH, error.message + " (LiteLLM without a database: the key is not the master key)", error.status, error.body)
    return error


class Answer:
    """What came back, from whom, and how fast."""

    def __init__(self) -> None:
        self.text = ""
        self.backend: str | None = None
        self.seconds = 0.0
        self.ttft: float | None = None
        self.chunks = 0
        self.tokens: int | None = None
        self.finish_reason: str | None = None
        self.vectors: list[list[float]] = []


class OpenAIClient:
    """One API and one key. `timeout` limits the wait between two reads and the length of a stream.

    `connect_to` and `headers` are those of ApiClient.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None,
        ca_path: str | None = None,
        timeout: float = 60.0,
        validate_certs: bool = True,
        connect_to: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.base_url = api_base(url)
        self.timeout = timeout
        self.server_version: str | None = None

        def at(where: str) -> ApiClient:
            return ApiClient(where, api_key or None, ca_path, timeout, validate_certs, connect_to=connect_to, headers=headers)

        self.http = at(self.base_url)
        self._root = at(self.base_url[: -len("/v1")])

    def raw(self, method: str, path: str, payload: t.Any = None) -> Response:
        """The answer whatever its status."""
        response = self.http.call(method, path, payload)
        self._note(response.headers)
        return response

    def management(self, method: str, path: str, payload: t.Any = None) -> t.Any:
        """The answer of LiteLLM's management API, which lies beside /v1."""
        try:
            return self._root.request(method, path, payload).json()
        except ApiError as exc:
            raise explain(exc) from exc

    def _note(self, headers: dict[str, str]) -> None:
        # LiteLLM gives its version with completions, but not with the list of models.
        self.server_version = headers.get(VERSION_HEADER) or self.server_version

    def _post(self, path: str, payload: t.Any) -> tuple[Response, t.Any]:
        try:
            response = self.http.request("POST", path, payload)
        except ApiError as exc:
            raise explain(exc) from exc
        self._note(response.headers)
        return response, response.json()

    def models(self) -> list[str]:
        try:
            response = self.http.request("GET", "/models")
        except ApiError as exc:
            raise explain(exc) from exc
        self._note(response.headers)
        data = response.json()
        try:
            return [str(entry["id"]) for entry in data["data"]]
        except (KeyError, TypeError) as exc:
            raise ApiError(PROTOCOL, f"the model list has no data[].id: {response.text()[:200]!r}", response.status) from exc

    @staticmethod
    def chat_payload(model: str, prompt: str, max_tokens: int, stream: bool = False) -> dict[str, t.Any]:
        payload: dict[str, t.Any] = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens}
        if stream:
            payload["stream"] = True
        return payload

    def chat(self, model: str, prompt: str, max_tokens: int) -> Answer:
        response, data = self._post("/chat/completions", self.chat_payload(model, prompt, max_tokens))
        answer = Answer()
        answer.seconds = response.elapsed
        answer.backend = backend_of(response.headers)
        try:
            choice = data["choices"][0]
            answer.text = _spoken(choice["message"])
            answer.finish_reason = choice.get("finish_reason")
        except (KeyError, IndexError, TypeError, AttributeError) as exc:
            raise ApiError(PROTOCOL, f"the answer has no choices[0].message: {response.text()[:200]!r}", response.status) from exc
        answer.tokens = _completion_tokens(data)
        # A model that only thinks, or ends at once, still answered when it counts tokens.
        if not answer.text and not answer.tokens:
            raise ApiError(BACKEND, f"the model answered with nothing: {response.text()[:200]!r}", response.status)
        return answer

    def stream_chat(self, model: str, prompt: str, max_tokens: int) -> Answer:
        """A streamed chat read to its end, which must be [DONE]."""
        answer = Answer()
        started = time.monotonic()
        done = False
        try:
            stream = self.http.stream("POST", "/chat/completions", self.chat_payload(model, prompt, max_tokens, stream=True))
        except ApiError as exc:
            raise explain(exc) from exc
        with stream:
            self._note(stream.headers)
            answer.backend = backend_of(stream.headers)
            for line in stream:
                if time.monotonic() - started > self.timeout:
                    raise ApiError(TIMEOUT, f"the stream was still running after {self.timeout:g} s", stream.status)
                if not line.startswith("data:"):
                    continue
                data = line[len("data:") :].strip()
                if data == "[DONE]":
                    done = True
                    break
                _read_chunk(data, answer, started)
        answer.seconds = time.monotonic() - started
        if not done:
            raise ApiError(PROTOCOL, f"the stream ended without [DONE] after {answer.chunks} chunks of text", stream.status)
        return answer

    def embed(self, model: str, texts: list[str]) -> Answer:
        response, data = self._post("/embeddings", {"model": model, "input": texts})
        answer = Answer()
        answer.seconds = response.elapsed
        answer.backend = backend_of(response.headers)
        try:
            answer.vectors = [entry["embedding"] for entry in data["data"]]
        except (KeyError, TypeError) as exc:
            raise ApiError(PROTOCOL, f"the answer has no data[].embedding: {response.text()[:200]!r}", response.status) from exc
        problem = vector_problem(answer.vectors, len(texts))
        if problem:
            raise ApiError(BACKEND, problem, response.status)
        return answer


def vector_problem(vectors: list[t.Any], wanted: int) -> str | None:
    """What is wrong with the vectors of an embedding, or None."""
    if len(vectors) != wanted:
        return f"{len(vectors)} vectors for {wanted} texts"
    sizes = set()
    for vector in vectors:
        if not isinstance(vector, list) or not vector:
            return "a vector is empty"
        if not all(isinstance(number, (int, float)) and math.isfinite(number) for number in vector):
            return "a vector holds something that is not a finite number"
        if not any(vector):
            return "a vector is all zeros"
        sizes.add(len(vector))
    if len(sizes) > 1:
        return f"vectors of different sizes: {', '.join(str(size) for size in sorted(sizes))}"
    return None


def _spoken(message: dict[str, t.Any]) -> str:
    return str(message.get("content") or message.get("reasoning_content") or message.get("reasoning") or "")


def _completion_tokens(data: t.Any) -> int | None:
    usage = data.get("usage") if isinstance(data, dict) else None
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) else None


def _read_chunk(data: str, answer: Answer, started: float) -> None:
    try:
        chunk = json.loads(data)
    except ValueError as exc:
        raise ApiError(PROTOCOL, f"a chunk of the stream is not JSON: {data[:200]!r}") from exc
    if isinstance(chunk, dict) and chunk.get("error"):
        raise ApiError(BACKEND, f"the stream broke off after {answer.chunks} chunks of text: {error_text(data)}")
    try:
        choices = chunk.get("choices") or []
        for choice in choices:
            text = _spoken(choice.get("delta") or {})
            if text:
                if answer.ttft is None:
                    answer.ttft = time.monotonic() - started
                answer.chunks += 1
                answer.text += text
            answer.finish_reason = choice.get("finish_reason") or answer.finish_reason
    except AttributeError as exc:
        raise ApiError(PROTOCOL, f"a chunk of the stream has no choices: {data[:200]!r}") from exc
    tokens = _completion_tokens(chunk)
    answer.tokens = tokens if tokens is not None else answer.tokens
