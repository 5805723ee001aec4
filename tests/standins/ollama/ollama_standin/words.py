# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What models say, and how texts become tokens and vectors."""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from functools import lru_cache
from typing import Any

_PIECES = re.compile(r"\s*\S+|\s+$")
_CHARACTERS_PER_TOKEN = 4
_OVERHEAD = 10  # what a chat template adds
_HASHES = 8


def count_tokens(*texts: str) -> int:
    """An estimate, as good as the usual rule of thumb."""
    return sum(max(len(text.split()), -(-len(text) // _CHARACTERS_PER_TOKEN)) for text in texts) + _OVERHEAD


def pieces(text: str) -> list[str]:
    return _PIECES.findall(text)


def reply(model: str, question: str, text: str, length: int) -> list[str]:
    """The pieces of an answer."""
    said = pieces(text or f"This is {model}, a stand-in. You asked: {question[:400]}")
    if not length:
        return said
    repeated = said * -(-length // max(1, len(said)))
    return repeated[:length]


def json_reply(schema: Any) -> list[str]:
    """Valid JSON: an object with what the schema requires."""
    return pieces(json.dumps(example(schema) if isinstance(schema, dict) else {"answer": "stand-in"}))


def example(schema: dict[str, Any]) -> Any:
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if kind == "object":
        return {name: example(part) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [example(schema.get("items", {}))]
    return {"integer": 1, "number": 1.5, "boolean": True, "null": None}.get(kind, "stand-in")


@lru_cache(maxsize=65536)
def _word(word: str, dimension: int) -> tuple[tuple[int, float], ...]:
    numbers = struct.unpack(f"<{_HASHES}I", hashlib.blake2s(word.encode(), digest_size=4 * _HASHES).digest())
    return tuple(((number >> 1) % dimension, 1.0 if number & 1 else -1.0) for number in numbers)


def embed(text: str, dimension: int) -> list[float]:
    """A unit vector; texts that share words are near each other."""
    vector = [0.001] * dimension
    for word in re.findall(r"\w+", text.lower()) or [""]:
        for index, sign in _word(word, dimension):
            vector[index] += sign
    length = math.sqrt(sum(value * value for value in vector))
    return [round(value / length, 8) for value in vector]
