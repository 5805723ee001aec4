# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that is checked of an OpenAI-compatible API, in order."""

from __future__ import annotations

import secrets
import typing as t

from ansible_collections.selfhosted.llm.plugins.module_utils.checklist import CheckError, CheckList
from ansible_collections.selfhosted.llm.plugins.module_utils.http import AUTH, BACKEND, MODEL, PROTOCOL, ApiError, Response, error_text
from ansible_collections.selfhosted.llm.plugins.module_utils.openai_auth import AuthChecks, AuthPlan, compare_models
from ansible_collections.selfhosted.llm.plugins.module_utils.openai_client import Answer, OpenAIClient, api_base, is_missing_database
from ansible_collections.selfhosted.llm.plugins.module_utils.openai_keys import KeyChecks, KeyPlan
from ansible_collections.selfhosted.llm.plugins.module_utils.openai_load_checks import LoadChecks, LoadPlan
from ansible_collections.selfhosted.llm.plugins.module_utils.openai_model import CALLED_MODES, Model, long_prompt, small_request

GROUPS = ["models", "auth", "unknown_model", "chat", "stream", "embeddings", "keys", "load"]
# What makes no backend work: this is all that check mode does.
FREE_GROUPS = ["models", "auth", "unknown_model"]
# A stream of an answer this long that comes in one piece was collected on the way.
MIN_CHUNKS = 2
# So was one of several pieces that took this long, and nearly all of it until its first piece: a model needs time for the others, too. Of a
# faster one nothing can be said, and nobody would notice.
SLOW_STREAM, LATE_CHUNKS, ALL_AT_ONCE = 0.5, 5, 0.01
# Seconds that are too many for pieces that were there already, however long the first one took.
NOT_AT_ONCE = 0.02
# A model that says one word now and then, or that must first be loaded, is asked again.
STREAM_ATTEMPTS = 3


class Plan:
    """What to check, and how hard."""

    def __init__(
        self,
        models: list[Model],
        groups: t.Sequence[str] = tuple(GROUPS),
        exact: bool = True,
        max_tokens: int = 32,
        load: LoadPlan | None = None,
        min_share: float = 0.25,
        free_only: bool = False,
        auth: AuthPlan | None = None,
        keys: KeyPlan | None = None,
    ) -> None:
        self.models = models
        self.groups = groups
        self.exact = exact
        self.max_tokens = max_tokens
        self.load = load or LoadPlan()
        self.min_share = min_share
        self.free_only = free_only
        self.auth = auth or AuthPlan()
        # None: the API has no virtual keys.
        self.keys = keys


