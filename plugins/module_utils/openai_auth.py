# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gets in: checks with keys that must be refused, and with keys that must be accepted."""

from __future__ import annotations

import json
import secrets
import typing as t

from ansible_collections.selfhosted.llm.plugins.module_utils.checklist import CheckError, CheckList, SkippedError
from ansible_collections.selfhosted.llm.plugins.module_utils.http import AUTH, MODEL, PROTOCOL, classify_status, error_text
from ansible_collections.selfhosted.llm.plugins.module_utils.openai_client import OpenAIClient, is_missing_database
from ansible_collections.selfhosted.llm.plugins.module_utils.openai_model import CALLED_MODES, Model, small_request

GROUP = "auth"
Details = t.Dict[str, t.Any]


class AcceptedKey(t.NamedTuple):
    """A key that must be accepted. `models` are all that it may use; None: whatever is declared."""

    key: str
    models: t.Sequence[str] | None = None


class AuthPlan:
    """The keys to try beside a wrong and a missing one."""

    def __init__(self, refused: t.Sequence[str] = (), refused_code: str = "", accepted: t.Sequence[AcceptedKey] = ()) -> None:
        self.refused = refused
        self.refused_code = refused_code
        self.accepted = accepted

    @property
    def keys(self) -> list[str]:
        return [*self.refused, *(accepted.key for accepted in self.accepted)]


def compare_models(declared: t.Sequence[str], listed: t.Sequence[str], exact: bool) -> list[str]:
    """How the listed models differ from the declared ones, in words."""
    problems = []
    missing = [name for name in declared if name not in listed]
    extra = [name for name in listed if name not in declared]
    if missing:
        problems.append(f"not listed: {', '.join(missing)}")
    if extra and exact:
        problems.append(f"listed but not declared: {', '.join(extra)}")
    return problems


def refused(status: int, body: str) -> str | None:
    """How the API refused the caller, or None if it did not."""
    if status in (401, 403):
        return f"HTTP {status}"
    if is_missing_database(status, body):
        return 'HTTP 400 "No connected db." (LiteLLM without a database)'
    return None


def error_code(body: str) -> str:
    """The code in OpenAI's {"error": {"code": …}}, or nothing."""
    try:
        error = json.loads(body).get("error")
    except (ValueError, AttributeError):
        return ""
    return str(error.get("code") or "") if isinstance(error, dict) else ""


class AuthChecks:
    """All checks of the group. `with_key` makes a client of the same API with another key."""

    def __init__(
        self,
        checks: CheckList,
        with_key: t.Callable[[str | None], OpenAIClient],
        models: t.Sequence[Model],
        plan: AuthPlan,
        free_only: bool,
    ) -> None:
        self.checks = checks
        self.with_key = with_key
        self.models = models
        self.plan = plan
        self.free_only = free_only

    def run(self) -> None:
        self._refusal("wrong key is refused", "sk-" + secrets.token_hex(24))
        self._refusal("missing key is refused", None)
        kind = "invalid test key" if self.plan.refused_code else "old key"
        for number, key in enumerate(self.plan.refused, 1):
            self._refusal(f"{_numbered(kind, number, self.plan.refused)} is refused", key, self.plan.refused_code)
        for number, accepted in enumerate(self.plan.accepted, 1):
            self._acceptance(_numbered("test key", number, self.plan.accepted), accepted)

    def _refusal(self, name: str, key: str | None, code: str = "") -> None:
        model = self.models[0]

        def check(details: Details) -> str:
            client = self.with_key(key)
            path, payload = small_request(model)
            how = []
            for method, where, body in (("GET", "/models", None), ("POST", path, payload)):
                response = client.raw(method, where, body)
                details[where] = response.status
                refusal = refused(response.status, response.text())
                if response.status < 300:
                    raise CheckError(AUTH, f"{method} {where} answered {response.status}: anyone gets in")
                if not refusal or (code and response.status != 401):
                    wanted = "401" if code else "401 or 403"
                    text = f"{method} {where} answered {response.status} instead of {wanted}: {error_text(response.text())}"
                    raise CheckError(AUTH, text)
                if code and error_code(response.text()) != code:
                    found = error_code(response.text()) or "none"
                    raise CheckError(PROTOCOL, f"{method} {where} was refused with the code {found} instead of {code}")
                how.append(refusal + (f", code {code}" if code else ""))
            return f"refused with {how[-1]}"

        self.checks.run(name, GROUP, check)

    def _acceptance(self, who: str, accepted: AcceptedKey) -> None:
        client = self.with_key(accepted.key)
        by_name = {name: model for model in self.models for name in model.names}
        declared = list(by_name) if accepted.models is None else list(accepted.models)
        called = [name for name in declared if name in by_name and by_name[name].mode in CALLED_MODES]
        others = [name for name in by_name if name not in declared and by_name[name].mode in CALLED_MODES]

        def lists(details: Details) -> str:
            listed = client.models()
            details.update(declared=declared, listed=listed)
            problems = compare_models(declared, listed, True)
            if problems:
                raise CheckError(MODEL, "; ".join(problems))
            return f"{len(declared)} names, as declared"

        def answers(_details: Details) -> str:
            if self.free_only:
                raise SkippedError("check mode makes no backend work")
            if not called:
                raise SkippedError("none of its models is a declared chat or embedding model")
            path, payload = small_request(by_name[called[0]], called[0])
            response = client.raw("POST", path, payload)
            if response.status >= 400:
                raise classify_status(response.status, response.text(), client.base_url + path)
            return f"{called[0]} answered"

        def refuses(details: Details) -> str:
            if not others:
                raise SkippedError("it may use every model that can be called")
            path, payload = small_request(by_name[others[0]], others[0])
            response = client.raw("POST", path, payload)
            details.update(model=others[0], http_status=response.status)
            if response.status < 400:
                raise CheckError(AUTH, f"{others[0]} answered {response.status}: it was let in")
            if response.status not in (401, 403, 404):
                text = error_text(response.text())
                raise CheckError(PROTOCOL, f"{others[0]} answered {response.status} instead of 401, 403 or 404: {text}")
            return f"{others[0]} refused with HTTP {response.status}"

        if self.checks.run(f"{who} is accepted and sees its models", GROUP, lists):
            self.checks.run(f"{who} gets answers", GROUP, answers)
            self.checks.run(f"{who} gets no other model", GROUP, refuses)


def _numbered(kind: str, number: int, of: t.Sequence[t.Any]) -> str:
    return kind if len(of) == 1 else f"{kind} {number}"
