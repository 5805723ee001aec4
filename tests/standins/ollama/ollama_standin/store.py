# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The models directory: manifests and blobs as Ollama lays them out."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Any

from ollama_standin import gguf
from ollama_standin.names import Name

_IMAGE = "application/vnd.ollama.image."
_CONFIG = "application/vnd.docker.container.image.v1+json"
_PRUNE_GRACE = 3600.0
DEFAULT_TEMPLATE = "{{ .Prompt }}"

Layer = dict[str, Any]


def timestamp(moment: float | None = None) -> str:
    """RFC 3339 with nanoseconds, as Go writes a time."""
    now = time.time_ns() if moment is None else int(moment * 1e9)
    text = datetime.fromtimestamp(now // 10**9, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{now % 10**9:09d}".rstrip("0").rstrip(".") + "Z"


def human_number(number: int) -> str:
    for size, unit, decimals in ((10**9, "B", 1), (10**6, "M", 2), (10**3, "K", 0)):
        if number >= size:
            return f"{number / size:.{0 if number % size == 0 else decimals}f}{unit}"
    return str(number)


class BlobMissingError(Exception):
    """A manifest names a blob that is not there."""


class Model:
    """What one manifest says, with what is read from its blobs on demand."""

    def __init__(self, store: Store, name: Name, path: Path) -> None:
        data = path.read_bytes()
        self.store = store
        self.name = name
        self.modified = path.stat().st_mtime_ns / 1e9
        self.digest = hashlib.sha256(data).hexdigest()
        self.manifest: dict[str, Any] = json.loads(data)
        self.layers: list[Layer] = self.manifest["layers"]
        self.config: dict[str, Any] = json.loads(store.read(self.manifest["config"]["digest"]))

    @property
    def size(self) -> int:
        return sum(int(layer["size"]) for layer in [*self.layers, self.manifest["config"]])

    def layer(self, kind: str) -> Layer | None:
        return next((layer for layer in self.layers if layer["mediaType"] == _IMAGE + kind), None)

    def text(self, kind: str) -> str:
        """The text of a layer: system, template."""
        layer = self.layer(kind)
        return self.store.read(layer["digest"]).decode() if layer else ""

    @property
    def licenses(self) -> list[str]:
        return [self.store.read(layer["digest"]).decode() for layer in self.layers if layer["mediaType"] == _IMAGE + "license"]

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(json.loads(self.text("params") or "{}"))

    @property
    def messages(self) -> list[dict[str, Any]]:
        return list(json.loads(self.text("messages") or "[]"))

    @property
    def weights(self) -> Path:
        layer = self.layer("model")
        if layer is None:
            raise BlobMissingError
        return self.store.blob(layer["digest"])

    @property
    def gguf(self) -> gguf.GGUF:
        """The head of the model file; BlobMissingError, or GGUFError if it was cut short."""
        try:
            head = self.store.head(self.weights)
        except FileNotFoundError as error:
            raise BlobMissingError from error
        return head

    @property
    def template(self) -> str:
        return self.text("template") or str(self.gguf.metadata.get("tokenizer.chat_template", DEFAULT_TEMPLATE))

    @property
    def capabilities(self) -> list[str]:
        return list(self.config["capabilities"])

    @property
    def details(self) -> dict[str, Any]:
        layer = self.layer("model") or {}
        config = self.config
        return {
            "parent_model": layer.get("from", ""),
            "format": config["model_format"],
            "family": config["model_family"],
            "families": config["model_families"],
            "parameter_size": config["model_type"],
            "quantization_level": config["file_type"],
        }


class Store:
    """Manifests below manifests/, blobs below blobs/."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs"
        self._manifests = root / "manifests"
        self._heads: dict[tuple[str, int, int], gguf.GGUF] = {}
        self._models: dict[tuple[str, int], Model] = {}

    def open(self) -> None:
        for directory in (self._blobs, self._manifests):
            directory.mkdir(parents=True, exist_ok=True)

    # Blobs

    def blob(self, digest: str) -> Path:
        return self._blobs / digest.replace(":", "-")

    def read(self, digest: str) -> bytes:
        try:
            return self.blob(digest).read_bytes()
        except FileNotFoundError as error:
            raise BlobMissingError from error

    def head(self, path: Path) -> gguf.GGUF:
        status = path.stat()
        key = (str(path), status.st_mtime_ns, status.st_size)
        if key not in self._heads:
            self._heads[key] = gguf.read(path)
        return self._heads[key]

    def write(self, data: bytes, digest: str = "") -> tuple[str, bool]:
        """Keep a blob; its digest, and whether it is new."""
        digest = digest or "sha256:" + hashlib.sha256(data).hexdigest()
        path = self.blob(digest)
        if path.exists():
            return digest, False
        partial = path.with_name(f"{path.name}-new")
        partial.write_bytes(data)
        partial.replace(path)
        return digest, True

    def add_layer(self, kind: str, data: bytes) -> tuple[Layer, bool]:
        digest, new = self.write(data)
        return {"mediaType": _IMAGE + kind, "digest": digest, "size": len(data)}, new

    @staticmethod
    def describe(kind: str, digest: str, size: int) -> Layer:
        return {"mediaType": _IMAGE + kind, "digest": digest, "size": size}

    # Manifests

    def _path(self, name: Name) -> Path:
        return self._manifests / name.path

    def exists(self, name: Name) -> bool:
        return self._path(name).is_file()

    def find(self, name: Name) -> Model | None:
        """The model of that name, if its manifest can be read."""
        path = self._path(name)
        try:
            key = (str(path), path.stat().st_mtime_ns)
            if key not in self._models:
                self._models[key] = Model(self, name, path)
            return self._models[key]
        except (OSError, ValueError, KeyError, BlobMissingError):
            return None

    def models(self) -> list[Model]:
        """All that can be read, the newest first."""
        found = []
        for path in self._manifests.glob("*/*/*/*"):
            try:
                name = Name.of_path(PurePosixPath(path.relative_to(self._manifests)))
            except ValueError:
                continue
            model = self.find(name)
            if model:
                found.append(model)
        return sorted(found, key=lambda model: model.modified, reverse=True)

    @staticmethod
    def config_of(head: gguf.GGUF, capabilities: Iterable[str]) -> dict[str, Any]:
        return {
            "model_format": "gguf",
            "model_family": head.architecture,
            "model_families": [head.architecture],
            "model_type": human_number(head.parameter_count),
            "file_type": gguf.FILE_TYPES.get(int(head.metadata.get("general.file_type", 0)), "unknown"),
            # Ollama reads these off the model; here they are noted down.
            "capabilities": list(capabilities),
            "context_length": head.value("context_length"),
            "embedding_length": head.value("embedding_length"),
            "architecture": "amd64",
            "os": "linux",
        }

    @staticmethod
    def config_data(config: dict[str, Any], layers: list[Layer]) -> bytes:
        config = {**config, "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]}}
        return json.dumps(config, separators=(",", ":")).encode()

    def write_manifest(self, name: Name, config: dict[str, Any], layers: list[Layer]) -> None:
        """Make a model, or make it anew; layers that nothing uses any more go."""
        old = self.find(name)
        data = self.config_data(config, layers)
        digest, _new = self.write(data)
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"mediaType": _CONFIG, "digest": digest, "size": len(data)},
            "layers": layers,
        }
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}-new")
        partial.write_text(json.dumps(manifest, separators=(",", ":")))
        partial.replace(path)
        if old:
            self._remove_unused(old)

    def copy(self, source: Model, name: Name) -> None:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self._path(source.name).read_bytes())

    def delete(self, model: Model) -> None:
        path = self._path(model.name)
        path.unlink()
        for parent in path.parents:
            if parent == self._manifests or any(parent.iterdir()):
                break
            parent.rmdir()
        self._remove_unused(model)

    @staticmethod
    def _digests(model: Model) -> Iterator[str]:
        yield from (layer["digest"] for layer in model.layers)
        yield model.manifest["config"]["digest"]

    def _used(self) -> set[str]:
        return {digest for model in self.models() for digest in self._digests(model)}

    def _remove_unused(self, model: Model) -> None:
        for digest in set(self._digests(model)) - self._used():
            self.blob(digest).unlink(missing_ok=True)

    def prune(self) -> None:
        """At the start: remove blobs that no manifest names, downloads begun long ago too."""
        used = {self.blob(digest).name for digest in self._used()}
        now = time.time()
        for path in self._blobs.iterdir():
            if path.name not in used and now - path.stat().st_mtime > _PRUNE_GRACE:
                path.unlink()