class Checker:
    """Runs a plan against one API."""

    def __init__(
        self,
        url: str,
        api_key: str | None,
        plan: Plan,
        ca_path: str | None = None,
        timeout: float = 60.0,
        validate_certs: bool = True,
        connect_to: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.plan = plan
        self.api_key = api_key

        def at(where: str, key: str | None) -> OpenAIClient:
            same = api_base(where) == api_base(url)
            return OpenAIClient(where, key, ca_path, timeout, validate_certs, connect_to if same else None, headers if same else None)

        self._at = at
        self.client = at(url, api_key)
        self.checks = CheckList(hide=[api_key or "", *plan.auth.keys, *(headers or {}).values()])
        self.listed: list[str] = []
        self.loads: list[dict[str, t.Any]] = []

    def run(self) -> dict[str, t.Any]:
        unreachable, key_problem = self._connect()
        for group in GROUPS:
            if group not in self.plan.groups or (group == "keys" and not self.plan.keys):
                continue
            if unreachable:
                self.checks.skip(group, group, "the API cannot be reached: " + unreachable)
            elif key_problem and group != "auth":
                self.checks.skip(group, group, "the API does not take the key: " + key_problem)
            elif self.plan.free_only and group not in FREE_GROUPS:
                self.checks.skip(group, group, f"check mode makes no {'keys' if group == 'keys' else 'backend work'}")
            else:
                getattr(self, "_" + group)()
        counts = self.checks.counts()
        return {
            "client": "openai_api_check",
            "url": self.client.base_url,
            "server_version": self.client.server_version,
            "listed_models": self.listed,
            "ok": counts["failed"] == 0 and counts["passed"] > 0,
            "counts": counts,
            "checks": self.checks.checks,
            "load": self.loads,
        }

    def _connect(self) -> tuple[str | None, str | None]:
        """The first call. Returns why nothing more can be tried, and why nothing can be tried with this key."""
        stop: dict[str, str] = {}

        def check(details: dict[str, t.Any]) -> str:
            try:
                self.listed = self.client.models()
            except ApiError as exc:
                # Without a status there was no answer at all.
                stop["unreachable" if exc.status is None else "key" if exc.layer == AUTH else "other"] = exc.message
                raise
            details["models"] = len(self.listed)
            return f"answers with {len(self.listed)} models"

        self.checks.run(f"answers at {self.client.base_url}", "connection", check)
        return stop.get("unreachable"), stop.get("key")

    def _models(self) -> None:
        def check(details: dict[str, t.Any]) -> str:
            declared = [name for model in self.plan.models for name in model.names]
            details.update(declared=declared, listed=self.listed)
            problems = compare_models(declared, self.listed, self.plan.exact)
            if problems:
                raise CheckError(MODEL, "; ".join(problems))
            return f"{len(declared)} names, as declared"

        self.checks.run("model list equals the declaration" if self.plan.exact else "model list holds the declaration", "models", check)
        for model in self.plan.models:
            if model.mode not in CALLED_MODES:
                self.checks.skip(f"answer of {model.name}", "models", f"models of mode {model.mode} are only looked for in the list")

    def _auth(self) -> None:
        if not self.api_key:
            for kind in ("wrong", "missing"):
                self.checks.skip(f"{kind} key is refused", "auth", "no api_key is given: the API is meant to be open")
            return

        def with_key(key: str | None) -> OpenAIClient:
            return self._at(self.client.base_url, key)

        AuthChecks(self.checks, with_key, self.plan.models, self.plan.auth, self.plan.free_only).run()

    def _unknown_model(self) -> None:
        def check(details: dict[str, t.Any]) -> str:
            name = "no-such-model-" + secrets.token_hex(4)
            response = self.client.raw("POST", "/chat/completions", self.client.chat_payload(name, "Hello", 1))
            details["http_status"] = response.status
            text = error_text(response.text())
            if is_missing_database(response.status, response.text()) or response.status in (401, 403):
                raise CheckError(AUTH, f"the key was refused ({response.status}): {text}")
            if response.status < 300:
                raise CheckError(MODEL, f"a model that does not exist answered with {response.status}")
            if response.status not in (400, 404):
                raise CheckError(PROTOCOL, f"answered {response.status} instead of 400 or 404: {text}")
            return f"refused with HTTP {response.status}"

        self.checks.run("unknown model is refused", "unknown_model", check)

    def _of_mode(self, mode: str) -> list[Model]:
        return [model for model in self.plan.models if model.mode == mode]

    def _chat(self) -> None:
        if not self._of_mode("chat"):
            self.checks.skip("chat", "chat", "no chat model is declared")
        for model in self._of_mode("chat"):
            for name in model.names:
                self.checks.run(f"chat with {name}", "chat", self._chat_check(model, name))

    def _chat_check(self, model: Model, name: str) -> t.Callable[[dict[str, t.Any]], str]:
        def check(details: dict[str, t.Any]) -> str:
            answer = self.client.chat(name, long_prompt(), self.plan.max_tokens)
            details.update(model=name, backend=answer.backend, tokens=answer.tokens, seconds=round(answer.seconds, 4))
            _known_backend(model, answer)
            return f"{answer.tokens if answer.tokens is not None else 'some'} tokens{_from(answer)}"

        return check

    def _stream(self) -> None:
        if not self._of_mode("chat"):
            self.checks.skip("streamed chat", "stream", "no chat model is declared")
        for model in self._of_mode("chat"):
            self.checks.run(f"streamed chat with {model.name}", "stream", self._stream_check(model))

    def _stream_check(self, model: Model) -> t.Callable[[dict[str, t.Any]], str]:
        def check(details: dict[str, t.Any]) -> str:
            for _attempt in range(STREAM_ATTEMPTS):
                answer = self.client.stream_chat(model.name, long_prompt(), self.plan.max_tokens)
                if answer.chunks >= MIN_CHUNKS and not _all_at_once(answer):
                    break
            details.update(model=model.name, backend=answer.backend, chunks=answer.chunks, seconds=round(answer.seconds, 4))
            details.update(ttft=None if answer.ttft is None else round(answer.ttft, 4), finish_reason=answer.finish_reason)
            if answer.chunks < MIN_CHUNKS:
                raise CheckError(
                    PROTOCOL, f"the answer came in {answer.chunks} piece: something on the way collects it, or the model said nothing"
                )
            if _all_at_once(answer):
                raise CheckError(
                    PROTOCOL,
                    f"all {answer.chunks} pieces came at once after {answer.ttft:.1f} s, {STREAM_ATTEMPTS} times: "
                    "something on the way collects them, such as a proxy that buffers",
                )
            if not answer.finish_reason:
                raise CheckError(PROTOCOL, "the stream ended with [DONE] but without a finish_reason: the answer may be cut")
            _known_backend(model, answer)
            return f"first token after {answer.ttft or 0.0:.3f} s, {answer.chunks} chunks, [DONE]{_from(answer)}"

        return check

    def _embeddings(self) -> None:
        if not self._of_mode("embedding"):
            self.checks.skip("embeddings", "embeddings", "no embedding model is declared")
        for model in self._of_mode("embedding"):
            for name in model.names:
                self.checks.run(f"embeddings by {name}", "embeddings", self._embed_check(model, name))

    def _embed_check(self, model: Model, name: str) -> t.Callable[[dict[str, t.Any]], str]:
        def check(details: dict[str, t.Any]) -> str:
            answer = self.client.embed(name, [long_prompt(), "A second text."])
            details.update(model=name, backend=answer.backend, dimensions=len(answer.vectors[0]), seconds=round(answer.seconds, 4))
            _known_backend(model, answer)
            return f"2 vectors of {len(answer.vectors[0])} dimensions{_from(answer)}"

        return check

    def _keys(self) -> None:
        called = [model for model in self.plan.models if model.mode in CALLED_MODES]
        if not called or not self.api_key or not self.plan.keys:
            self.checks.skip(
                "keys", "keys", "no api_key is given to make keys with" if called else "no chat or embedding model is declared"
            )
            return
        by_name = {name: model for model in called for name in model.names}

        def ask(client: OpenAIClient, name: str) -> Response:
            path, payload = small_request(by_name[name], name)
            return client.raw("POST", path, payload)

        # Names, not aliases: a key for a model may be one for its aliases as well.
        KeyChecks(self.checks, self.client, self._at, ask, [model.name for model in called], self.plan.keys).run()

    def _load(self) -> None:
        load = self.plan.load
        if load.requests == 0:
            self.checks.skip("load", "load", "load.requests is 0: no load is wanted")
            return
        if load.models:
            chosen = [model for model in self.plan.models if model.name in load.models]
        else:
            chosen = [model for model in self.plan.models if len(model.backends) > 1 and model.mode in CALLED_MODES]
        if not chosen:
            self.checks.skip("load", "load", "no declared model has two or more backends")
        for model in chosen:
            numbers = LoadChecks(self.checks, model, load, self.plan.min_share, self._loaded(model)).run()
            self.loads += [numbers] if numbers else []

    def _loaded(self, model: Model) -> t.Callable[[int], Answer]:
        """A request of the load."""
        if model.mode == "embedding":
            return lambda number: self.client.embed(model.name, [long_prompt(number)])
        return lambda number: self.client.stream_chat(model.name, long_prompt(number), self.plan.max_tokens)


def _all_at_once(answer: Answer) -> bool:
    if answer.ttft is None or answer.chunks < LATE_CHUNKS or answer.seconds < SLOW_STREAM:
        return False
    return answer.seconds - answer.ttft < min(NOT_AT_ONCE, ALL_AT_ONCE * answer.seconds)


def _known_backend(model: Model, answer: Answer) -> None:
    if model.backends and answer.backend and answer.backend not in model.backends:
        raise CheckError(BACKEND, f"{answer.backend} answered, which is not declared for {model.name} ({', '.join(model.backends)})")


def _from(answer: Answer) -> str:
    return f", from {answer.backend}" if answer.backend else ""
