# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Running models: the part that the native API and /v1 share."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterable
from typing import Any

from ollama_standin import words
from ollama_standin.bodies import check_options
from ollama_standin.config import Config
from ollama_standin.control import Control
from ollama_standin.errors import ApiError
from ollama_standin.names import Name
from ollama_standin.registry import Registry
from ollama_standin.scheduler import Runner, RunnerDiedError, Scheduler
from ollama_standin.store import BlobMissingError, Model, Store

NO_EMBEDDINGS = "This server does not support embeddings. Start it with `--embeddings`"
_TOKENS_BEFORE_CRASH = 3
_CATCH_UP = 0.25


class DropError(Exception):
    """The connection is to be cut."""


class Engine:
    """All parts of a server."""

    def __init__(self, config: Config, control: Control, store: Store, registry: Registry) -> None:
        self.config = config
        self.control = control
        self.store = store
        self.registry = registry
        self.scheduler = Scheduler(config, control)

    def find(self, text: str) -> Model | None:
        try:
            return self.store.find(Name(text))
        except ValueError:
            return None

    def fail_if_told(self) -> None:
        fail = self.control.fail
        if fail == "drop":
            raise DropError
        if fail.isdigit():
            raise ApiError(int(fail), "the stand-in was told to fail")

    async def work(self, runner: Runner, prompt_tokens: int) -> None:
        """The time before the first token."""
        rate = self.control.prompt_tokens_per_second
        seconds = self.control.delay + (prompt_tokens / rate if rate else 0.0)
        if seconds:
            await runner.pause(seconds)


class Job:
    """One answer of a model."""

    def __init__(self, engine: Engine, model: Model, asked: str, prompt: str, question: str, options: dict[str, Any]) -> None:
        self._engine = engine
        self.model = model
        self.asked = asked
        self._question = question
        self._given = options
        self.format: Any = None
        self.keep_alive: float | None = None
        self.prompt_tokens = words.count_tokens(prompt)
        self.eval_count = 0
        self.done_reason = "stop"
        self._started = time.monotonic_ns()
        self._loaded = self._prompted = self._ended = self._started

    def options(self) -> dict[str, Any]:
        """The model's parameters with the request's on top."""
        return check_options({**self.model.parameters, **self._given})

    def _pieces(self, options: dict[str, Any]) -> list[str]:
        control = self._engine.control
        said = (
            words.json_reply(self.format) if self.format else words.reply(self.asked, self._question, control.reply, control.reply_tokens)
        )
        limit = int(options.get("num_predict", -1))
        if 0 < limit <= len(said):
            self.done_reason = "length"
            return said[:limit]
        stops: Iterable[str] = options.get("stop", [])
        text = "".join(said)
        ends = [text.find(stop) for stop in stops if stop and stop in text]
        return words.pieces(text[: min(ends)]) if ends else said

    async def load(self) -> None:
        self._engine.fail_if_told()
        async with self._use(self.options()):
            pass

    def _use(self, options: dict[str, Any]) -> Any:
        # A file that is not there is found out before anything waits.
        try:
            assert self.model.gguf
        except BlobMissingError as error:
            raise ApiError(404, f'model "{self.asked}" not found, try pulling it first') from error
        return self._engine.scheduler.use(self.model, options, self.keep_alive)

    async def run(self, stream: bool) -> AsyncGenerator[str, None]:
        """The answer, piece by piece; as one when nobody watches."""
        self._engine.fail_if_told()
        control = self._engine.control
        options = self.options()
        async with self._use(options) as runner:
            self._loaded = time.monotonic_ns()
            if self.prompt_tokens > runner.context:
                raise ApiError(400, self._too_long(runner.context))
            await runner.slots.acquire()
            control.start()
            try:
                await self._engine.work(runner, self.prompt_tokens)
                self._prompted = time.monotonic_ns()
                said = self._pieces(options)
                if stream:
                    async for piece in self._paced(runner, said):
                        yield piece
                else:
                    rate = control.tokens_per_second
                    crash = control.fail == "runner"
                    await runner.pause((_TOKENS_BEFORE_CRASH if crash else len(said)) / rate if rate else 0.0)
                    if crash:
                        raise RunnerDiedError
                    self.eval_count = len(said)
                    yield "".join(said)
            finally:
                control.stop()
                runner.slots.release()
        self._ended = time.monotonic_ns()

    async def _paced(self, runner: Runner, said: list[str]) -> AsyncGenerator[str, None]:
        control = self._engine.control
        due = time.monotonic()
        for piece in said:
            if control.fail == "runner" and self.eval_count >= _TOKENS_BEFORE_CRASH:
                raise RunnerDiedError
            rate = control.tokens_per_second
            now = time.monotonic()
            # After a standstill it goes on at its pace and does not make up for it.
            due = (due if now - due < _CATCH_UP else now) + (1.0 / rate if rate else 0.0)
            await runner.pause(due - now if rate else 0.0)
            self.eval_count += 1
            yield piece

    def _too_long(self, context: int) -> str:
        from ollama_standin.http1 import dumps

        message = f"request ({self.prompt_tokens} tokens) exceeds the available context size ({context} tokens), try increasing it"
        error = {
            "code": 400,
            "message": message,
            "type": "exceed_context_size_error",
            "n_prompt_tokens": self.prompt_tokens,
            "n_ctx": context,
        }
        return dumps({"error": error})

    def counters(self) -> dict[str, int]:
        """What the last line of an answer tells, durations in nanoseconds."""
        return {
            "total_duration": max(1, self._ended - self._started),
            "load_duration": max(1, self._loaded - self._started),
            "prompt_eval_count": self.prompt_tokens,
            "prompt_eval_duration": max(1, self._prompted - self._loaded),
            "eval_count": self.eval_count,
            "eval_duration": max(1, self._ended - self._prompted),
        }

    @property
    def usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.eval_count,
            "total_tokens": self.prompt_tokens + self.eval_count,
        }


