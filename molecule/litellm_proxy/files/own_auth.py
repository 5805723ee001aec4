"""The least that a custom authentication of one's own is."""

from __future__ import annotations

import hashlib

from litellm.proxy._types import ProxyException, UserAPIKeyAuth


async def user_api_key_auth(request: object, api_key: str) -> UserAPIKeyAuth | None:
    if api_key.startswith("sk-molecule-"):
        return None
    if api_key == "own-key-of-this-test":
        return UserAPIKeyAuth(api_key=hashlib.sha256(api_key.encode()).hexdigest(), models=["tiny"])
    raise ProxyException("This key is unknown.", "invalid_request_error", None, 401)
