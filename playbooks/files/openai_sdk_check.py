#!/usr/bin/env python3
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls an OpenAI-compatible API with the official OpenAI SDK, as an application would, and prints one JSON document.

Input is a JSON object on standard input, or a list of models as its member `models` would be:

    {"models": [{"name": "phi3", "mode": "chat", "aliases": ["default"]}], "url": "http://gateway:4000", "api_key": "sk-…",
     "ca_path": "/etc/ssl/company.pem", "connect_to": "192.0.2.10:443", "timeout": 120, "max_tokens": 32, "expect_exact_models": true}

With `connect_to` it connects there instead of to the host of the URL, whose name stays that of the certificate and of the header Host.

What is not there comes from the environment, as the SDK has it: OPENAI_BASE_URL and OPENAI_API_KEY, and OPENAI_CHECK_MODELS for the
list of models. Nothing is taken from the command line, where every user of the machine could read it.

The exit code is 0 when no check failed, 1 when one did, 2 when there was nothing to check.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import secrets
import ssl
import sys
import time
import typing as t

try:
    import openai

    SDK_ERROR = ""
except ImportError as exc:
    SDK_ERROR = str(exc)

BACKEND_HEADERS = ("x-litellm-model-id", "x-litellm-model-api-base")
PARALLEL = 4
# A stream of an answer this long that comes in one piece was collected on the way. A model that says one word now and then is asked again.
MIN_CHUNKS = 2
STREAM_ATTEMPTS = 3
Details = t.Dict[str, t.Any]


class FindingError(Exception):
    """Something is wrong, at a layer."""

    def __init__(self, layer: str, message: str) -> None:
        super().__init__(message)
        self.layer = layer


class SkippedError(Exception):
    """The check cannot say anything; the text is the reason."""


def base_url(url: str) -> str:
    url = url.strip().rstrip("/")
    return url if url.endswith("/v1") else url + "/v1"


def no_database(error: BaseException) -> bool:
    """LiteLLM without a database refuses every key but the master key with 400 instead of 401."""
    return isinstance(error, openai.BadRequestError) and "no connected db" in str(error).lower()


def connection_layer(error: BaseException) -> str:
    """Why a connection failed: the SDK hides the reason in the chain of causes."""
    cause: BaseException | None = error
    words = ""
    while cause is not None:
        words += " " + str(cause).lower()
        if isinstance(cause, ssl.SSLError):
            return "tls"
        cause = cause.__cause__ or cause.__context__
    if "certificate" in words or "ssl" in words:
        return "tls"
    if "name or service" in words or "name resolution" in words or "getaddrinfo" in words or "nodename" in words:
        return "dns"
    return "refused"


def reason(error: BaseException) -> str:
    """The SDK says only "Connection error."; the cause says which."""
    cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else None
    return f"{error} {cause}" if cause else str(error)


def layer_of(error: BaseException) -> str:
    if isinstance(error, openai.APITimeoutError):
        return "timeout"
    if isinstance(error, openai.APIConnectionError):
        return connection_layer(error)
    if isinstance(error, (openai.AuthenticationError, openai.PermissionDeniedError)) or no_database(error):
        return "auth"
    if isinstance(error, openai.NotFoundError) or "invalid model name" in str(error).lower():
        return "model"
    if isinstance(error, openai.APIStatusError):
        return "timeout" if error.status_code in (408, 504) else "backend"
    # An error in the middle of a stream has no status of its own.
    return "backend" if isinstance(error, openai.APIError) else "protocol"


def http_library(client: t.Any) -> t.Any:
    """The package that a client of the SDK is built on: httpx, or httpx2 of newer versions."""
    return importlib.import_module(next(base for base in client.__mro__ if base.__name__ == "BaseClient").__module__.partition(".")[0])


def directed(client: t.Any, transport: str, address: str) -> t.Any:
    """A kind of transport that connects to an address, whatever host a request is for."""
    library = http_library(client)
    kind: t.Any = getattr(library, transport)
    where = library.URL(f"//{address}" if address.count(":") < 2 or address.startswith("[") else f"//[{address}]")

    def towards(request: t.Any) -> t.Any:
        # The header Host is there already; this is the name of the certificate.
        request.extensions = {**request.extensions, "sni_hostname": request.url.host}
        request.url = request.url.copy_with(host=where.host, port=where.port or request.url.port)
        return request

    class Directed(kind):  # type: ignore[misc]
        def handle_request(self, request: t.Any) -> t.Any:
            return super().handle_request(towards(request))

        async def handle_async_request(self, request: t.Any) -> t.Any:
            return await super().handle_async_request(towards(request))

    return Directed


