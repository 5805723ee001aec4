# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ollama's API means, without talking to it: names, parameters, the parts of a model, its error lines."""

from __future__ import annotations

import json
import re
import typing as t

from ansible_collections.selfhosted.llm.plugins.module_utils import http

# Ollama takes any name and type when a model is made; a wrong type fails only when the model is loaded.
PARAMETERS: dict[str, type] = {
    "num_ctx": int,
    "num_batch": int,
    "num_gpu": int,
    "main_gpu": int,
    "num_thread": int,
    "num_keep": int,
    "num_predict": int,
    "seed": int,
    "top_k": int,
    "repeat_last_n": int,
    "top_p": float,
    "min_p": float,
    "typical_p": float,
    "temperature": float,
    "repeat_penalty": float,
    "presence_penalty": float,
    "frequency_penalty": float,
    "use_mmap": bool,
    "stop": str,
}

_TRANSIENT = re.compile(
    r"max retries exceeded|unexpected EOF|: EOF$|deadline exceeded|connection reset|broken pipe|i/o timeout|TLS handshake timeout"
    r"|stalled|temporary failure|(?<!\d)50[0234](?!\d)|digest mismatch",
    re.IGNORECASE,
)


def normalise_name(name: str) -> str:
    """The name as Ollama lists it: with a tag, without the default registry and namespace."""
    name = name.strip()
    for prefix in ("registry.ollama.ai/", "library/"):
        if name.lower().startswith(prefix):
            name = name[len(prefix) :]
    return name if ":" in name.rsplit("/", 1)[-1] else name + ":latest"


def name_key(name: str) -> str:
    """Two names with the same key are one model: Ollama's names do not depend on case."""
    return normalise_name(name).lower()


def typed_parameters(parameters: dict[str, t.Any]) -> tuple[dict[str, t.Any], list[str]]:
    """The parameters in the types Ollama wants, and the names it does not know. ValueError names a value that cannot be right."""
    typed: dict[str, t.Any] = {}
    unknown: list[str] = []
    for name, value in parameters.items():
        kind = PARAMETERS.get(name)
        if kind is None:
            unknown.append(name)
            typed[name] = value
        elif name == "stop":
            typed[name] = [str(item) for item in value] if isinstance(value, list) else [str(value)]
        else:
            typed[name] = _typed(name, value, kind)
    return typed, unknown


def _typed(name: str, value: t.Any, kind: type) -> t.Any:
    text = str(value).strip().lower()
    if kind is bool:
        if text in ("true", "false"):
            return text == "true"
    elif not isinstance(value, bool):
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if kind is float and number - number == 0:
            return number
        if kind is int and number.is_integer():
            return int(number)
    wanted = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
    raise ValueError(f"parameter {name} must be {wanted}, not {value!r}")


def parse_parameters(text: str | None) -> dict[str, list[t.Any]]:
    """The `parameters` text of /api/show: a padded name and a value per line, strings quoted, repeated names being a list."""
    found: dict[str, list[t.Any]] = {}
    for row in (text or "").splitlines():
        name, _space, value = row.strip().partition(" ")
        if name:
            found.setdefault(name, []).append(_parse_value(value.strip()))
    return found


def _parse_value(text: str) -> t.Any:
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def canonical_parameters(parameters: dict[str, t.Any]) -> dict[str, list[str]]:
    """Parameters in one spelling, whether they come from a play or from /api/show: 1 is 1.0 is 1e0; the order of names means nothing."""
    return {
        name: [_canonical(value) for value in (values if isinstance(values, list) else [values])]
        for name, values in sorted(parameters.items())
    }


