#!/usr/bin/env python3
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a service for a command, as the terminal client aiterm does: aiterm_like.py [--settings FILE] [--platform NAME] WORDS

It knows what such clients know and no more: a full URL, a token and a model in a settings file; one request, no stream, 30 seconds; an
answer in choices[0].message.content; and that 401, and nothing else, means a wrong token. It asks nobody and needs no terminal.

--settings -  reads the settings from standard input: the output of `playbooks/clients.yml -e llm_client=aiterm -e llm_client_show_key=true`
Exit code: 0 and the command; 1 the service failed; 2 no usable settings; 3 authentication failed
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

FAILED, NO_SETTINGS, NOT_AUTHENTICATED = 1, 2, 3
PROMPT = "You are a command generator. Write one command for {platform} ({shell}) that does what the user asks for, and nothing else."


class ClientError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def read_settings(text: str) -> dict[str, Any]:
    """The JSON object in it, whatever is around it."""
    start = text.find("{\n")
    try:
        settings, _ = json.JSONDecoder().raw_decode(text[max(start, 0) :])
        missing = [name for name in ("api_endpoint", "api_token", "model") if not settings[name]]
    except (ValueError, KeyError, TypeError) as error:
        raise ClientError(NO_SETTINGS, f"no usable settings: {error}") from None
    if missing:
        raise ClientError(NO_SETTINGS, f"the settings have no {', '.join(missing)}")
    return dict(settings)


def ask(settings: dict[str, Any], platform: str, words: str) -> str:
    payload = {
        "model": settings["model"],
        "messages": [
            {"role": "system", "content": PROMPT.format(platform=platform, shell=settings.get("shell", "auto"))},
            {"role": "user", "content": words},
        ],
        "max_tokens": 200,
        "temperature": 0.1,
    }
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {settings['api_token']}"}
    request = urllib.request.Request(settings["api_endpoint"], json.dumps(payload).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            content = json.load(response)["choices"][0]["message"]["content"]
    except urllib.error.HTTPError as error:
        if error.code == 401:
            raise ClientError(NOT_AUTHENTICATED, "authentication failed: check api_token in the settings") from None
        raise ClientError(FAILED, f"the service answered with HTTP {error.code}") from None
    except OSError as error:
        raise ClientError(FAILED, f"the service cannot be reached: {error}") from None
    except (ValueError, LookupError, TypeError) as error:
        raise ClientError(FAILED, f"the answer is none: {error!r}") from None
    if not isinstance(content, str) or not content.strip():
        raise ClientError(FAILED, "the answer is empty")
    return content.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", default=str(Path.home() / ".aiterm/config.json"))
    parser.add_argument("--platform", choices=["linux", "macos", "windows"], default="linux")
    parser.add_argument("words", nargs="+")
    args = parser.parse_args()
    try:
        try:
            text = sys.stdin.read() if args.settings == "-" else Path(args.settings).read_text(encoding="utf-8")
        except OSError as error:
            raise ClientError(NO_SETTINGS, f"no settings: {error}") from None
        print(ask(read_settings(text), args.platform, " ".join(args.words)))
    except ClientError as error:
        print(f"aiterm-like: {error}", file=sys.stderr)
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
