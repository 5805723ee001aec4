# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A key that may read /metrics and nothing else, for a LiteLLM that has no database to keep such keys in.

The role litellm_proxy installs it beside config.yaml, with the key in the environment. Every other key is passed on: to
custom_auth.py where that is installed too, else to LiteLLM itself.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import secrets
import typing as t
from pathlib import Path

from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.auth.auth_utils import get_request_route

PATHS = ("/metrics", "/metrics/")
# Without it LiteLLM does not start.
KEY = os.environ["LLM_METRICS_KEY"].encode()

Handler = t.Callable[[t.Any, str | None], t.Awaitable[t.Any]]


def handler_in(path: Path) -> Handler | None:
    """The handler of custom authentication, where there is one."""
    if not path.exists():
        return None
    spec = importlib.util.spec_from_file_location("custom_auth", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return t.cast("Handler", module.user_api_key_auth)


OTHERS = handler_in(Path(__file__).with_name("custom_auth.py"))


async def user_api_key_auth(request: t.Any, api_key: str | None) -> t.Any:
    """LiteLLM calls this before anything else. None leaves the key to LiteLLM."""
    if get_request_route(request) in PATHS and secrets.compare_digest((api_key or "").encode(), KEY):
        return UserAPIKeyAuth(api_key=hashlib.sha256(KEY).hexdigest(), allowed_routes=list(PATHS), models=["no-default-models"])
    return await OTHERS(request, api_key) if OTHERS else None
