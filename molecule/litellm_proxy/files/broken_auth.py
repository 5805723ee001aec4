"""A handler that only LiteLLM's own interpreter can find wrong."""

from __future__ import annotations

import no_such_module


async def user_api_key_auth(request: object, api_key: str) -> object:
    return no_such_module.look_up(api_key)
