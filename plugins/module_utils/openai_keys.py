# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks with virtual keys of a LiteLLM gateway that has a database: keys are made for them, used, and always removed."""

from __future__ import annotations

import datetime
import hashlib
import secrets
import time
import typing as t

from ansible_collections.selfhosted.llm.plugins.module_utils.checklist import CheckError, CheckList, SkippedError
from ansible_collections.selfhosted.llm.plugins.module_utils.http import (
    AUTH,
    BACKEND,
    PROTOCOL,
    ApiError,
    Response,
    classify_status,
    error_text,
)
from ansible_collections.selfhosted.llm.plugins.module_utils.openai_client import OpenAIClient

GROUP = "keys"
# Every key made here has this in front of its alias, so that one that a killed run left behind is known.
ALIAS_PREFIX = "selfhosted-llm-check-"
# Should nobody be able to remove them, they end by themselves.
LIFETIME = "15m"
SHORT_LIFE = 2
# LiteLLM compares with its own clock in whole milliseconds.
EXPIRY_MARGIN = 0.3
POLL_SECONDS = 1.0

Details = t.Dict[str, t.Any]
# A small request to the model of that name.
Ask = t.Callable[[OpenAIClient, str], Response]


class KeyPlan:
    """How the gateway keeps its keys and counts its limits."""

    def __init__(
        self, peers: t.Mapping[str, str] | None = None, counters: int = 1, shared_limits: bool = False, record_timeout: float = 90.0
    ) -> None:
        self.peers = dict(peers or {})
        self.counters = counters
        self.shared_limits = shared_limits
        self.record_timeout = record_timeout


class TestKeys:
    """Keys for one run of the checks. A value is chosen here, so that it can be removed even if the answer to making it is lost."""

    __test__ = False  # not for pytest

    def __init__(self, admin: OpenAIClient, hide: t.Callable[[str], None]) -> None:
        self.admin = admin
        self.hide = hide
        self.prefix = f"{ALIAS_PREFIX}{secrets.token_hex(4)}-"
        self.left: list[str] = []

    def _post(self, path: str, payload: Details) -> t.Any:
        return self.admin.management("POST", path, payload)

    def make(self, purpose: str, **limits: t.Any) -> str:
        value = "sk-" + secrets.token_urlsafe(32)
        self.hide(value)
        self.left.append(value)
        self._post("/key/generate", {"key": value, "key_alias": self.prefix + purpose, "duration": LIFETIME, **limits})
        return value

    def block(self, value: str) -> None:
        self._post("/key/block", {"key": value})

    def remove(self, values: t.Sequence[str]) -> None:
        try:
            self._post("/key/delete", {"keys": list(values)})
        except ApiError as exc:
            # None of them is there.
            if exc.status != 404:
                raise
        self.left = [value for value in self.left if value not in values]

    def find(self, prefix: str) -> list[Details]:
        answer = self.admin.management("GET", f"/key/list?return_full_object=true&size=100&substring_matching=true&key_alias={prefix}")
        rows = answer.get("keys") if isinstance(answer, dict) else None
        if not isinstance(rows, list):
            raise ApiError(PROTOCOL, "the answer to /key/list has no keys")
        # Whatever the server made of the question, nothing else is ever touched.
        return [row for row in rows if isinstance(row, dict) and str(row.get("key_alias") or "").startswith(prefix)]

    def remove_stale(self) -> int:
        """Removes expired keys that an earlier run could not; those of a run at the same time are not expired."""
        now = datetime.datetime.now(datetime.timezone.utc)
        stale = [str(row["token"]) for row in self.find(ALIAS_PREFIX) if row.get("token") and _expired(row.get("expires"), now)]
        if stale:
            self.remove(stale)
        return len(stale)


def _expired(text: t.Any, now: datetime.datetime) -> bool:
    try:
        when = datetime.datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return False
    return (when if when.tzinfo else when.replace(tzinfo=datetime.timezone.utc)) < now - datetime.timedelta(minutes=1)


def accepted(response: Response, where: str) -> None:
    if response.status >= 400:
        raise classify_status(response.status, response.text(), where)


