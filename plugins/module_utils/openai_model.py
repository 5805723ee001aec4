# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A declared model of an OpenAI-compatible API, and the smallest requests to one."""

from __future__ import annotations

import secrets
import typing as t

from ansible_collections.selfhosted.llm.plugins.module_utils.openai_client import OpenAIClient

# The modes that are called; models of any other are only looked for in the list.
CALLED_MODES = ("chat", "embedding")


class Model:
    """A declared model: its public names, and the deployments that serve it."""

    def __init__(self, spec: dict[str, t.Any]) -> None:
        self.name: str = spec["name"]
        self.mode: str = spec.get("mode") or "chat"
        self.aliases: list[str] = list(spec.get("aliases") or [])
        self.backends: list[str] = list(spec.get("backends") or [])

    @property
    def names(self) -> list[str]:
        return [self.name, *self.aliases]


def long_prompt(number: int | None = None) -> str:
    """A question whose answer is several tokens long. It differs each time, or a response cache would answer it."""
    nonce = secrets.token_hex(4) if number is None else f"{secrets.token_hex(4)} {number}"
    return f"Count from one to ten in words. ({nonce})"


def small_request(model: Model, name: str = "") -> tuple[str, dict[str, t.Any]]:
    """Path and payload of the least that the model can be asked for, by one of its names."""
    # Different each time, or a response cache would answer.
    if model.mode == "embedding":
        return "/embeddings", {"model": name or model.name, "input": ["Hello " + secrets.token_hex(4)]}
    return "/chat/completions", OpenAIClient.chat_payload(name or model.name, "Hello " + secrets.token_hex(4), 1)
