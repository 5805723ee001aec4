# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pack the stand-in as Ollama's release archives are packed, in the layout of their download path.

build_release.py OUT --version 0.32.15 writes OUT/v0.32.15/ollama-linux-amd64.tar.zst, the arm64 one and sha256sum.txt,
the same bytes each time. Serve OUT with any web server (python3 -m http.server) and it is a mirror.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE / "ollama_standin"
CATALOGUE = "catalogue.json"
MTIME = 1767225600  # 2026-01-01, for reproducible archives
_ZIP_DATE = (2026, 1, 1, 0, 0, 0)
_VERSION_LINE = re.compile(r'^VERSION = ".*"$', re.MULTILINE)
_PLACEHOLDER = "placeholder of the Ollama stand-in for {}\n"
_RUNNER = b"#!/bin/sh\necho 'stand-in: nothing runs here' >&2\nexit 1\n"
# What a release carries for each architecture, and what comes as add-ons over the same prefix.
_LIBRARIES = [
    "libggml-base.so",
    "libggml-cpu.so",
    "cuda_v12/libggml-cuda.so",
    "cuda_v13/libggml-cuda.so",
    "vulkan/libggml-vulkan.so",
]
ADDONS = {
    "amd64": {"rocm": ["rocm_v7/libggml-hip.so"]},
    "arm64": {"jetpack5": ["cuda_jetpack5/libggml-cuda.so"], "jetpack6": ["cuda_jetpack6/libggml-cuda.so"]},
}


def program(version: str) -> bytes:
    """bin/ollama: a Python zip application that says it is of this version."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:

        def add(name: str, text: str) -> None:
            info = zipfile.ZipInfo(name, _ZIP_DATE)
            info.external_attr = 0o644 << 16
            packed.writestr(info, text)

        add("__main__.py", "import sys\n\nfrom ollama_standin.cli import main\n\nsys.exit(main(sys.argv[1:]))\n")
        for source in sorted(PACKAGE.glob("*.py")):
            text = source.read_text(encoding="utf-8")
            if source.name == "__init__.py":
                text, changed = _VERSION_LINE.subn(f'VERSION = "{version}"', text)
                if changed != 1:
                    raise SystemExit(f"{source} has no VERSION line")
            add(f"ollama_standin/{source.name}", text)
    return b"#!/usr/bin/env python3\n" + archive.getvalue()


def libraries(architecture: str, names: list[str]) -> dict[str, tuple[bytes, int]]:
    return {f"lib/ollama/{name}": (_PLACEHOLDER.format(architecture).encode(), 0o755) for name in names}


def files(version: str, architecture: str) -> dict[str, tuple[bytes, int]]:
    """Name in the archive: content and mode."""
    return {
        "bin/ollama": (program(version), 0o755),
        "lib/ollama/llama-server": (_RUNNER, 0o755),
        "lib/ollama/llama-quantize": (_RUNNER, 0o755),
        "lib/ollama/standin-catalogue.json": ((PACKAGE / CATALOGUE).read_bytes(), 0o644),
        **libraries(architecture, _LIBRARIES),
    }


def tarball(content: dict[str, tuple[bytes, int]]) -> bytes:
    """Files only, no ./ before the names, owned by root."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, (data, mode) in sorted(content.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(data), mode, MTIME
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def compress(data: bytes, form: str) -> bytes:
    if form == "tgz":
        return gzip.compress(data, compresslevel=9, mtime=0)
    if not shutil.which("zstd"):
        raise SystemExit("zstd is not installed (apt-get install zstd), or use --format tgz")
    return subprocess.run(["zstd", "-19", "--quiet", "--stdout"], input=data, stdout=subprocess.PIPE, check=True).stdout


def build(out: Path, version: str, architectures: list[str], form: str, addons: bool) -> Path:
    """The directory of the release."""
    directory = out / f"v{version}"
    directory.mkdir(parents=True, exist_ok=True)
    suffix = {"zst": "tar.zst", "tgz": "tgz"}[form]
    archives = {}
    for architecture in architectures:
        archives[f"ollama-linux-{architecture}.{suffix}"] = tarball(files(version, architecture))
        for addon, names in ADDONS[architecture].items() if addons else ():
            archives[f"ollama-linux-{architecture}-{addon}.{suffix}"] = tarball(libraries(architecture, names))
    for name, data in archives.items():
        (directory / name).write_bytes(compress(data, form))
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  ./{path.name}\n"
        for path in sorted(directory.iterdir())
        if path.name != "sha256sum.txt"
    ]
    (directory / "sha256sum.txt").write_text("".join(sums), encoding="ascii")
    return directory


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Pack the stand-in as a release of Ollama.")
    parser.add_argument("out", type=Path, help="directory that will serve as the mirror")
    parser.add_argument("--version", default="0.32.15", help="version of the release, without v (default: %(default)s)")
    parser.add_argument("--arch", choices=sorted(ADDONS), action="append", help="architecture, repeatable (default: all)")
    parser.add_argument("--format", choices=("zst", "tgz"), default="zst", help="compression of the archives (default: %(default)s)")
    parser.add_argument("--addons", action="store_true", help="also the add-on archives: rocm, jetpack5, jetpack6")
    options = parser.parse_args(arguments)
    directory = build(options.out, options.version, options.arch or sorted(ADDONS), options.format, options.addons)
    sys.stdout.write((directory / "sha256sum.txt").read_text(encoding="ascii").replace("./", f"{directory}/"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
