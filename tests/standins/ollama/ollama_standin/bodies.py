# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading the bodies of requests, with Go's complaints about what is wrong with them."""

from __future__ import annotations

import json
import re
from typing import Any

from ollama_standin.config import DurationError, keep_alive_seconds
from ollama_standin.errors import ApiError

# Fields of a request whose type is checked, and what Go calls the type.
_FIELDS: dict[str, tuple[Any, str]] = {
    "model": (str, "string"),
    "name": (str, "string"),
    "from": (str, "string"),
    "source": (str, "string"),
    "destination": (str, "string"),
    "prompt": (str, "string"),
    "system": (str, "string"),
    "template": (str, "string"),
    "stream": (bool, "bool"),
    "insecure": (bool, "bool"),
    "verbose": (bool, "bool"),
    "raw": (bool, "bool"),
    "truncate": (bool, "bool"),
    "messages": (list, "[]api.Message"),
    "options": (dict, "map[string]interface {}"),
    "parameters": (dict, "map[string]interface {}"),
    "files": (dict, "map[string]string"),
}
_INTEGERS = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_keep", "seed", "num_predict", "top_k", "repeat_last_n")
_FLOATS = ("temperature", "top_p", "min_p", "typical_p", "repeat_penalty", "presence_penalty", "frequency_penalty")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object" if isinstance(value, dict) else "null"


def parse(body: bytes, struct: str) -> dict[str, Any]:
    """The object in the body, whatever its Content-Type says."""
    if not body:
        raise ApiError(400, "missing request body")
    text = body.decode("utf-8", "replace")
    try:
        value, _end = json.JSONDecoder().raw_decode(text.lstrip())
    except json.JSONDecodeError as error:
        raise ApiError(400, _syntax_error(text.lstrip(), error.pos)) from error
    if not isinstance(value, dict):
        raise ApiError(400, f"json: cannot unmarshal {_kind(value)} into Go value of type api.{struct}")
    for name, given in value.items():
        kind, go_name = _FIELDS.get(name, (None, ""))
        if kind and given is not None and not isinstance(given, kind):
            raise ApiError(400, f"json: cannot unmarshal {_kind(given)} into Go struct field {struct}.{name} of type {go_name}")
    return value


def _syntax_error(text: str, position: int) -> str:
    rest = text[position:]
    # Python points at the start of a string or word that does not end.
    if not rest.strip() or re.fullmatch(r'"(?:[^"\\]|\\.)*\\?|[a-z]*', rest):
        return "unexpected EOF"
    character = rest.lstrip()[0]
    before = text[:position].rstrip()[-1:]
    expected = {
        "{": "looking for beginning of object key string",
        ",": "looking for beginning of value",
        ":": "looking for beginning of value",
        "": "looking for beginning of value",
    }
    return f"invalid character '{character}' {expected.get(before, 'after top-level value')}"


def keep_alive(body: dict[str, Any]) -> float | None:
    """Seconds; None if the request does not say."""
    value = body.get("keep_alive")
    if value is None:
        return None
    try:
        return keep_alive_seconds(value)
    except DurationError as error:
        raise ApiError(400, str(error)) from error


def check_options(options: dict[str, Any]) -> dict[str, Any]:
    """Unknown ones pass, wrong types do not."""
    for name, value in options.items():
        if value is None:
            continue
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if name in _INTEGERS and not number:
            raise ApiError(500, f'option "{name}" must be of type integer')
        if name in _FLOATS and not number:
            raise ApiError(500, f'option "{name}" must be of type float32')
        if name == "stop" and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise ApiError(500, 'option "stop" must be of type array')
    return {name: value for name, value in options.items() if value is not None}


def check_format(value: Any) -> Any:
    """None, "json", or a schema."""
    if value in (None, ""):
        return None
    if value != "json" and not isinstance(value, dict):
        quoted = json.dumps(json.dumps(value))
        raise ApiError(500, f'invalid format: {quoted}; expected "json" or a valid JSON Schema object')
    return value
