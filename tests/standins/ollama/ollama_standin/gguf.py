# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The GGUF file format, as much of it as serving a model needs: metadata and tensor descriptions."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any, BinaryIO

MAGIC = b"GGUF"
_ALIGNMENT = 32
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_MAX_ITEMS = 1 << 22
# number: (name, elements of a block, bytes of a block)
TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    12: ("Q4_K", 256, 144),
    14: ("Q6_K", 256, 210),
}
FILE_TYPES = {1: "F16", 2: "Q4_0", 7: "Q8_0", 15: "Q4_K_M"}


class GGUFError(Exception):
    """Broken."""


class NotGGUFError(GGUFError):
    """Something else."""


class GGUF:
    """What the head of a file says."""

    def __init__(self, metadata: dict[str, Any], tensors: list[dict[str, Any]], data_offset: int) -> None:
        self.metadata = metadata
        self.tensors = tensors
        self.data_offset = data_offset

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    def value(self, name: str, default: Any = 0) -> Any:
        """A value of the architecture, such as context_length."""
        return self.metadata.get(f"{self.architecture}.{name}", default)

    @property
    def parameter_count(self) -> int:
        total = sum(math.prod(tensor["shape"]) for tensor in self.tensors)
        return int(self.metadata.get("general.parameter_count", total))

    def check_size(self, size: int) -> None:
        """A file that was cut short fails to load."""
        for tensor in self.tensors:
            end = self.data_offset + tensor["offset"] + tensor["size"]
            if end > size:
                raise GGUFError(f'tensor "{tensor["name"]}" offset+size ({end}) exceeds file size ({size})')


def _scalar(file: BinaryIO, form: str) -> Any:
    data = file.read(struct.calcsize(form))
    try:
        return struct.unpack(form, data)[0]
    except struct.error as error:
        raise GGUFError("unexpected EOF") from error


def _string(file: BinaryIO) -> str:
    length = _scalar(file, "<Q")
    if length > _MAX_ITEMS:
        raise GGUFError("string too long")
    return file.read(length).decode("utf-8", "replace")


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        item, length = _scalar(file, "<I"), _scalar(file, "<Q")
        if length > _MAX_ITEMS:
            raise GGUFError("array too long")
        return [_value(file, item) for _ in range(length)]
    if kind not in _SCALARS:
        raise GGUFError(f"invalid type {kind}")
    return _scalar(file, _SCALARS[kind])


def _shorten(value: float) -> float:
    """The shortest decimal that is the same 32-bit float, as Go prints it."""
    for digits in range(1, 10):
        text = float(f"{value:.{digits}g}")
        if struct.pack("<f", text) == struct.pack("<f", value):
            return text
    return value


def read(path: Path) -> GGUF:
    """The head of a file; GGUFError if it has none, FileNotFoundError if there is no file."""
    with path.open("rb") as file:
        return parse(file)


def parse(file: BinaryIO) -> GGUF:
    if file.read(4) != MAGIC:
        raise NotGGUFError("supplied file was not in GGUF format")
    if _scalar(file, "<I") not in (2, 3):
        raise GGUFError("unsupported version")
    n_tensors, n_values = _scalar(file, "<Q"), _scalar(file, "<Q")
    if n_tensors > _MAX_ITEMS or n_values > _MAX_ITEMS:
        raise GGUFError("too many items")
    metadata = {}
    for _ in range(n_values):
        name, kind = _string(file), _scalar(file, "<I")
        value = _value(file, kind)
        metadata[name] = _shorten(value) if kind == 6 else value
    tensors = [_tensor(file) for _ in range(n_tensors)]
    return GGUF(metadata, tensors, -(-file.tell() // _ALIGNMENT) * _ALIGNMENT)


def _tensor(file: BinaryIO) -> dict[str, Any]:
    name = _string(file)
    shape = [_scalar(file, "<Q") for _ in range(_scalar(file, "<I"))]
    kind, offset = _scalar(file, "<I"), _scalar(file, "<Q")
    if kind not in TYPES:
        raise GGUFError(f"invalid tensor type {kind}")
    type_name, block, block_bytes = TYPES[kind]
    return {"name": name, "type": type_name, "shape": shape, "offset": offset, "size": math.prod(shape) // block * block_bytes}


def _pack_string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _pack(value: Any) -> bytes:
    """Type and value; arrays are of one type."""
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value) if value < 2**32 else struct.pack("<IQ", 10, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _pack_string(value)
    items = [_pack(item) for item in value]
    kind = items[0][:4] if items else struct.pack("<I", 4)
    return struct.pack("<I", _ARRAY) + kind + struct.pack("<Q", len(items)) + b"".join(item[4:] for item in items)


def head(metadata: dict[str, Any], tensors: list[tuple[str, list[int]]]) -> bytes:
    """The head of a file with F32 tensors; their data, of data_size() bytes, follows it."""
    out = [MAGIC, struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    out += [_pack_string(name) + _pack(value) for name, value in metadata.items()]
    offset = 0
    for name, shape in tensors:
        out.append(_pack_string(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", dimension) for dimension in shape))
        out.append(struct.pack("<IQ", 0, offset))
        offset += data_size([(name, shape)])
    data = b"".join(out)
    return data + bytes(-len(data) % _ALIGNMENT)


def data_size(tensors: list[tuple[str, list[int]]]) -> int:
    return sum(-(-math.prod(shape) * 4 // _ALIGNMENT) * _ALIGNMENT for _name, shape in tensors)
