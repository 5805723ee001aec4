# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""/v1: the API in OpenAI's form."""

from __future__ import annotations

import base64
import random
import struct
import time
from collections.abc import AsyncGenerator
from typing import Any

from ollama_standin import bodies
from ollama_standin.errors import ApiError
from ollama_standin.http1 import JSON, SSE, Request, Response, dumps
from ollama_standin.inference import Embedding, Engine, Job, texts
from ollama_standin.names import Name
from ollama_standin.native import check_capabilities, content, embedding_model
from ollama_standin.scheduler import RUNNER_DIED, RunnerDiedError
from ollama_standin.store import Model

_KINDS = {400: "invalid_request_error", 404: "not_found_error"}
_FINGERPRINT = "fp_ollama"


def error_body(error: ApiError) -> dict[str, Any]:
    return {"error": {"message": error.message, "type": _KINDS.get(error.status, "api_error"), "param": None, "code": None}}


class BindError(ApiError):
    """An error found before Ollama's own handler: gin answers it."""


async def send(response: Response, status: int, value: Any) -> None:
    await response.send(status, dumps(value).encode() + b"\n", JSON)


def _parse(request: Request, struct_name: str) -> dict[str, Any]:
    try:
        return bodies.parse(request.body, struct_name)
    except ApiError as error:
        raise BindError(error.status, error.message) from error


def _options(body: dict[str, Any]) -> dict[str, Any]:
    options = {
        name: body[name] for name in ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty") if body.get(name) is not None
    }
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if limit:
        options["num_predict"] = limit
    stop = body.get("stop")
    if stop:
        options["stop"] = [stop] if isinstance(stop, str) else stop
    return options


def _format(body: dict[str, Any]) -> Any:
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_object":
        return "json"
    return (wanted.get("json_schema") or {}).get("schema") if wanted.get("type") == "json_schema" else None