def _canonical(value: t.Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(int(value)) if float(value).is_integer() else repr(float(value))
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def modelfile_value(modelfile: str, command: str) -> str | None:
    """The argument of the first `command` in a Modelfile as /api/show writes it, or None."""
    match = re.search(rf"^{command} ", modelfile, re.MULTILINE)
    if not match:
        return None
    rest = modelfile[match.end() :]
    if rest.startswith('"""'):
        return rest[3:].split('"""', 1)[0]
    if rest.startswith('"'):
        quoted = rest[1:].split('"', 1)[0]
        # Only what has a line break or spaces around it is quoted; any other quote belongs to the value.
        if "\n" in quoted or quoted != quoted.strip():
            return quoted
    return rest.split("\n", 1)[0]


def _template(shown: dict[str, t.Any]) -> str:
    declared = modelfile_value(shown.get("modelfile", ""), "TEMPLATE")
    return (shown.get("template") or "") if declared is None else declared


def _messages(messages: t.Any) -> list[dict[str, str]]:
    return [{"role": str(item.get("role", "")), "content": str(item.get("content", ""))} for item in messages or []]


def custom_differences(wanted: dict[str, t.Any], shown: dict[str, t.Any], base: dict[str, t.Any]) -> dict[str, tuple[t.Any, t.Any]]:
    """Where a custom model is not what /api/create would make of it now: {part: (is, should be)}.

    `shown` is its /api/show, `base` that of the model it is made from, whose parts it inherits where the declaration has none.
    """
    found: dict[str, tuple[t.Any, t.Any]] = {}

    parent = shown.get("details", {}).get("parent_model") or ""
    if name_key(parent or "-") != name_key(wanted["from"]):
        found["from"] = (parent, normalise_name(wanted["from"]))
    else:
        # The same weights? The base may have been pulled anew.
        blobs = [modelfile_value(answer.get("modelfile", ""), "FROM") for answer in (shown, base)]
        if blobs[0] != blobs[1]:
            found["from"] = (f"{parent} ({blobs[0]})", f"{parent} ({blobs[1]})")

    system = wanted.get("system")
    should: t.Any = (base.get("system") or "") if system is None else system
    if (shown.get("system") or "") != should:
        found["system"] = (shown.get("system") or "", should)

    # The Modelfile has the declared template; the field `template` is the one in use, which may come with the weights.
    template = wanted.get("template")
    is_now = _template(shown)
    should = _template(base) if template is None else template
    if is_now != should and shown.get("template") != template:
        found["template"] = (is_now, should)

    parameters = parse_parameters(base.get("parameters"))
    parameters.update(wanted.get("parameters") or {})
    now, then = canonical_parameters(parse_parameters(shown.get("parameters"))), canonical_parameters(parameters)
    if now != then:
        found["parameters"] = (now, then)

    messages = _messages(base.get("messages") if wanted.get("messages") is None else wanted["messages"])
    if _messages(shown.get("messages")) != messages:
        found["messages"] = (_messages(shown.get("messages")), messages)

    # A licence is added to those of the base.
    missing = [text for text in wanted.get("license") or [] if text not in (shown.get("license") or "")]
    if missing:
        found["license"] = (shown.get("license") or "", missing)
    return found


def keep_alive(value: str) -> t.Any:
    """Seconds as a number, anything else as the duration it is: Ollama refuses "-1" but takes -1."""
    try:
        return int(value)
    except ValueError:
        return value


def create_payload(wanted: dict[str, t.Any]) -> dict[str, t.Any]:
    """The body of /api/create for a custom model."""
    payload: dict[str, t.Any] = {"model": normalise_name(wanted["name"]), "from": normalise_name(wanted["from"])}
    for part in ("system", "template", "parameters", "messages", "license"):
        if wanted.get(part):
            payload[part] = wanted[part]
    return payload


def stream_error(text: str, what: str) -> http.ApiError:
    """The ApiError for an error line: a stream is already 200 when it fails."""
    lowered = text.lower()
    if "does not exist" in lowered or "not found" in lowered:
        layer = http.MODEL
    elif "unauthorized" in lowered or "access denied" in lowered or "forbidden" in lowered:
        layer = http.AUTH
    elif "no such host" in lowered or "server misbehaving" in lowered:
        layer = http.DNS
    elif "x509" in lowered or "certificate" in lowered or "tls:" in lowered:
        layer = http.TLS
    elif "connection refused" in lowered or "no route to host" in lowered or "network is unreachable" in lowered:
        layer = http.REFUSED
    elif "timeout" in lowered or "deadline exceeded" in lowered:
        layer = http.TIMEOUT
    else:
        layer = http.BACKEND
    return http.ApiError(layer, f"{what}: {text}", 200, text)


def worth_a_retry(error: http.ApiError) -> bool:
    """Is it a break-off after which another try goes on from where this one stopped?"""
    if error.status == 200:
        return bool(_TRANSIENT.search(error.body))
    if error.status is not None:
        return error.status >= 500
    return error.layer in (http.PROTOCOL, http.TIMEOUT, http.REFUSED)


class PullState:
    """Adds up the layers of a pull, which come one by one."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}

    def add(self, event: dict[str, t.Any]) -> tuple[int, int]:
        """Bytes done and bytes known after this line."""
        if event.get("digest"):
            self._layers[event["digest"]] = (int(event.get("completed") or 0), int(event.get("total") or 0))
        return sum(done for done, _total in self._layers.values()), sum(total for _done, total in self._layers.values())


def vram_share(entry: dict[str, t.Any]) -> float:
    """How much of a loaded model is in GPU memory, from 0 to 1."""
    size = int(entry.get("size") or 0)
    return round(int(entry.get("size_vram") or 0) / size, 3) if size else 0.0
