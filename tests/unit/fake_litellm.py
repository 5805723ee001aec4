# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What LiteLLM's authentication handlers import from it, where it is not installed: each test says which parts it needs."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import types
import typing as t
from pathlib import Path

import pytest


class ProxyException(Exception):  # noqa: N818 - LiteLLM's name
    def __init__(self, message: str, type: str, param: str | None, code: int, openai_code: str | None = None) -> None:  # noqa: A002
        super().__init__(message)
        self.message, self.type, self.param, self.code, self.openai_code = message, type, param, str(code), openai_code

    def to_dict(self) -> dict[str, t.Any]:
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}


class Identity(types.SimpleNamespace):
    """LiteLLM's UserAPIKeyAuth. Handlers change the class, so each test derives its own."""

    @classmethod
    def _safe_hash_litellm_api_key(cls, api_key: str) -> str:
        key = api_key[7:] if api_key[:7].lower() == "bearer " else api_key
        if key.startswith("sk-"):
            return sha256(key)
        return "hashed-jwt-" + sha256(key) if key.count(".") == 2 else key


# How LiteLLM calls those that have no key; two of the constants are spelt so there.
NAMES = {
    "LITELLM_PROXY_MASTER_KEY_ALIAS": "litellm_proxy_master_key",
    "LITELLM_INTERNAL_JOBS_SERVICE_ACCOUNT_NAME": "litellm_internal_jobs",
    "LITTELM_CLI_SERVICE_ACCOUNT_NAME": "litellm-cli",
    "LITTELM_INTERNAL_HEALTH_SERVICE_ACCOUNT_NAME": "litellm-internal-health-check",
}


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# What is to be logged in the place of a key, by handlers that leave none to LiteLLM that it would log as it is.
LOGGED = {
    "sk-wrong": sha256("sk-wrong"),
    "hc-sk-free-000001": sha256("hc-sk-free-000001"),
    "gsk_of-another-service": sha256("gsk_of-another-service"),
    "Bearer gsk_sent-twice": sha256("gsk_sent-twice"),
    "hashed-jwt-or-not": sha256("hashed-jwt-or-not"),
    "head.payload.signature": "hashed-jwt-" + sha256("head.payload.signature"),
    # It passes here more than once: what stands in the place of a key stays comparable.
    sha256("a key"): sha256("a key"),
    "hashed-jwt-" + sha256("a token"): "hashed-jwt-" + sha256("a token"),
    **{name: name for name in ("", *NAMES.values())},
}


def make_module(name: str, **content: t.Any) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(content)
    return module


def install(monkeypatch: pytest.MonkeyPatch, modules: t.Iterable[types.ModuleType]) -> None:
    """Until the end of the test they can be imported."""
    for module in modules:
        monkeypatch.setitem(sys.modules, module.__name__, module)


def load_file(name: str, path: Path) -> t.Any:
    """A file as LiteLLM loads it: without an entry in sys.modules."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
