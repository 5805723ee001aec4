# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the commands print."""

from __future__ import annotations

import re
import sys
import time
from datetime import datetime, timezone
from typing import Any

from ollama_standin.client import Client, ClientError
from ollama_standin.config import from_environment

# What Ollama's spinner writes when there is no terminal.
_SPINNER = "\x1b[?25l\x1b[?2026h\x1b[?25l\x1b[1G\x1b[K\x1b[?25h\x1b[?2026l\x1b[2K\x1b[1G\x1b[?25h"
_BAR = 18
_PADDING = " " * 25


def _client() -> Client:
    return Client(from_environment())


def _table(header: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    cells = [name.ljust(width) for name, width in zip(header, widths)]
    print("    ".join(cells) + " ")
    for row in rows:
        print("".join(cell.ljust(width) + "    " for cell, width in zip(row, widths)))


def _size(number: int) -> str:
    for limit, unit in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB")):
        if number >= limit:
            value = number / limit
            return f"{value:.1f} {unit}" if value < 10 and value % 1 else f"{int(value)} {unit}"
    return f"{number} B"


def _seconds_from_now(stamp: str) -> float:
    text = re.sub(r"(\.\d{6})\d*Z$|(\.\d+)?Z$", lambda match: match.group(1) or "", stamp)
    form = "%Y-%m-%dT%H:%M:%S.%f" if "." in text else "%Y-%m-%dT%H:%M:%S"
    moment = datetime.strptime(text, form).replace(tzinfo=timezone.utc)
    return moment.timestamp() - time.time()


def _about(seconds: float) -> str:
    """How long, in words."""
    for limit, size, unit in (
        (60, 1, "second"),
        (3600, 60, "minute"),
        (86400, 3600, "hour"),
        (604800, 86400, "day"),
        (1e99, 604800, "week"),
    ):
        if seconds < limit:
            number = int(seconds / size)
            return "Less than a second" if number == 0 else f"About a {unit}" if number == 1 and unit != "second" else f"{number} {unit}s"
    return ""


def _until(seconds: float) -> str:
    if seconds > 100 * 365 * 86400:
        return "Forever"
    return f"{_about(seconds)} from now" if seconds > 0 else "Stopping..."


def _processor(model: dict[str, Any]) -> str:
    size, vram = model["size"], model["size_vram"]
    if not vram:
        return "100% CPU"
    if vram >= size:
        return "100% GPU"
    cpu = round((size - vram) / size * 100)
    return f"{cpu}%/{100 - cpu}% CPU/GPU"


def list_models(arguments: list[str]) -> int:
    prefix = arguments[0].lower() if arguments else ""
    models = [model for model in _client().get("/api/tags")["models"] if model["name"].lower().startswith(prefix)]
    rows = [
        [model["name"], model["digest"][:12], _size(model["size"]), _about(-_seconds_from_now(model["modified_at"])) + " ago"]
        for model in models
    ]
    _table(["NAME", "ID", "SIZE", "MODIFIED"], rows)
    return 0


def list_running(_arguments: list[str]) -> int:
    rows = [
        [
            model["name"],
            model["digest"][:12],
            _size(model["size"]),
            _processor(model),
            str(model["context_length"]),
            _until(_seconds_from_now(model["expires_at"])),
        ]
        for model in _client().get("/api/ps")["models"]
    ]
    _table(["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"], rows)
    return 0


def _required(arguments: list[str], number: int = 1) -> list[str]:
    given = [argument for argument in arguments if not argument.startswith("-")]
    if len(given) < number:
        raise ClientError(f"requires at least {number} arg(s), only received {len(given)}")
    return given


def show(arguments: list[str]) -> int:
    (shown,) = _client().post("/api/show", {"model": _required(arguments)[0]})
    for flag, field in (
        ("--modelfile", "modelfile"),
        ("--parameters", "parameters"),
        ("--template", "template"),
        ("--system", "system"),
        ("--license", "license"),
    ):
        if flag in arguments:
            print(shown.get(field, ""))
            return 0
    info, details = shown["model_info"], shown["details"]
    architecture = info["general.architecture"]
    rows = [
        ["architecture", architecture],
        ["parameters", details["parameter_size"]],
        ["context length", str(info.get(f"{architecture}.context_length", ""))],
        ["embedding length", str(info.get(f"{architecture}.embedding_length", ""))],
        ["quantization", details["quantization_level"]],
    ]
    _section("Model", rows)
    _section("Capabilities", [[name] for name in shown["capabilities"]])
    if shown.get("parameters"):
        _section("Parameters", [line.split(None, 1) for line in shown["parameters"].splitlines()])
    return 0


def _section(title: str, rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print(f"  {title}")
    for row in rows:
        print("    " + "".join(cell.ljust(width) + "    " for cell, width in zip(row, widths)))
    print()


def pull(arguments: list[str]) -> int:
    name = _required(arguments)[0]
    shown: list[str] = []
    client = _client()
    client.get("/api/version")
    try:
        for event in client.lines("POST", "/api/pull", {"model": name, "insecure": "--insecure" in arguments}):
            line = event["status"] + " "
            if event.get("digest"):
                share = event.get("completed", 0) / max(1, event["total"])
                bar = ("█" * int(share * _BAR)).ljust(_BAR)
                line = f"{event['status']}: {int(share * 100):3d}% ▕{bar}▏ {_size(event['total']):>6}{_PADDING}"
            if shown and shown[-1].split(":")[0] == line.split(":")[0]:
                shown[-1] = line
            else:
                shown.append(line)
    finally:
        sys.stderr.write("\x1b[?2026h\x1b[?25l\x1b[1G" + "\x1b[K\n".join(shown) + "\x1b[K\x1b[?25h\x1b[?2026l\n")
    return 0


def remove(arguments: list[str]) -> int:
    client = _client()
    for name in _required(arguments):
        client.get("/api/version")
        sys.stderr.write(_SPINNER)
        list(client.lines("DELETE", "/api/delete", {"model": name}))
        print(f"deleted '{name}'")
    return 0


def copy(arguments: list[str]) -> int:
    source, destination = _required(arguments, 2)[:2]
    _client().post("/api/copy", {"source": source, "destination": destination})
    print(f"copied '{source}' to '{destination}'")
    return 0


def stop(arguments: list[str]) -> int:
    name = _required(arguments)[0]
    client = _client()
    client.get("/api/version")
    sys.stderr.write(_SPINNER)
    try:
        client.post("/api/generate", {"model": name, "keep_alive": 0})
    except ClientError as error:
        raise ClientError(f'couldn\'t find model "{name}" to stop') from error
    return 0


def run(arguments: list[str]) -> int:
    name, *prompt = _required(arguments)
    client = _client()
    client.post("/api/show", {"model": name})
    for event in client.lines("POST", "/api/generate", {"model": name, "prompt": " ".join(prompt)}):
        print(event["response"], end="", flush=True)
    print()
    return 0
