# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Authentication of a LiteLLM that has no database: the master key, and 401 for all others.

LiteLLM by itself answers a wrong key there with 400 "No connected db.", which no client takes for what it is. It goes beside config.yaml,
which names it: `custom_auth: master_key_auth.user_api_key_auth`, or by the name it is installed under.

The master key itself is left to LiteLLM, which knows it as its administrator: nothing that it may do is lost.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import typing as t

from litellm import constants
from litellm.proxy._types import LiteLLMRoutes, ProxyException, UserAPIKeyAuth
from litellm.proxy.auth.auth_utils import get_request_route

MASTER_KEY = os.environ.get("LITELLM_MASTER_KEY", "").encode()
if not MASTER_KEY:
    raise RuntimeError("LITELLM_MASTER_KEY is not set: without it LiteLLM would let everybody in")
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


class InvalidKey(ProxyException):  # type: ignore[misc]  # where LiteLLM is not installed it has no type
    """OpenAI's error for it. LiteLLM itself puts the HTTP status where clients look for the code."""

    def __init__(self) -> None:
        message = "The API key is missing or not valid. Send a valid one as `Authorization: Bearer KEY`."
        super().__init__(message=message, type="invalid_request_error", param=None, code=401, openai_code="invalid_api_key")

    def to_dict(self) -> dict[str, t.Any]:
        return {**super().to_dict(), "code": self.openai_code}


def hash_refused_keys() -> None:
    """LiteLLM hashes what begins with sk- before it logs a failure or counts it; other keys would stand there as they are."""
    original = UserAPIKeyAuth._safe_hash_litellm_api_key

    def hashed(_cls: type, api_key: str) -> str:
        found = str(original(api_key))
        return found if found in NO_KEYS or HASH.fullmatch(found) else hashlib.sha256(found.encode()).hexdigest()

    UserAPIKeyAuth._safe_hash_litellm_api_key = classmethod(hashed)


hash_refused_keys()


async def user_api_key_auth(request: t.Any, api_key: str | None) -> None:
    """LiteLLM calls this before anything else. None leaves the request to LiteLLM itself."""
    if secrets.compare_digest((api_key or "").encode(), MASTER_KEY) or get_request_route(request) in LiteLLMRoutes.public_routes.value:
        return
    raise InvalidKey
