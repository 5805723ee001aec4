# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hold an answer against a recorded one: status, headers, framing, structure and texts, but not what differs each time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launch import Answer

RECORDINGS = Path(__file__).resolve().parent / "recordings"

# Values that differ each time: their type is compared.
_FREE = {"content", "response", "text", "created_at", "modified_at", "id", "digest", "embedding"}
# Numbers that are the same each time; of others only the type is compared.
_FIXED = {"context_length", "embedding_length", "size_vram", "index", "code", "completion_tokens"}
_FIXED_MAPS = {"model_info", "tensors"}
_FRAMING = {"date", "connection", "content-length", "transfer-encoding"}
_FAR = 2300
_WORD = re.compile(r"\{word\*(\d+)\}")
_SCRUB = [
    (re.compile(r"sha256([:-])[0-9a-f]{64}"), r"sha256\1DIGEST"),
    (re.compile(r"pulling [0-9a-f]{12}"), "pulling DIGEST"),
    (re.compile(r"lookup (\S+) on \S+"), r"lookup \1 on NAMESERVER"),
]
_NUMBER = re.compile(r"\b\d{3,}\b")


def load(group: str) -> list[dict[str, Any]]:
    """The recordings of a group, in the order in which they were made."""
    text = (RECORDINGS / f"{group}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def request_body(text: str) -> str:
    """A recorded body; long runs of a word are written short."""
    return _WORD.sub(lambda match: " ".join(["word"] * int(match.group(1))), text)


def differences(recorded: dict[str, Any], answer: Answer, models: str) -> list[str]:
    """What is wrong with an answer; nothing if it is as recorded."""
    if "error" in recorded:
        return (
            [] if answer.error == recorded["error"] else [f"error: recorded {recorded['error']!r}, got {answer.error!r} ({answer.status})"]
        )
    if answer.error:
        return [f"no answer: {answer.error}"]
    found = []
    if answer.status != recorded["status"]:
        found.append(f"status: recorded {recorded['status']}, got {answer.status}: {answer.body[:300]!r}")
    found += _headers(recorded, answer)
    # Go chunks what is longer than 2 KiB, and an answer near that may be a little longer or shorter here.
    if not recorded.get("long") and answer.end != recorded.get("end", "content-length"):
        found.append(f"end: recorded {recorded.get('end', 'content-length')}, got {answer.end}")
    if answer.body and answer.end != "client-closed" and answer.body.endswith(b"\n") != recorded.get("newline", True):
        found.append("newline at the end of the body")
    return found + _lines(recorded.get("lines", []), [line.replace(models, "/models") for line in answer.lines])


def _headers(recorded: dict[str, Any], answer: Answer) -> list[str]:
    def kept(headers: Any) -> list[tuple[str, str]]:
        return sorted((name, value) for name, value in headers if name.lower() not in _FRAMING)

    want, got = kept(recorded["headers"]), kept(answer.headers)
    return [f"headers: recorded {want}, got {got}"] if want != got else []


def _value(line: str) -> Any:
    text = line.removeprefix("data: ")
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _lines(want: list[str], got: list[str]) -> list[str]:
    """Line by line; where more than one of a kind follow each other, their number is free."""
    wanted, gotten = list(_runs(want)), list(_runs(got))
    if len(wanted) != len(gotten):
        return [f"lines: recorded {[_value(run[0]) for run in wanted]}, got {[_value(run[0]) for run in gotten]}"]
    found = []
    for first, second in zip(wanted, gotten):
        if first[0].startswith("data: ") != second[0].startswith("data: "):
            found.append(f"line: recorded {first[0]}, got {second[0]}")
        # The last of a run may be the one that counts (a first chunk of a stream has another structure anyway).
        for number in (0, -1):
            found += compare(_value(first[number]), _value(second[number]))
    return found


def _runs(lines: list[str]) -> Iterator[list[str]]:
    run: list[str] = []
    for line in lines:
        if run and _kind(_value(run[-1])) != _kind(_value(line)):
            yield run
            run = []
        run.append(line)
    if run:
        yield run


def _kind(value: Any) -> Any:
    """What makes two lines of a stream the same: their keys, and the texts that do not vary."""
    if isinstance(value, dict):
        return [(key, None if key in _FREE else _kind(part)) for key, part in value.items()]
    if isinstance(value, str):
        return scrub(value)
    return type(value).__name__ if not isinstance(value, list) else [_kind(part) for part in value[:1]]


def scrub(text: str) -> str:
    for pattern, replacement in _SCRUB:
        text = pattern.sub(replacement, text)
    return text


def compare(want: Any, got: Any, path: str = "", fixed: bool = False) -> list[str]:
    """Differences of two values; `fixed` makes numbers count."""
    key = path.rpartition(".")[2]
    if isinstance(want, bool) or want is None or isinstance(got, bool) or got is None:
        return [] if want is got else [f"{path}: recorded {want!r}, got {got!r}"]
    if isinstance(want, (int, float)) and isinstance(got, (int, float)):
        return [f"{path}: recorded {want}, got {got}"] if (fixed or key in _FIXED) and want != got else []
    if type(want) is not type(got):
        return [f"{path}: recorded {_short(want)}, got {_short(got)}"]
    if isinstance(want, dict):
        return _compare_dicts(want, got, path, fixed)
    if isinstance(want, list):
        return _compare_lists(want, got, path, fixed)
    if key == "expires_at":
        return [] if (int(want[:4]) > _FAR) == (int(got[:4]) > _FAR) else [f"{path}: recorded {want}, got {got}"]
    if key in _FREE:
        return []
    if key in ("error", "message"):
        want, got = _NUMBER.sub("N", want), _NUMBER.sub("N", got)
    return [] if scrub(want) == scrub(got) else [f"{path}: recorded {want!r}, got {got!r}"]


def _compare_dicts(want: dict[str, Any], got: dict[str, Any], path: str, fixed: bool) -> list[str]:
    if list(want) != list(got):
        return [f"{path}: recorded keys {list(want)}, got {list(got)}"]
    found = []
    for key, value in want.items():
        # The number of tokens is given where the answer ends because of its length.
        count = key == "eval_count" and want.get("done_reason") == "length"
        found += compare(value, got[key], f"{path}.{key}", fixed or count or key in _FIXED_MAPS)
    return found


def _compare_lists(want: list[Any], got: list[Any], path: str, fixed: bool) -> list[str]:
    key = path.rpartition(".")[2]
    if key in ("models", "data"):
        # Models of the same second are listed in no order.
        want, got = sorted(want, key=_name), sorted(got, key=_name)
        names, gotten = [_name(item) for item in want], [_name(item) for item in got]
        if names != gotten:
            return [f"{path}: recorded {names}, got {gotten}"]
    if key in ("scores", "token_type", "tokens", "context"):
        want, got = want[:1], got[:1]  # long lists; the type of what is in them counts
    if len(want) != len(got):
        return [f"{path}: recorded {len(want)} items, got {len(got)}"]
    return [difference for first, second in zip(want, got) for difference in compare(first, second, path, fixed)]


def _name(item: dict[str, Any]) -> str:
    return str(item.get("id") or item.get("name") or item.get("index"))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 200 else text[:200] + "…"
