# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Custom authentication of LiteLLM: a backend of yours says whether a key is valid, and of which tier.

The role litellm_proxy installs it as custom_auth.py beside config.yaml, with its settings in custom_auth.json and the secret that it
shows the backend in the environment. The guide, with the contract of the backend, is docs/custom-auth.md.

A key gets in only with an answer that is understood to the last word. Whatever else happens is a refusal, in the shape of OpenAI's
errors. A key is held in memory as a hash only, and is written nowhere.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
import os
import re
import secrets
import ssl
import time
import typing as t
from collections import OrderedDict
from pathlib import Path

import httpx2
from litellm import constants
from litellm._logging import verbose_proxy_logger as log
from litellm.proxy import proxy_server
from litellm.proxy._types import LiteLLMRoutes, LitellmUserRoles, ProxyException, UserAPIKeyAuth
from litellm.proxy.auth.auth_utils import get_request_route
from litellm.proxy.auth.user_api_key_auth import enforce_key_and_fallback_model_access
from litellm.proxy.common_utils.http_parsing_utils import populate_request_with_path_params, read_request_body

SETTINGS = Path(__file__).with_name("custom_auth.json")
SECRET = "LLM_AUTH_SECRET"  # noqa: S105 - the name of a variable
# Backends answer with a few hundred bytes.
LONGEST_ANSWER = 65536
# Of the valid and of the invalid keys that a worker remembers: a flood of made-up keys takes no place from the valid ones.
MOST_ENTRIES = 10_000
# What can be a key at all. Anything else is refused without asking.
KEY = re.compile(r"[!-~]{8,512}\Z")
USER = re.compile(r"[ -~]{1,200}\Z")
# The API, and no administration, even where LiteLLM would leave the decision to the endpoint.
ROUTES = ["openai_routes", "anthropic_routes", "/v1/models/*", "/models/*"]
# What LiteLLM and its handlers put in the place of a key: its hash, or the name of somebody who has none.
HASH = re.compile(r"(hashed-jwt-)?[0-9a-f]{64}")
NO_KEYS = frozenset(
    {
        "",
        constants.LITELLM_PROXY_MASTER_KEY_ALIAS,
        constants.LITELLM_INTERNAL_JOBS_SERVICE_ACCOUNT_NAME,
        constants.LITTELM_CLI_SERVICE_ACCOUNT_NAME,
        constants.LITTELM_INTERNAL_HEALTH_SERVICE_ACCOUNT_NAME,
    }
)


class Refusal(ProxyException):  # type: ignore[misc]  # where LiteLLM is not installed it has no type
    """An error as OpenAI's API has it. LiteLLM itself puts the HTTP status where clients look for the code."""

    def __init__(self, status: int, code: str, message: str, kind: str = "invalid_request_error", param: str | None = None) -> None:
        super().__init__(message=message, type=kind, param=param, code=status, openai_code=code)

    def to_dict(self) -> dict[str, t.Any]:
        return {**super().to_dict(), "code": self.openai_code}


def invalid_key() -> Refusal:
    return Refusal(401, "invalid_api_key", "The API key is missing, unknown or expired. Send a valid one as `Authorization: Bearer KEY`.")


def unavailable() -> Refusal:
    message = "The service that checks API keys cannot be reached, so no key is accepted at the moment. Try again in a few seconds."
    return Refusal(503, "auth_unavailable", message, "server_error")


def too_slow(seconds: float) -> Refusal:
    message = f"The service that checks API keys did not answer within {seconds:g} seconds. Try again in a few seconds."
    return Refusal(504, "auth_timeout", message, "server_error")


def no_such_model() -> Refusal:
    # The same for a model that does not exist: nobody learns what others may use.
    return Refusal(
        403, "model_unavailable", "This model is not available with this API key. /v1/models lists those that are.", param="model"
    )


class Tier(t.NamedTuple):
    models: list[str]
    limits: dict[str, int]


class Settings(t.NamedTuple):
    url: str
    secret: str
    ca_bundle: str
    timeout: float
    cache_seconds: float
    negative_cache_seconds: float
    key_prefixes: tuple[str, ...]
    tiers: dict[str, Tier]
    # Models that only keys of the group may use.
    groups: dict[str, list[str]]

    @classmethod
    def load(cls, path: Path, secret: str) -> Settings:
        """Whatever is missing or too much stops LiteLLM at its start, not at the first request."""
        raw = json.loads(path.read_text(encoding="utf-8"))
        tiers = {name: Tier(tier.pop("models"), tier) for name, tier in raw.pop("tiers").items()}
        return cls(secret=secret, tiers=tiers, key_prefixes=tuple(raw.pop("key_prefixes")), **raw)


class Grant(t.NamedTuple):
    """What the backend says of a valid key."""

    tier: str
    user_id: str
    groups: frozenset[str]
    models: frozenset[str] | None
    expires_in: float | None


