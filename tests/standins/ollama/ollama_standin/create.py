# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""/api/create: models from models, and from uploaded files."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from ollama_standin import gguf
from ollama_standin.errors import ApiError
from ollama_standin.names import Name
from ollama_standin.registry import Event, Registry
from ollama_standin.store import Layer, Model, Store

_QUANTIZE_FAILED = "failed to validate GGUF with llama-quantize without compatibility patches: llama-quantize failed: exit status 1"
# Ollama rewrites what is uploaded, so that the layer has another digest than the file.
_REWRITTEN = bytes(32)


def _status(layer: Layer, new: bool) -> Event:
    return {"status": f"{'creating new' if new else 'using existing'} layer {layer['digest']}"}


def _check_template(template: str) -> None:
    line = 1
    for number, text in enumerate(template.split("{{")):
        if number and "}}" not in text:
            raise ApiError(400, f"template error: template: :{line}: unclosed action")
        line += text.count("\n")


class Creator:
    """Makes models."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry

    async def create(self, name: Name, body: dict[str, Any]) -> AsyncIterator[Event]:
        """The lines of a creation; ApiError where it fails."""
        statuses: list[Event] = []
        if body.get("from"):
            base_name = _name(body["from"])
            if not self._store.exists(base_name):
                async for event in self._registry.pull(base_name):
                    if event["status"] != "success":
                        yield event
            base = self._store.find(base_name)
            if base is None:
                raise ApiError(500, f"model '{body['from']}' not found")
            config, layers = self._from_model(base, statuses)
        elif body.get("files"):
            digest = next(iter(body["files"].values()))
            path = self._store.blob(digest)
            if path.exists() and path.open("rb").read(4) != gguf.MAGIC:
                raise ApiError(400, "supplied file was not in GGUF format")
            yield {"status": "parsing GGUF"}
            config, layers = self._from_file(digest, statuses)
            yield {"status": "verifying conversion"}
        else:
            raise ApiError(400, "neither 'from' or 'files' was specified")
        self._add_layers(layers, body, statuses)
        for status in statuses:
            yield status
        yield {"status": "writing manifest"}
        self._store.write_manifest(name, config, layers)
        yield {"status": "success"}

    def _from_model(self, base: Model, statuses: list[Event]) -> tuple[dict[str, Any], list[Layer]]:
        layers = []
        for layer in base.layers:
            weights = layer["mediaType"].endswith(".model")
            layers.append({**layer, "from": base.name.short} if weights else layer)
            statuses.append(_status(layer, new=False))
        return base.config, layers

    def _from_file(self, digest: str, statuses: list[Event]) -> tuple[dict[str, Any], list[Layer]]:
        path = self._store.blob(digest)
        try:
            head = gguf.read(path)
            head.check_size(path.stat().st_size)
        except FileNotFoundError as error:
            raise ApiError(500, f"open {path}: no such file or directory") from error
        except gguf.GGUFError as error:
            raise ApiError(500, _QUANTIZE_FAILED) from error
        layer, new = self._store.add_layer("model", path.read_bytes() + _REWRITTEN)
        statuses.append(_status(layer, new))
        pooled = head.value("pooling_type", None) is not None
        return self._store.config_of(head, ["embedding" if pooled else "completion"]), [layer]

    def _add_layers(self, layers: list[Layer], body: dict[str, Any], statuses: list[Event]) -> None:
        """What the request says replaces what the base has; parameters are merged."""
        if body.get("template"):
            _check_template(body["template"])
            self._replace(layers, statuses, "template", body["template"].encode())
        if body.get("system"):
            self._replace(layers, statuses, "system", body["system"].encode())
        licenses = body.get("license") or []
        for text in [licenses] if isinstance(licenses, str) else licenses:
            self._append(layers, statuses, "license", text.encode())
        if body.get("parameters"):
            old = next((layer for layer in layers if layer["mediaType"].endswith(".params")), None)
            kept = json.loads(self._store.read(old["digest"])) if old else {}
            merged = {**kept, **body["parameters"]}
            self._replace(layers, statuses, "params", json.dumps(merged, sort_keys=True, separators=(",", ":")).encode())
        if body.get("messages"):
            self._replace(layers, statuses, "messages", json.dumps(body["messages"], separators=(",", ":")).encode())

    def _replace(self, layers: list[Layer], statuses: list[Event], kind: str, data: bytes) -> None:
        kept = [number for number, layer in enumerate(layers) if not layer["mediaType"].endswith(f".{kind}")]
        layers[:] = [layers[number] for number in kept]
        statuses[:] = [statuses[number] for number in kept]
        self._append(layers, statuses, kind, data)

    def _append(self, layers: list[Layer], statuses: list[Event], kind: str, data: bytes) -> None:
        layer, new = self._store.add_layer(kind, data)
        layers.append(layer)
        statuses.append(_status(layer, new))


def _name(text: str) -> Name:
    try:
        return Name(text)
    except ValueError as error:
        raise ApiError(400, str(error)) from error