def expect_refusal(response: Response, statuses: t.Sequence[int], where: str, word: str = "") -> str:
    """How the gateway refused, or a CheckError that says that it did not."""
    text = error_text(response.text())
    if response.status < 400:
        raise CheckError(AUTH, f"{where} answered {response.status}: it was let in")
    if response.status not in statuses or word not in text.lower():
        wanted = " or ".join(str(status) for status in statuses)
        raise CheckError(
            PROTOCOL, f"{where} answered {response.status} instead of {wanted}{f' with the word {word}' if word else ''}: {text}"
        )
    return f"HTTP {response.status}"


class KeyChecks:
    """All checks of the group. `models` are the public names; the first is the one that `ask` calls."""

    def __init__(
        self,
        checks: CheckList,
        admin: OpenAIClient,
        with_key: t.Callable[[str, str], OpenAIClient],
        ask: Ask,
        models: t.Sequence[str],
        plan: KeyPlan,
    ) -> None:
        self.checks = checks
        self.admin = admin
        self.with_key = with_key
        self.ask = ask
        self.models = models
        self.plan = plan
        self.keys = TestKeys(admin, checks.hide)
        self.here = admin.base_url
        self.key = ""
        self.answers = 0
        self.brief = ""
        self.brief_since = 0.0

    def run(self) -> None:
        try:
            if not self.checks.run("a new key is accepted", GROUP, self._accepted):
                self.checks.skip("other checks with keys", GROUP, "a new key could not be made and used")
                return
            for name in self.plan.peers:
                self.checks.run(f"a new key is accepted by {name}", GROUP, self._accepted_by(name))
            self.checks.run("a model that a key is not for is refused", GROUP, self._other_model)
            self.checks.run("a blocked key is refused", GROUP, self._blocked)
            self.checks.run("a deleted key is refused", GROUP, self._deleted)
            self.checks.run("a rate limit is enforced", GROUP, self._rate_limit)
            self.checks.run("a budget is enforced", GROUP, self._budget)
            self.checks.run("an expired key is refused", GROUP, self._expired)
            self.checks.run("spend is recorded", GROUP, self._spend)
        finally:
            self.checks.run("the keys of these checks are removed", GROUP, self._clean_up)

    def _try(self, key: str, model: str = "") -> Response:
        return self.ask(self.with_key(self.here, key), model or self.models[0])

    def _everywhere(self, key: str, statuses: t.Sequence[int], details: Details) -> str:
        """The refusal of the gateway and of its peers."""
        response = self._try(key)
        details["http_status"] = response.status
        how = expect_refusal(response, statuses, self.here)
        for name, url in self.plan.peers.items():
            expect_refusal(self.ask(self.with_key(url, key), self.models[0]), statuses, name)
        return f"refused with {how}" + (f", also by {', '.join(self.plan.peers)}" if self.plan.peers else "")

    def _accepted(self, details: Details) -> str:
        details["removed_of_earlier_runs"] = self.keys.remove_stale()
        self.key = self.keys.make("accepted", models=[self.models[0]])
        # Made early: its time runs out while the other checks go on.
        self.brief = self.keys.make("brief", duration=f"{SHORT_LIFE}s")
        self.brief_since = time.monotonic()
        response = self._try(self.key)
        accepted(response, self.here)
        self.answers += 1
        return f"{self.models[0]} answered"

    def _accepted_by(self, name: str) -> t.Callable[[Details], str]:
        def check(_details: Details) -> str:
            accepted(self.ask(self.with_key(self.plan.peers[name], self.key), self.models[0]), name)
            self.answers += 1
            return f"{self.models[0]} answered"

        return check

    def _other_model(self, details: Details) -> str:
        key, model = self.key, next((name for name in self.models if name != self.models[0]), "")
        if not model:
            key, model = self.keys.make("elsewhere", models=["no-such-model-" + secrets.token_hex(4)]), self.models[0]
        response = self._try(key, model)
        details["http_status"] = response.status
        return f"{model} refused with {expect_refusal(response, (403, 401), self.here)}"

    # A gateway may remember a key that it has seen for a minute: block and delete are tried with keys that were not used before.

    def _blocked(self, details: Details) -> str:
        key = self.keys.make("blocked")
        self.keys.block(key)
        return self._everywhere(key, (401, 403), details)

    def _deleted(self, details: Details) -> str:
        key = self.keys.make("deleted")
        self.keys.remove([key])
        return self._everywhere(key, (401, 403), details)

    def _expired(self, details: Details) -> str:
        time.sleep(max(0.0, self.brief_since + SHORT_LIFE + EXPIRY_MARGIN - time.monotonic()))
        response = self._try(self.brief)
        details["http_status"] = response.status
        return f"refused with {expect_refusal(response, (401, 403), self.here)}"

    def _rate_limit(self, details: Details) -> str:
        """One request a minute. Processes that count for themselves let one in each, so one more than there are tells."""
        key = self.keys.make("limited", rpm_limit=1)
        statuses: list[int] = []
        details["http_statuses"] = statuses
        for _attempt in range(self.plan.counters + 1):
            response = self._try(key)
            statuses.append(response.status)
            if response.status == 429:
                break
            accepted(response, self.here)
        else:
            raise CheckError(AUTH, f"{len(statuses)} requests in a minute were let in with a limit of 1")
        if len(statuses) == 1:
            raise CheckError(AUTH, f"the first request was refused already, with a limit of 1 a minute: {error_text(response.text())}")
        if self.plan.shared_limits:
            for name, url in self.plan.peers.items():
                expect_refusal(self.ask(self.with_key(url, key), self.models[0]), (429,), f"{name}, which is to share the counters,")
        shared = f", also by {', '.join(self.plan.peers)}" if self.plan.shared_limits and self.plan.peers else ""
        return f"request {len(statuses)} of a minute refused with HTTP 429, limit 1{shared}"

    def _budget(self, details: Details) -> str:
        # A model of one's own costs nothing, so the key starts with its money spent.
        response = self._try(self.keys.make("spent", max_budget=0.5, spend=1.0))
        details["http_status"] = response.status
        return f"refused with {expect_refusal(response, (422, 429, 400), self.here, 'budget')}"

    def _spend(self, details: Details) -> str:
        """The requests that were answered, in the database. Each gateway writes every few seconds."""
        started = time.monotonic()
        day = datetime.timedelta(days=1)
        now = datetime.datetime.now(datetime.timezone.utc)
        query = f"start_date={now - day:%Y-%m-%d}&end_date={now + day:%Y-%m-%d}&api_key={hashlib.sha256(self.key.encode()).hexdigest()}"
        while True:
            answer = self.admin.management("GET", f"/user/daily/activity?{query}")
            metadata = answer.get("metadata") if isinstance(answer, dict) else None
            if not isinstance(metadata, dict):
                raise ApiError(PROTOCOL, "the answer to /user/daily/activity has no metadata")
            waited = time.monotonic() - started
            requests, tokens = metadata.get("total_successful_requests") or 0, metadata.get("total_tokens") or 0
            if requests >= self.answers:
                spend = metadata.get("total_spend") or 0.0
                details.update(requests=requests, tokens=tokens, spend=spend, waited_seconds=round(waited, 2))
                return f"{requests} request{'' if requests == 1 else 's'}, {tokens} tokens, spend {spend:g}"
            if waited >= self.plan.record_timeout:
                raise CheckError(BACKEND, f"after {waited:.0f} s the database has {requests} of {self.answers} requests of this key")
            time.sleep(POLL_SECONDS)

    def _clean_up(self, details: Details) -> str:
        if not self.keys.left:
            raise SkippedError("no key was made")
        details["removed"] = len(self.keys.left)
        try:
            self.keys.remove(self.keys.left)
            still = len(self.keys.find(self.keys.prefix))
        except ApiError as exc:
            raise CheckError(exc.layer, f"they could not be removed, and end in {LIFETIME} by themselves: {exc.message}") from exc
        if still:
            raise CheckError(BACKEND, f"{still} keys with an alias like {self.keys.prefix}… are still there")
        return "none is left"