class Checks:
    def __init__(self, hide: str) -> None:
        self.checks: list[Details] = []
        self._hide = hide

    def add(self, name: str, group: str, status: str, layer: str | None, message: str, seconds: float, details: Details) -> None:
        if self._hide:
            message = message.replace(self._hide, "[hidden]")
        check = {"name": name, "group": group, "status": status, "layer": layer, "message": message[:600]}
        self.checks.append({**check, "seconds": round(seconds, 4), "details": details})

    def skip(self, name: str, group: str, reason: str) -> None:
        self.add(name, group, "skipped", None, reason, 0.0, {})

    def run(self, name: str, group: str, check: t.Callable[[Details], str]) -> bool:
        details: Details = {}
        started = time.monotonic()
        status, layer = "passed", None
        try:
            message = check(details)
        except SkippedError as exc:
            status, message = "skipped", str(exc)
        except FindingError as exc:
            status, layer, message = "failed", exc.layer, str(exc)
        except Exception as exc:  # whatever the SDK raises is a finding: an application would have got it
            status, layer, message = "failed", layer_of(exc), f"{type(exc).__name__}: {reason(exc)}"
            details["error_class"] = type(exc).__name__
        self.add(name, group, status, layer, message, time.monotonic() - started, details)
        return status != "failed"

    def document(self, client: str, url: str) -> Details:
        counts = {status: len([check for check in self.checks if check["status"] == status]) for status in ("passed", "failed", "skipped")}
        ok = counts["failed"] == 0 and counts["passed"] > 0
        return {"client": client, "url": url, "ok": ok, "counts": counts, "checks": self.checks, "load": []}


