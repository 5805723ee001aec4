# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""/api/chat, /api/generate, /api/embed, /api/embeddings, /api/ps."""

from __future__ import annotations

from typing import Any

from ollama_standin import bodies
from ollama_standin.errors import ApiError
from ollama_standin.http1 import NDJSON, Request, Response
from ollama_standin.inference import Embedding, Engine, Job, texts
from ollama_standin.scheduler import RUNNER_DIED, RunnerDiedError
from ollama_standin.store import Model, timestamp


def content(message: Any) -> str:
    """The text of a message; of /v1 ones too, whose content may be a list of parts."""
    value = message.get("content") if isinstance(message, dict) else ""
    if isinstance(value, list):
        return " ".join(str(part.get("text", "")) for part in value if isinstance(part, dict))
    return str(value or "")


class Native:
    """The handlers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def chat(self, request: Request, response: Response) -> None:
        body = bodies.parse(request.body, "ChatRequest")
        keep_alive = bodies.keep_alive(body)
        asked = body.get("model") or ""
        if not asked:
            raise ApiError(400, "model is required")
        model = self._model(asked)
        messages = body.get("messages") or []
        empty = {"message": {"role": "assistant", "content": ""}}
        if not messages and keep_alive == 0:
            await self._unload(model, asked, empty, response)
            return
        check_capabilities(model, asked, "chat", body)
        questions = [content(message) for message in messages if isinstance(message, dict) and message.get("role") == "user"]
        job = Job(self._engine, model, asked, "\n".join(map(content, messages)), (questions or [""])[-1], body.get("options") or {})
        job.keep_alive = keep_alive
        job.format = bodies.check_format(body.get("format"))
        if not messages:
            await self._load(job, empty, response)
            return
        await self._answer(job, body, response, lambda text: {"message": {"role": "assistant", "content": text}}, {})

    async def generate(self, request: Request, response: Response) -> None:
        body = bodies.parse(request.body, "GenerateRequest")
        keep_alive = bodies.keep_alive(body)
        asked = body.get("model") or ""
        model = self._model(asked)
        prompt = body.get("prompt") or ""
        if not prompt and keep_alive == 0:
            await self._unload(model, asked, {"response": ""}, response)
            return
        check_capabilities(model, asked, "generate", body)
        job = Job(self._engine, model, asked, prompt, prompt, body.get("options") or {})
        job.keep_alive = keep_alive
        job.format = bodies.check_format(body.get("format"))
        if not prompt:
            await self._load(job, {"response": ""}, response)
            return
        # Token numbers, of which nothing but their count is true.
        context = {} if body.get("raw") else {"context": list(range(259, 259 + job.prompt_tokens))}
        await self._answer(job, body, response, lambda text: {"response": text}, context)

    def _model(self, asked: str) -> Model:
        model = self._engine.find(asked)
        if model is None:
            raise ApiError(404, f"model '{asked}' not found")
        return model

    async def _load(self, job: Job, empty: dict[str, Any], response: Response) -> None:
        await job.load()
        await response.json(200, {"model": job.asked, "created_at": timestamp(), **empty, "done": True, "done_reason": "load"})

    async def _unload(self, model: Model, asked: str, empty: dict[str, Any], response: Response) -> None:
        self._engine.scheduler.expire(model)
        await response.json(200, {"model": asked, "created_at": timestamp(), **empty, "done": True, "done_reason": "unload"})

    @staticmethod
    async def _answer(job: Job, body: dict[str, Any], response: Response, part: Any, last: dict[str, Any]) -> None:
        stream = body.get("stream") is not False
        said = ""
        run = job.run(stream)
        try:
            async for piece in run:
                if not stream:
                    said = piece
                    continue
                if not response.started:
                    await response.stream(200, NDJSON)
                await response.line({"model": job.asked, "created_at": timestamp(), **part(piece), "done": False})
        except RunnerDiedError as error:
            if not response.started:
                raise ApiError(500, RUNNER_DIED) from error
            await response.line({"error": RUNNER_DIED})
            await response.end()
            return
        finally:
            await run.aclose()
        final = {
            "model": job.asked,
            "created_at": timestamp(),
            **part(said),
            "done": True,
            "done_reason": job.done_reason,
            **last,
            **job.counters(),
        }
        if not stream:
            await response.json(200, final)
            return
        if not response.started:
            await response.stream(200, NDJSON)
        await response.line(final)
        await response.end()

    async def embed(self, request: Request, response: Response) -> None:
        body = bodies.parse(request.body, "EmbedRequest")
        keep_alive = bodies.keep_alive(body)
        asked = body.get("model") or ""
        model = embedding_model(self._engine, asked)
        result = Embedding(self._engine, model, texts(body.get("input")), body, keep_alive)
        await result.run()
        counters = {
            "total_duration": result.total_duration,
            "load_duration": result.load_duration,
            "prompt_eval_count": result.prompt_tokens,
        }
        await response.json(200, {"model": asked, "embeddings": result.vectors, **(counters if result.vectors else {})})

    async def embeddings(self, request: Request, response: Response) -> None:
        body = bodies.parse(request.body, "EmbeddingRequest")
        keep_alive = bodies.keep_alive(body)
        model = embedding_model(self._engine, body.get("model") or "")
        result = Embedding(self._engine, model, texts(body.get("prompt")), body, keep_alive, refused=500)
        await result.run()
        await response.json(200, {"embedding": (result.vectors or [[]])[0]})

    async def ps(self, _request: Request, response: Response) -> None:
        scheduler = self._engine.scheduler
        vram = self._engine.control.vram
        models = [
            {
                "name": runner.model.name.short,
                "model": runner.model.name.short,
                "size": runner.size,
                "digest": runner.model.digest,
                "details": runner.model.details,
                "expires_at": timestamp(scheduler.expiry(runner)),
                "size_vram": int(runner.size * vram),
                "context_length": runner.context,
            }
            for runner in scheduler.runners
        ]
        await response.json(200, {"models": models})


def check_capabilities(model: Model, asked: str, purpose: str, body: dict[str, Any]) -> None:
    capabilities = model.capabilities
    if "completion" not in capabilities:
        raise ApiError(400, f'"{asked}" does not support {purpose}')
    if body.get("tools") and "tools" not in capabilities:
        raise ApiError(400, f"{model.name.full} does not support tools")
    if body.get("think") and "thinking" not in capabilities:
        raise ApiError(400, f'"{asked}" does not support thinking')


def embedding_model(engine: Engine, asked: str) -> Model:
    model = engine.find(asked)
    if model is None or not model.weights.exists():
        raise ApiError(404, f'model "{asked}" not found, try pulling it first')
    return model