class OpenAI:
    """The handlers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def _model(self, asked: str) -> Model:
        if not asked:
            raise ApiError(400, "model is required")
        model = self._engine.find(asked)
        if model is None:
            raise ApiError(404, f"model '{asked}' not found")
        return model

    @staticmethod
    def _created(model: Model, shown: str) -> dict[str, Any]:
        owner = model.name.namespace
        return {"id": shown, "object": "model", "created": int(model.modified), "owned_by": owner}

    async def models(self, _request: Request, response: Response) -> None:
        models = self._engine.store.models()
        await send(response, 200, {"object": "list", "data": [self._created(model, model.name.short) for model in models] or None})

    async def model(self, request: Request, response: Response) -> None:
        asked = request.parameter
        model = self._engine.find(asked)
        if model is None:
            try:
                shown = Name(asked).short
            except ValueError as error:
                raise ApiError(400, "invalid model name") from error
            raise ApiError(404, f"model '{shown}' not found")
        await send(response, 200, self._created(model, asked))

    async def chat(self, request: Request, response: Response) -> None:
        body = _parse(request, "ChatCompletionRequest")
        messages = body.get("messages") or []
        if not messages:
            raise BindError(400, "[] is too short - 'messages'")
        asked = body.get("model") or ""
        model = self._model(asked)
        check_capabilities(model, asked, "chat", body)
        questions = [content(message) for message in messages if isinstance(message, dict) and message.get("role") == "user"]
        job = Job(self._engine, model, asked, "\n".join(map(content, messages)), (questions or [""])[-1], _options(body))
        job.format = _format(body)
        head = {"id": f"chatcmpl-{random.randrange(1000)}", "object": "chat.completion", "created": int(time.time()), "model": asked}
        head["system_fingerprint"] = _FINGERPRINT
        run = job.run(bool(body.get("stream")))
        try:
            if body.get("stream"):
                await self._stream_chat(job, run, head, body, response)
                return
            said = await _whole(run)
        finally:
            await run.aclose()
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": job.done_reason}
        await send(response, 200, {**head, "choices": [choice], "usage": job.usage})

    @staticmethod
    async def _stream_chat(
        job: Job, run: AsyncGenerator[str, None], head: dict[str, Any], body: dict[str, Any], response: Response
    ) -> None:
        head["object"] = "chat.completion.chunk"

        def chunk(delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
            return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

        try:
            async for piece in run:
                delta = {"content": piece} if response.started else {"role": "assistant", "content": piece}
                if not response.started:
                    await response.stream(200, SSE)
                await response.event(chunk(delta, None))
        except RunnerDiedError as error:
            await _died(response, chunk({}, None), error)
            return
        if not response.started:
            await response.stream(200, SSE)
        await response.event(chunk({}, job.done_reason))
        if (body.get("stream_options") or {}).get("include_usage"):
            await response.event({**head, "choices": [], "usage": job.usage})
        await response.write(b"data: [DONE]\n\n")
        await response.end()

    async def completions(self, request: Request, response: Response) -> None:
        body = _parse(request, "CompletionRequest")
        asked = body.get("model") or ""
        model = self._model(asked)
        check_capabilities(model, asked, "generate", body)
        prompt = body.get("prompt") or ""
        job = Job(self._engine, model, asked, prompt, prompt, _options(body))
        head = {"id": f"cmpl-{random.randrange(1000)}", "object": "text_completion", "created": int(time.time())}
        tail = {"model": asked, "system_fingerprint": _FINGERPRINT}
        run = job.run(bool(body.get("stream")))
        try:
            if body.get("stream"):
                await self._stream_completion(job, run, head, tail, body, response)
                return
            said = await _whole(run)
        finally:
            await run.aclose()
        choice = {"text": said, "index": 0, "finish_reason": job.done_reason}
        await send(response, 200, {**head, **tail, "choices": [choice], "usage": job.usage})

    @staticmethod
    async def _stream_completion(
        job: Job, run: AsyncGenerator[str, None], head: dict[str, Any], tail: dict[str, Any], body: dict[str, Any], response: Response
    ) -> None:
        counted = (body.get("stream_options") or {}).get("include_usage")
        nothing = {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}} if counted else {}

        def chunk(text: str, reason: str | None) -> dict[str, Any]:
            return {**head, "choices": [{"text": text, "index": 0, "finish_reason": reason}], **tail, **nothing}

        try:
            async for piece in run:
                if not response.started:
                    await response.stream(200, SSE)
                await response.event(chunk(piece, None))
        except RunnerDiedError as error:
            await _died(response, chunk("", None), error)
            return
        if not response.started:
            await response.stream(200, SSE)
        await response.event(chunk("", job.done_reason))
        if counted:
            await response.event({**head, "choices": [], **tail, "usage": job.usage})
        await response.write(b"data: [DONE]\n\n")
        await response.end()

    async def embeddings(self, request: Request, response: Response) -> None:
        body = _parse(request, "EmbedRequest")
        asked = body.get("model") or ""
        inputs = texts(body.get("input"))
        if not inputs:
            raise BindError(400, "invalid input")
        result = Embedding(self._engine, embedding_model(self._engine, asked), inputs, body, None)
        await result.run()
        packed = body.get("encoding_format") == "base64"
        data = [
            {"object": "embedding", "embedding": _base64(vector) if packed else vector, "index": index}
            for index, vector in enumerate(result.vectors)
        ]
        usage = {"prompt_tokens": result.prompt_tokens, "total_tokens": result.prompt_tokens}
        await send(response, 200, {"object": "list", "data": data, "model": asked, "usage": usage})


def _base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


async def _whole(run: AsyncGenerator[str, None]) -> str:
    try:
        return "".join([piece async for piece in run])
    except RunnerDiedError as error:
        raise ApiError(500, RUNNER_DIED) from error


async def _died(response: Response, empty: dict[str, Any], error: RunnerDiedError) -> None:
    """Ollama ends the stream as if all were well, after a chunk that says nothing: no finish_reason, no [DONE]."""
    if not response.started:
        raise ApiError(500, RUNNER_DIED) from error
    await response.event({**empty, "model": ""})
    await response.end()