class Embedding:
    """The vectors of some texts."""

    def __init__(
        self, engine: Engine, model: Model, inputs: list[str], body: dict[str, Any], keep_alive: float | None, refused: int = 501
    ) -> None:
        self._engine = engine
        self._model = model
        self._inputs = inputs
        self._options = check_options({**model.parameters, **(body.get("options") or {})})
        self._truncate = body.get("truncate") is not False
        self._dimensions = int(body.get("dimensions") or 0)
        self._keep_alive = keep_alive
        self._refused = refused
        self.vectors: list[list[float]] = []
        self.prompt_tokens = 0
        self.total_duration = self.load_duration = 0

    async def run(self) -> None:
        engine = self._engine
        engine.fail_if_told()
        started = time.monotonic_ns()
        async with engine.scheduler.use(self._model, self._options, self._keep_alive) as runner:
            self.load_duration = max(1, time.monotonic_ns() - started)
            if self._inputs and "embedding" not in self._model.capabilities:
                raise ApiError(self._refused, NO_EMBEDDINGS)
            counts = [words.count_tokens(text) for text in self._inputs]
            if not self._truncate and any(count > runner.context for count in counts):
                raise ApiError(400, "the input length exceeds the context length")
            self.prompt_tokens = sum(min(count, runner.context) for count in counts)
            if self._inputs:
                await runner.slots.acquire()
                engine.control.start()
                try:
                    await engine.work(runner, self.prompt_tokens)
                    full = int(self._model.config.get("embedding_length") or 64)
                    size = min(self._dimensions or full, full)
                    self.vectors = [words.embed(text, size) for text in self._inputs]
                finally:
                    engine.control.stop()
                    runner.slots.release()
        self.total_duration = max(1, time.monotonic_ns() - started)


def texts(value: Any) -> list[str]:
    """The input of an embedding request."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise ApiError(400, "invalid input type")