class Sdk:
    """The checks, each one as an application would write the call."""

    def __init__(self, settings: Details) -> None:
        self.url = base_url(settings["url"])
        self.key: str = settings["api_key"]
        self.models: list[Details] = settings["models"]
        self.exact: bool = settings["expect_exact_models"]
        self.max_tokens: int = settings["max_tokens"]
        self.timeout: float = settings["timeout"]
        self.ca_path: str = settings["ca_path"]
        self.connect_to: str = settings["connect_to"]
        self.checks = Checks(self.key)
        self.client = self._client()

    def _options(self, key: str) -> Details:
        # A retry would hide what is to be found.
        return {"base_url": self.url, "api_key": key, "timeout": self.timeout, "max_retries": 0}

    def _http(self, kind: t.Any, transport: str) -> Details:
        """The HTTP client to give to the SDK; nothing where its own does."""
        if not self.ca_path and not self.connect_to:
            return {}
        verify = ssl.create_default_context(cafile=self.ca_path or None)
        if self.connect_to:
            return {"http_client": kind(transport=directed(kind, transport, self.connect_to)(verify=verify))}
        return {"http_client": kind(verify=verify)}

    def _client(self, key: str | None = None) -> t.Any:
        return openai.OpenAI(**self._options(key or self.key), **self._http(openai.DefaultHttpxClient, "HTTPTransport"))

    def _async_client(self) -> t.Any:
        return openai.AsyncOpenAI(**self._options(self.key), **self._http(openai.DefaultAsyncHttpxClient, "AsyncHTTPTransport"))

    def _request(self, model: str) -> Details:
        prompt = f"Count from one to ten in words. ({secrets.token_hex(4)})"
        return {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": self.max_tokens}

    def run(self) -> Details:
        stop: list[str] = []

        def connect(details: Details) -> str:
            try:
                listed = [model.id for model in self.client.models.list()]
            except Exception as exc:
                stop.append(str(exc))
                raise
            details["listed"] = listed
            declared = [name for model in self.models for name in [model["name"], *model.get("aliases", [])]]
            missing = [name for name in declared if name not in listed]
            extra = [name for name in listed if name not in declared] if self.exact else []
            if missing or extra:
                raise FindingError(
                    "model", f"not listed: {', '.join(missing) or 'none'}; listed but not declared: {', '.join(extra) or 'none'}"
                )
            return f"{len(declared)} names, as declared"

        self.checks.run("models.list", "models", connect)
        if stop:
            self.checks.skip("all other calls", "sdk", "models.list did not answer: " + stop[0])
        else:
            self._chat()
            self._embeddings()
            self._errors()
        return self.checks.document("openai-python " + openai.__version__, self.url)

    def _of_mode(self, mode: str) -> list[str]:
        return [model["name"] for model in self.models if model.get("mode", "chat") == mode]

    def _chat(self) -> None:
        names = self._of_mode("chat")
        if not names:
            self.checks.skip("chat.completions", "chat", "no chat model is declared")
        for name in names:
            self.checks.run(f"chat.completions.create({name})", "chat", self._sync_chat(name))
            self.checks.run(f"chat.completions.create({name}, stream=True)", "stream", self._sync_stream(name))
        if names:
            # One model tells about the asynchronous client; the API is the same.
            self.checks.run(
                f"async chat.completions.create({names[0]})", "async", lambda details: asyncio.run(self._async_chat(names[0], details))
            )
            self.checks.run(f"async {names[0]}, stream=True", "async", lambda details: asyncio.run(self._async_stream(names[0], details)))
            self.checks.run(f"async {names[0]}, {PARALLEL} at once", "async", lambda details: asyncio.run(self._gather(names[0], details)))

    def _sync_chat(self, name: str) -> t.Callable[[Details], str]:
        def check(details: Details) -> str:
            raw = self.client.chat.completions.with_raw_response.create(**self._request(name))
            details.update(model=name, backend=backend_of(raw.headers))
            return spoken(raw.parse(), details)

        return check

    def _sync_stream(self, name: str) -> t.Callable[[Details], str]:
        def check(details: Details) -> str:
            for _attempt in range(STREAM_ATTEMPTS):
                counter = StreamCounter(time.monotonic())
                with self.client.chat.completions.create(**self._request(name), stream=True) as stream:
                    details.update(model=name, backend=backend_of(stream.response.headers))
                    for chunk in stream:
                        counter.add(chunk)
                if counter.chunks >= MIN_CHUNKS:
                    break
            return counter.verdict(details)

        return check

    async def _async_chat(self, name: str, details: Details) -> str:
        async with self._async_client() as client:
            return spoken(await client.chat.completions.create(**self._request(name)), details)

    async def _async_stream(self, name: str, details: Details) -> str:
        async with self._async_client() as client:
            for _attempt in range(STREAM_ATTEMPTS):
                counter = StreamCounter(time.monotonic())
                async for chunk in await client.chat.completions.create(**self._request(name), stream=True):
                    counter.add(chunk)
                if counter.chunks >= MIN_CHUNKS:
                    break
        return counter.verdict(details)

    async def _gather(self, name: str, details: Details) -> str:
        async with self._async_client() as client:
            answers = await asyncio.gather(*[client.chat.completions.create(**self._request(name)) for _number in range(PARALLEL)])
        for answer in answers:
            spoken(answer, {})
        details["answers"] = len(answers)
        return f"{len(answers)} answers"

    def _embeddings(self) -> None:
        names = self._of_mode("embedding")
        if not names:
            self.checks.skip("embeddings.create", "embeddings", "no embedding model is declared")
        for name in names:
            self.checks.run(f"embeddings.create({name})", "embeddings", self._embedding(name))

    def _embedding(self, name: str) -> t.Callable[[Details], str]:
        def check(details: Details) -> str:
            raw = self.client.embeddings.with_raw_response.create(model=name, input=[f"First {secrets.token_hex(4)}", "Second"])
            vectors = [entry.embedding for entry in raw.parse().data]
            details.update(model=name, backend=backend_of(raw.headers), dimensions=len(vectors[0]) if vectors else 0)
            if len(vectors) != 2 or not vectors[0] or len(vectors[0]) != len(vectors[1]) or not any(vectors[0]):
                raise FindingError("backend", f"2 texts gave {len(vectors)} vectors of {[len(vector) for vector in vectors]} numbers")
            return f"2 vectors of {len(vectors[0])} dimensions"

        return check

    def _errors(self) -> None:
        self.checks.run("a wrong key is refused", "errors", self._refusal(self._list_with_wrong_key))
        self.checks.run("a missing key is refused", "errors", self._refusal(self._list_without_key))
        self.checks.run("an unknown model raises NotFoundError or BadRequestError", "errors", self._unknown_model)

    def _list_with_wrong_key(self) -> None:
        self._client("sk-" + secrets.token_hex(24)).models.list()

    def _list_without_key(self) -> None:
        if not hasattr(openai, "Omit"):
            raise SkippedError(f"version {openai.__version__} of the SDK cannot leave the key out")
        self.client.models.list(extra_headers={"Authorization": openai.Omit()})

    def _refusal(self, call: t.Callable[[], None]) -> t.Callable[[Details], str]:
        def check(details: Details) -> str:
            try:
                call()
            except (openai.AuthenticationError, openai.PermissionDeniedError) as exc:
                details.update(error_class=type(exc).__name__, http_status=exc.status_code)
                return type(exc).__name__
            except openai.BadRequestError as exc:
                if not no_database(exc):
                    raise
                details.update(error_class=type(exc).__name__, http_status=exc.status_code)
                return 'BadRequestError "No connected db.", as LiteLLM without a database refuses'
            raise FindingError("auth", "it was let in")

        return check

    def _unknown_model(self, details: Details) -> str:
        try:
            self.client.chat.completions.create(**self._request("no-such-model-" + secrets.token_hex(4)))
        except (openai.NotFoundError, openai.BadRequestError) as exc:
            if no_database(exc):
                raise
            details.update(error_class=type(exc).__name__, http_status=exc.status_code)
            return type(exc).__name__
        raise FindingError("model", "a model that does not exist answered")


class StreamCounter:
    """Reads the chunks of a streamed chat."""

    def __init__(self, started: float) -> None:
        self.started = started
        self.first: float | None = None
        self.chunks = 0
        self.finish_reason: str | None = None

    def add(self, chunk: t.Any) -> None:
        for choice in chunk.choices:
            if text_of(choice.delta):
                self.chunks += 1
                if self.first is None:
                    self.first = time.monotonic() - self.started
            self.finish_reason = choice.finish_reason or self.finish_reason

    def verdict(self, details: Details) -> str:
        details.update(chunks=self.chunks, ttft=None if self.first is None else round(self.first, 4), finish_reason=self.finish_reason)
        if self.chunks < MIN_CHUNKS:
            raise FindingError("protocol", f"the answer came in {self.chunks} pieces")
        if not self.finish_reason:
            raise FindingError("protocol", "the stream ended without a finish_reason")
        return f"first token after {self.first or 0.0:.3f} s, {self.chunks} chunks"


def text_of(message: t.Any) -> str:
    return str(message.content or getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None) or "")


