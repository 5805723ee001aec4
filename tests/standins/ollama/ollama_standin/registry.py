# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The registry of models, out of a catalogue file instead of the network, and pulls from it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import pkgutil
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from ollama_standin import gguf
from ollama_standin.control import Control
from ollama_standin.errors import ApiError
from ollama_standin.names import DEFAULT_HOST, Name
from ollama_standin.store import Store

Event = dict[str, Any]

_PART = 100_000_000
_PARALLEL = 2
_TICK = 0.02
_LINE = 0.06
_CONNECT_TIMEOUT = 10.0


def library() -> Path:
    """lib/ollama of the prefix that the program was installed into; symbolic links to the program are resolved."""
    return Path(os.path.realpath(sys.argv[0])).parent.parent / "lib" / "ollama"


def load_catalogue(given: str) -> dict[str, Any]:
    """The file that OLLAMA_STANDIN_CATALOGUE names, else the one of the release, else the one of the package."""
    released = library() / "standin-catalogue.json"
    if given:
        text = Path(given).read_text(encoding="utf-8")
    elif released.is_file():
        text = released.read_text(encoding="utf-8")
    else:
        text = (pkgutil.get_data("ollama_standin", "catalogue.json") or b"{}").decode()
    return {Name(name).full: entry for name, entry in json.loads(text).items() if not name.startswith("_")}


class _Weights:
    """The model layer of an entry: a real head, then nothing (a hole in the file) up to the size."""

    def __init__(self, entry: dict[str, Any], size: int) -> None:
        architecture = entry.get("architecture", "llama")
        embedding = int(entry.get("embedding_length", 2048))
        metadata: dict[str, Any] = {
            "general.architecture": architecture,
            "general.file_type": int(entry.get("file_type", 15)),
            "general.parameter_count": int(entry.get("parameter_count", 10**9)),
            "general.quantization_version": 2,
            f"{architecture}.block_count": int(entry.get("block_count", 16)),
            f"{architecture}.context_length": int(entry.get("context_length", 4096)),
            f"{architecture}.embedding_length": embedding,
            "tokenizer.ggml.model": "gpt2",
        }
        if "embedding" in entry.get("capabilities", []):
            metadata[f"{architecture}.pooling_type"] = int(entry.get("pooling_type", 1))
        name = "token_embd.weight"
        room = size - len(gguf.head(metadata, [(name, [embedding, 1])]))
        rows = room // (4 * embedding)
        self.head = gguf.head(metadata, [(name, [embedding, rows])] if rows > 0 else [])
        self.size = max(size, len(self.head))
        # Hashing gigabytes of nothing would only cost time.
        self.digest = "sha256:" + hashlib.sha256(self.head + str(self.size).encode()).hexdigest()


class _Download:
    """One blob on its way, shared by all who wait for it."""

    def __init__(self, store: Store, control: Control, weights: _Weights) -> None:
        self._control = control
        self._weights = weights
        self._path = store.blob(weights.digest)
        self._partial = Path(f"{self._path}-partial")
        starts = range(0, weights.size, _PART)
        self._sizes = [min(_PART, weights.size - start) for start in starts]
        self._done = [self._kept(number) for number in range(len(self._sizes))]
        self.waiting = 0
        self.task = asyncio.get_running_loop().create_task(self._run())

    @property
    def completed(self) -> int:
        return int(sum(self._done))

    def _part(self, number: int) -> Path:
        return Path(f"{self._partial}-{number}")

    def _kept(self, number: int) -> float:
        try:
            return float(json.loads(self._part(number).read_text())["Completed"])
        except (OSError, ValueError, KeyError):
            return 0.0

    def _keep(self, number: int) -> None:
        state = {"N": number, "Offset": number * _PART, "Size": self._sizes[number], "Completed": int(self._done[number])}
        self._part(number).write_text(json.dumps(state))

    async def _run(self) -> None:
        with self._partial.open("ab") as file:
            file.truncate(self._weights.size)
        last = time.monotonic()
        try:
            while True:
                active = [number for number, size in enumerate(self._sizes) if self._done[number] < size][:_PARALLEL]
                if not active:
                    break
                rate = self._control.pull_bytes_per_second
                if rate:
                    await asyncio.sleep(_TICK)
                await self._control.gate()
                now = time.monotonic()
                share = rate * (now - last) / len(active) if rate else float("inf")
                last = now
                for number in active:
                    self._done[number] = min(self._sizes[number], self._done[number] + share)
                    if self._done[number] >= self._sizes[number]:
                        self._keep(number)
        except asyncio.CancelledError:
            for number, done in enumerate(self._done):
                if done:
                    self._keep(number)
            raise
        with self._partial.open("r+b") as file:
            file.write(self._weights.head)
        self._partial.replace(self._path)
        for number in range(len(self._sizes)):
            self._part(number).unlink(missing_ok=True)


