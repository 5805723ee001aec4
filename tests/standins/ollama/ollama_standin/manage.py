# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The part of the native API that looks after models."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from typing import Any

from ollama_standin import VERSION, bodies
from ollama_standin.create import Creator
from ollama_standin.errors import ApiError
from ollama_standin.http1 import GIN_JSON, JSON, NDJSON, Request, Response, dumps
from ollama_standin.inference import Engine
from ollama_standin.names import Name
from ollama_standin.registry import Event
from ollama_standin.show import describe
from ollama_standin.store import BlobMissingError, timestamp

_DIGEST = re.compile(r"sha256[:-][0-9a-fA-F]{64}")


class Manage:
    """The handlers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = engine.store
        self._creator = Creator(engine.store, engine.registry)

    async def root(self, _request: Request, response: Response) -> None:
        await response.send(200, b"Ollama is running", "text/plain; charset=utf-8")

    async def version(self, _request: Request, response: Response) -> None:
        await response.json(200, {"version": VERSION})

    async def status(self, _request: Request, response: Response) -> None:
        disabled = self._engine.config.no_cloud
        await response.json(200, {"cloud": {"disabled": disabled, "source": "env" if disabled else "none"}})

    async def tags(self, _request: Request, response: Response) -> None:
        models = [
            {
                "name": model.name.short,
                "model": model.name.short,
                "modified_at": timestamp(model.modified),
                "size": model.size,
                "digest": model.digest,
                "details": {
                    **model.details,
                    "context_length": model.config.get("context_length", 0),
                    "embedding_length": model.config.get("embedding_length", 0),
                },
                "capabilities": model.capabilities,
            }
            for model in self._store.models()
        ]
        await response.json(200, {"models": models})

    async def show(self, request: Request, response: Response) -> None:
        body = bodies.parse(request.body, "ShowRequest")
        asked = body.get("model") or body.get("name")
        if not asked:
            raise ApiError(400, "model is required")
        name = _name(asked)
        model = self._store.find(name)
        try:
            if model is None:
                raise BlobMissingError
            await response.json(200, describe(model, verbose=bool(body.get("verbose"))))
        except BlobMissingError as error:
            raise ApiError(404, f"model '{name.short}' not found") from error

    async def copy(self, request: Request, response: Response) -> None:
        body = bodies.parse(request.body, "CopyRequest")
        source, destination = body.get("source") or "", body.get("destination") or ""
        for text in (source, destination):
            try:
                Name(text)
            except ValueError as error:
                kind = "source" if text == source else "destination"
                raise ApiError(400, f'{kind} "{text}" is invalid') from error
        model = self._store.find(Name(source))
        if model is None:
            raise ApiError(404, f'model "{source}" not found')
        self._store.copy(model, Name(destination))
        await response.send(200)

    async def delete(self, request: Request, response: Response) -> None:
        body = bodies.parse(request.body, "DeleteRequest")
        asked = body.get("model") or body.get("name") or ""
        try:
            model = self._store.find(Name(asked))
        except ValueError as error:
            raise ApiError(400, f'name "{asked}" is invalid') from error
        if model is None:
            raise ApiError(404, f"model '{asked}' not found")
        self._engine.scheduler.expire(model)
        self._store.delete(model)
        await response.send(200)

    async def pull(self, request: Request, response: Response) -> None:
        body = bodies.parse(request.body, "PullRequest")
        name = _name(body.get("model") or body.get("name") or "")
        await _progress(self._engine.registry.pull(name, bool(body.get("insecure"))), body, response)

    async def create(self, request: Request, response: Response) -> None:
        body = bodies.parse(request.body, "CreateRequest")
        name = _name(body.get("model") or body.get("name") or "")
        await _progress(self._creator.create(name, body), body, response)

    async def blob_exists(self, request: Request, response: Response) -> None:
        path = self._store.blob(_digest(request.parameter))
        if not path.is_file():
            raise ApiError(404, f'blob "{request.parameter}" not found')
        await response.send(200)

    async def blob_upload(self, request: Request, response: Response) -> None:
        digest = _digest(request.parameter)
        if self._store.blob(digest).exists():
            await response.send(200)
            return
        got = "sha256:" + hashlib.sha256(request.body).hexdigest()
        if got != digest:
            raise ApiError(400, f'digest mismatch, expected "{digest}", got "{got}"')
        self._store.write(request.body, digest)
        await response.send(201)


def _name(text: str) -> Name:
    try:
        return Name(text)
    except ValueError as error:
        raise ApiError(400, "invalid model name") from error


def _digest(text: str) -> str:
    if not _DIGEST.fullmatch(text):
        raise ApiError(400, "invalid digest format")
    return text.replace("-", ":")


async def _progress(events: AsyncIterator[Event], body: dict[str, Any], response: Response) -> None:
    """Lines as they come, or only how it ended; an error after the first line no longer changes the status."""
    stream = body.get("stream") is not False
    try:
        async for event in events:
            if stream and not response.started:
                await response.stream(200, NDJSON)
            if stream:
                await response.line(event)
    except ApiError as error:
        if response.started:
            await response.line({"error": error.message})
            await response.end()
        else:
            await response.send(error.status, dumps({"error": error.message}).encode(), JSON, chunked=stream)
        return
    if stream:
        await response.end()
    else:
        await response.send(200, b'{"status":"success"}', JSON)


async def send_error(error: ApiError, response: Response) -> None:
    await response.send(error.status, dumps({"error": error.message}).encode(), GIN_JSON)