class AnswerError(ValueError):
    """An answer that is none. Says why, without repeating it: what a broken backend sends may be anybody's secret."""


def _names(answer: dict[str, t.Any], field: str) -> frozenset[str] | None:
    value = answer.get(field)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise AnswerError(f"its {field} is not a list of strings")
    return frozenset(value)


def understand(body: bytes, tiers: t.Container[str]) -> Grant | None:
    """The grant, or None for a key that the backend calls invalid."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise AnswerError("it is not JSON") from None
    if not isinstance(answer, dict) or not isinstance(answer.get("valid"), bool):
        raise AnswerError("it has no field valid that is true or false")
    if not answer["valid"]:
        return None
    tier, user_id, seconds = answer.get("tier"), answer.get("user_id"), answer.get("expires_in")
    if not isinstance(tier, str) or tier not in tiers:
        raise AnswerError("its tier is none of those declared")
    if user_id is not None and not (isinstance(user_id, str) and USER.match(user_id)):
        raise AnswerError("its user_id is not a string of up to 200 printable ASCII characters")
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0):
        raise AnswerError("its expires_in is not a number of seconds")
    return Grant(tier, user_id or "", _names(answer, "groups") or frozenset(), _names(answer, "models"), seconds)


class Backend:
    """The HTTP side: one client, whose connections are kept and reused."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._trusted = ssl.create_default_context(cafile=settings.ca_bundle) if settings.ca_bundle else True
        self._client: httpx2.AsyncClient | None = None

    def _connected(self) -> httpx2.AsyncClient:
        # Made at the first request: connections belong to the event loop that runs then.
        if self._client is None:
            headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "selfhosted-llm-gateway"}
            if self._settings.secret:
                headers["Authorization"] = f"Bearer {self._settings.secret}"
            limits = httpx2.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=30)
            # A redirect would take key and secret to somewhere else. The one deadline is that of ask().
            self._client = httpx2.AsyncClient(headers=headers, verify=self._trusted, limits=limits, timeout=None, follow_redirects=False)
        return self._client

    async def ask(self, key: str) -> Grant | None:
        """Raises Refusal where there is no answer in time, or none that is understood."""
        try:
            return await asyncio.wait_for(self._ask(key), self._settings.timeout)
        except (asyncio.TimeoutError, httpx2.TimeoutException):
            log.warning("custom auth: %s did not answer within %g s", self._settings.url, self._settings.timeout)
            raise too_slow(self._settings.timeout) from None
        except Exception as exc:
            # Also what nobody thought of: LiteLLM would take some kinds of error for an outage of its database.
            log.warning("custom auth: %s gave no answer: %s", self._settings.url, str(exc) or type(exc).__name__)
            raise unavailable() from None

    async def _ask(self, key: str) -> Grant | None:
        try:
            body = await self._post(key)
        except (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError):
            # The backend closed a kept connection at the moment of its use. Asking twice changes nothing there.
            body = await self._post(key)
        return understand(body, self._settings.tiers)

    async def _post(self, key: str) -> bytes:
        async with self._connected().stream("POST", self._settings.url, json={"key": key}) as response:
            if response.status_code != 200:
                # 401 and 403 too: they speak of the gateway's own secret. An invalid key is 200 with {"valid": false}.
                raise AnswerError(f"its HTTP status is {response.status_code}, not 200")
            body = b""
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > LONGEST_ANSWER:
                    raise AnswerError(f"it is longer than {LONGEST_ANSWER} bytes")
            return body


class Cache:
    """Values that end by themselves, the least recently used first where there are too many."""

    def __init__(self, clock: t.Callable[[], float], most: int = MOST_ENTRIES) -> None:
        self._clock = clock
        self._most = most
        self._entries: OrderedDict[bytes, tuple[float, t.Any]] = OrderedDict()

    def get(self, name: bytes) -> t.Any:
        ends, value = self._entries.get(name, (0.0, None))
        if value is None:
            return None
        if self._clock() >= ends:
            del self._entries[name]
            return None
        self._entries.move_to_end(name)
        return value

    def put(self, name: bytes, value: t.Any, ends: float) -> None:
        if self._clock() >= ends:
            return
        self._entries[name] = (ends, value)
        self._entries.move_to_end(name)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)


