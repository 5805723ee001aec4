# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to put into a client so that it uses the service: texts to copy, from the address and the models that an inventory declares.

Each client is a function of `Service`; its name is what `-e llm_client=` takes.
"""

from __future__ import annotations

import json
import typing as t

# What a shell and most programs read; the value is shown only where it was asked for.
VARIABLE = "LLM_API_KEY"


class ClientError(ValueError):
    """A client that is not known, or a service that it cannot use. The message says what to change."""


class Service(t.NamedTuple):
    """`url` with /v1; `chat` and `embedding` are names of models, `embedding` may be empty; `key` is empty where it is not to be shown."""

    url: str
    chat: str
    embedding: str
    key: str

    @property
    def token(self) -> str:
        """For files, which know no variables."""
        return self.key or f"<the value of {VARIABLE}>"


def _export(service: Service) -> list[str]:
    if service.key:
        return [f"export {VARIABLE}='{service.key}'"]
    return [f"read -rs {VARIABLE} && export {VARIABLE}      # type or paste the key, it is not shown"]


def _curl(service: Service) -> list[str]:
    body = json.dumps({"model": service.chat, "messages": [{"role": "user", "content": "Say hello."}]})
    return [
        *_export(service),
        f'curl {service.url}/chat/completions -H "Authorization: Bearer ${VARIABLE}" \\',
        f"  -H 'Content-Type: application/json' -d '{body}'",
    ]


def _openai_python(service: Service) -> list[str]:
    return [
        *_export(service),
        "pip install openai",
        "",
        "import os",
        "from openai import OpenAI",
        f'client = OpenAI(base_url="{service.url}", api_key=os.environ["{VARIABLE}"])',
        f'answer = client.chat.completions.create(model="{service.chat}", messages=[{{"role": "user", "content": "Say hello."}}])',
        "print(answer.choices[0].message.content)",
    ]


def _openai_javascript(service: Service) -> list[str]:
    return [
        *_export(service),
        "npm install openai",
        "",
        'import OpenAI from "openai";',
        f'const client = new OpenAI({{ baseURL: "{service.url}", apiKey: process.env.{VARIABLE} }});',
        "const answer = await client.chat.completions.create({",
        f'  model: "{service.chat}",',
        '  messages: [{ role: "user", content: "Say hello." }],',
        "});",
        "console.log(answer.choices[0].message.content);",
    ]


def _aiterm(service: Service) -> list[str]:
    settings = {"api_endpoint": f"{service.url}/chat/completions", "api_token": service.token, "model": service.chat, "shell": "auto"}
    return ["~/.aiterm/config.json, readable by you alone (chmod 600):", "", *json.dumps(settings, indent=2).splitlines()]


def _continue(service: Service) -> list[str]:
    key = json.dumps(service.key) if service.key else f"${{{{ secrets.{VARIABLE} }}}}"

    def entry(name: str, roles: str) -> list[str]:
        return [
            f"  - name: {name}",
            "    provider: openai",
            f"    model: {name}",
            f"    apiBase: {service.url}",
            f"    apiKey: {key}",
            f"    roles: [{roles}]",
        ]

    where = "~/.continue/config.yaml" + ("" if service.key else f", and {VARIABLE}=… in ~/.continue/.env")
    lines = [f"{where}:", "", "name: selfhosted.llm", "version: 1.0.0", "schema: v1", "models:", *entry(service.chat, "chat, edit, apply")]
    return lines + (entry(service.embedding, "embed") if service.embedding else [])


def _open_webui(service: Service) -> list[str]:
    return [
        "Environment of an Open WebUI elsewhere:",
        "",
        "ENABLE_OLLAMA_API=false",
        f"OPENAI_API_BASE_URL={service.url}",
        f"OPENAI_API_KEY={service.token}",
    ]


CLIENTS: dict[str, tuple[str, t.Callable[[Service], list[str]]]] = {
    "curl": ("curl", _curl),
    "openai-python": ("OpenAI SDK for Python", _openai_python),
    "openai-javascript": ("OpenAI SDK for JavaScript", _openai_javascript),
    "aiterm": ("aiterm", _aiterm),
    "continue": ("Continue (editors)", _continue),
    "open-webui": ("Open WebUI", _open_webui),
}


def client_settings(url: str, chat: str, embedding: str = "", key: str = "", client: str = "all") -> list[str]:
    """Lines to print. `url` is that of the service, with or without /v1."""
    if not chat:
        raise ClientError(
            "llm_models declares no model to chat with, and every client here chats. Declare one, or name it in llm_client_model"
        )
    if client != "all" and client not in CLIENTS:
        raise ClientError(f"llm_client: {client!r} is not known. Known are: all, {', '.join(CLIENTS)}")
    base = url.rstrip("/")
    service = Service(base if base.endswith("/v1") else f"{base}/v1", chat, embedding, key)
    lines: list[str] = []
    for name, (title, settings) in CLIENTS.items():
        if client in ("all", name):
            lines += [*([""] if lines else []), f"--- {title} ---", "", *settings(service)]
    return lines