def spoken(completion: t.Any, details: Details) -> str:
    if not completion.choices:
        raise FindingError("protocol", "the answer has no choices")
    tokens = completion.usage.completion_tokens if completion.usage else None
    if not text_of(completion.choices[0].message) and not tokens:
        raise FindingError("backend", "the model answered with nothing")
    details["tokens"] = tokens
    return f"{tokens if tokens is not None else 'some'} tokens"


def backend_of(headers: t.Any) -> str | None:
    return next((headers.get(name) for name in BACKEND_HEADERS if headers.get(name)), None)


def read_settings(text: str, environment: t.Mapping[str, str]) -> Details:
    given: t.Any = json.loads(text.strip() or environment.get("OPENAI_CHECK_MODELS") or "[]")
    if isinstance(given, list):
        given = {"models": given}
    settings = {"max_tokens": 32, "timeout": 120.0, "ca_path": "", "connect_to": "", "expect_exact_models": True}
    settings.update({name: value for name, value in given.items() if value is not None})
    settings.setdefault("url", environment.get("OPENAI_BASE_URL", ""))
    settings.setdefault("api_key", environment.get("OPENAI_API_KEY", ""))
    settings.setdefault("models", json.loads(environment.get("OPENAI_CHECK_MODELS") or "[]"))
    for name, where in (("url", "OPENAI_BASE_URL"), ("api_key", "OPENAI_API_KEY"), ("models", "OPENAI_CHECK_MODELS")):
        if not settings[name]:
            raise ValueError(f"{name} is empty: give it on standard input or as {where}")
    return settings


def main() -> int:
    try:
        settings = read_settings("" if sys.stdin.isatty() else sys.stdin.read(), os.environ)
    except (ValueError, AttributeError) as exc:
        print(f"nothing to check: {exc}", file=sys.stderr)
        return 2
    if SDK_ERROR:
        checks = Checks(settings["api_key"])
        remedy = (
            f"{sys.executable} has no OpenAI SDK ({SDK_ERROR}): install it there with `pip install openai`, or name an interpreter "
            "that has it (llm_verify_python), or do without this client (llm_verify_sdk: false)"
        )
        checks.add("import openai", "sdk", "failed", "protocol", remedy, 0.0, {})
        document = checks.document("openai-python", base_url(settings["url"]))
    else:
        document = Sdk(settings).run()
    print(json.dumps(document, indent=2))
    return 0 if document["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