class Registry:
    """Answers pulls."""

    def __init__(self, store: Store, control: Control, catalogue: dict[str, Any]) -> None:
        self._store = store
        self._control = control
        self._catalogue = catalogue
        self._hosts = {DEFAULT_HOST, *(name.partition("/")[0] for name in catalogue)}
        self._downloads: dict[str, _Download] = {}

    async def pull(self, name: Name, insecure: bool = False) -> AsyncIterator[Event]:
        """The lines of a pull; ApiError where it fails."""
        yield {"status": "pulling manifest"}
        entry = await self._resolve(name, insecure)
        weights = _Weights(entry, self._control.pull_bytes or int(entry.get("size", 1 << 20)))
        async for event in self._pull_layer(weights, entry):
            yield event
        small = self._small(entry)
        layers = [self._store.describe("model", weights.digest, weights.size)]
        missing = []
        for kind, data in small:
            layer = self._store.describe(kind, "sha256:" + hashlib.sha256(data).hexdigest(), len(data))
            layers.append(layer)
            missing.append((layer, data))
        config = self._store.config_of(gguf.parse(io.BytesIO(weights.head)), entry.get("capabilities", ["completion"]))
        data = self._store.config_data(config, layers)
        missing.append((self._store.describe("", "sha256:" + hashlib.sha256(data).hexdigest(), len(data)), data))
        for layer, data in missing:
            if self._store.blob(layer["digest"]).exists():
                yield self._progress(layer["digest"], layer["size"], layer["size"])
            elif entry.get("layer_error"):
                raise ApiError(500, entry["layer_error"])
            else:
                self._store.write(data)
        yield {"status": "verifying sha256 digest"}
        if entry.get("corrupt"):
            self._store.blob(weights.digest).unlink(missing_ok=True)
            got = hashlib.sha256(b"corrupt").hexdigest()
            raise ApiError(500, f"digest mismatch, file must be downloaded again: want {weights.digest}, got sha256:{got}")
        old = self._store.find(name)
        yield {"status": "writing manifest"}
        self._store.write_manifest(name, config, layers)
        if old and {layer["digest"] for layer in old.layers} - {layer["digest"] for layer in layers}:
            yield {"status": "removing unused layers"}
        yield {"status": "success"}

    @staticmethod
    def _small(entry: dict[str, Any]) -> list[tuple[str, bytes]]:
        layers = [(kind, str(entry[kind]).encode()) for kind in ("template", "license", "system") if entry.get(kind)]
        if entry.get("parameters"):
            layers.append(("params", json.dumps(entry["parameters"], separators=(",", ":")).encode()))
        return layers

    @staticmethod
    def _progress(digest: str, total: int, completed: int) -> Event:
        event = {"status": f"pulling {digest[7:19]}", "digest": digest, "total": total}
        return {**event, "completed": completed} if completed else event

    async def _pull_layer(self, weights: _Weights, entry: dict[str, Any]) -> AsyncIterator[Event]:
        digest = weights.digest
        if self._store.blob(digest).exists():
            yield self._progress(digest, weights.size, weights.size)
            return
        if entry.get("weights_error"):
            raise ApiError(500, entry["weights_error"])
        download = self._downloads.get(digest)
        if download is None or download.task.done():
            download = self._downloads[digest] = _Download(self._store, self._control, weights)
        download.waiting += 1
        try:
            while True:
                done, _pending = await asyncio.wait({download.task}, timeout=_LINE)
                if done:
                    break
                yield self._progress(digest, weights.size, download.completed)
            await download.task
        finally:
            download.waiting -= 1
            if not download.waiting:
                # The last one who wanted it has it, or has gone: progress is kept.
                download.task.cancel()
                self._downloads.pop(digest, None)

    async def _resolve(self, name: Name, insecure: bool) -> dict[str, Any]:
        """The catalogue's entry, or the error that a real registry's answer would lead to."""
        scheme = "http" if insecure else "https"
        url = f"{scheme}://{name.host}/v2/{name.namespace}/{name.model}/manifests/{name.tag}"
        if name.host not in self._hosts or (name.host == DEFAULT_HOST and self._control.registry != "up"):
            await self._dial(name.host, url, 80 if insecure else 443)
        await asyncio.sleep(0)
        entry = self._catalogue.get(name.full)
        if entry is None:
            raise ApiError(500, "pull model manifest: file does not exist")
        if "same_as" in entry:
            entry = self._catalogue[Name(entry["same_as"]).full]
        if entry.get("manifest_error"):
            raise ApiError(500, f"pull model manifest: {entry['manifest_error']}")
        return dict(entry)

    async def _dial(self, host: str, url: str, port: int) -> None:
        """A host that is not in the catalogue has no models, if it is there at all."""
        if host == DEFAULT_HOST:
            raise ApiError(500, f'pull model manifest: Get "{url}": dial tcp: lookup {host} on {_nameserver()}: no such host')
        address, _colon, given = host.partition(":")
        port = int(given) if given.isdigit() else port
        try:
            _reader, writer = await asyncio.wait_for(asyncio.open_connection(address, port), _CONNECT_TIMEOUT)
        except ConnectionRefusedError as error:
            raise ApiError(500, f'pull model manifest: Get "{url}": dial tcp {address}:{port}: connect: connection refused') from error
        except asyncio.TimeoutError as error:
            raise ApiError(500, f'pull model manifest: Get "{url}": dial tcp {address}:{port}: i/o timeout') from error
        except OSError as error:
            raise ApiError(500, f'pull model manifest: Get "{url}": dial tcp: lookup {address} on {_nameserver()}: no such host') from error
        writer.close()


def _nameserver() -> str:
    try:
        lines = Path("/etc/resolv.conf").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    servers = [line.split()[1] for line in lines if line.startswith("nameserver ")]
    return f"{(servers or ['127.0.0.1'])[0]}:53"