class Authenticator:
    """Asks the backend as rarely as the settings allow. Errors are not remembered: the next request asks again."""

    def __init__(self, settings: Settings, clock: t.Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._clock = clock
        self._backend = Backend(settings)
        self._valid, self._invalid = Cache(clock), Cache(clock)
        self._asking: dict[bytes, asyncio.Task[Grant | None]] = {}
        self._salt = secrets.token_bytes(32)
        self._restricted = frozenset(model for models in settings.groups.values() for model in models)

    def is_ours(self, key: str) -> bool:
        return key.startswith(self.settings.key_prefixes)

    async def grant(self, key: str) -> Grant:
        """Raises Refusal unless the backend knows the key, or knew it a moment ago."""
        if not KEY.match(key):
            raise invalid_key()
        name = hashlib.blake2b(key.encode(), key=self._salt).digest()
        found = self._valid.get(name)
        if found is None and not self._invalid.get(name):
            asking = self._asking.get(name)
            if asking is None:
                asking = self._asking[name] = asyncio.create_task(self._look_up(key, name))
                asking.add_done_callback(lambda task: task.cancelled() or task.exception())
            # All who wait for the same key share one question, which lives on when one of them hangs up.
            found = await asyncio.shield(asking)
        if found is None:
            raise invalid_key()
        return t.cast("Grant", found)

    async def _look_up(self, key: str, name: bytes) -> Grant | None:
        # From when it was asked: an answer is not newer than the question.
        asked = self._clock()
        try:
            found = await self._backend.ask(key)
            if found is None:
                self._invalid.put(name, True, asked + self.settings.negative_cache_seconds)
            else:
                seconds = self.settings.cache_seconds
                self._valid.put(name, found, asked + (seconds if found.expires_in is None else min(seconds, found.expires_in)))
            return found
        finally:
            del self._asking[name]

    def models(self, grant: Grant) -> list[str]:
        """Those of the tier, without those of groups that the key is not in, and no others than the backend names, where it names some."""
        opened = {model for group in grant.groups for model in self.settings.groups.get(group, [])}
        return [
            model
            for model in self.settings.tiers[grant.tier].models
            if (model not in self._restricted or model in opened) and (grant.models is None or model in grant.models)
        ]

    def identity(self, key: str, grant: Grant) -> UserAPIKeyAuth:
        """What LiteLLM takes limits from. It would log a key that does not begin with sk- as it is, so it gets the hash."""
        return UserAPIKeyAuth(
            api_key=hashlib.sha256(key.encode()).hexdigest(),
            # No user of LiteLLM's own is called so: the backend cannot make somebody an administrator by a name.
            user_id=f"backend:{grant.user_id}" if grant.user_id else None,
            user_role=LitellmUserRoles.INTERNAL_USER,
            # An empty list would be all models.
            models=self.models(grant) or ["no-default-models"],
            allowed_routes=ROUTES,
            metadata={"tier": grant.tier, "groups": sorted(grant.groups)},
            **self.settings.tiers[grant.tier].limits,
        )


async def check_model(identity: UserAPIKeyAuth, request: t.Any) -> None:
    """LiteLLM's own check, once more and first, for its error to have our code."""
    # Without a parsed body LiteLLM refuses the request itself.
    if "parsed_body" not in request.scope:
        return
    # On a twin: the check marks and rewrites what it is given.
    twin = copy.copy(request)
    twin.scope = dict(request.scope)
    body = populate_request_with_path_params(await read_request_body(twin), twin)
    try:
        await enforce_key_and_fallback_model_access(
            valid_token=identity,
            request_data=body,
            route=get_request_route(request),
            request=twin,
            llm_model_list=proxy_server.llm_model_list,
            llm_router=proxy_server.llm_router,
        )
    except ProxyException as exc:
        if exc.code != "403":
            raise
        raise no_such_model() from None


def hash_refused_keys() -> None:
    """LiteLLM hashes what begins with sk- before it logs a failure or counts it; other keys would stand there as they are."""
    original = UserAPIKeyAuth._safe_hash_litellm_api_key

    def hashed(_cls: type, api_key: str) -> str:
        found = str(original(api_key))
        return found if found in NO_KEYS or HASH.fullmatch(found) else hashlib.sha256(found.encode()).hexdigest()

    UserAPIKeyAuth._safe_hash_litellm_api_key = classmethod(hashed)


AUTHENTICATOR = Authenticator(Settings.load(SETTINGS, os.environ.get(SECRET, "")))
hash_refused_keys()


async def user_api_key_auth(request: t.Any, api_key: str | None) -> UserAPIKeyAuth | None:
    """LiteLLM calls this before anything else. None leaves the key to LiteLLM itself: the master key, and with a database virtual keys."""
    key = api_key or ""
    master_key = proxy_server.master_key
    if isinstance(master_key, str) and secrets.compare_digest(key.encode(), master_key.encode()):
        return None
    if not AUTHENTICATOR.is_ours(key):
        if proxy_server.prisma_client is not None or get_request_route(request) in LiteLLMRoutes.public_routes.value:
            return None
        raise invalid_key()
    identity = AUTHENTICATOR.identity(key, await AUTHENTICATOR.grant(key))
    await check_model(identity, request)
    return identity
