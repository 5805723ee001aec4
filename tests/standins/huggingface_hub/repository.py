# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The git repository of a Space: bare, on this machine. What the Hub's API commits are commits in it, which git itself can read."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

BRANCH = "refs/heads/main"
AUTHOR = {
    "GIT_AUTHOR_NAME": "stand-in",
    "GIT_AUTHOR_EMAIL": "hub@example.org",
    "GIT_COMMITTER_NAME": "stand-in",
    "GIT_COMMITTER_EMAIL": "hub@example.org",
}


class Repository:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.exists():
            folder.mkdir(parents=True)
            self._git("init", "--quiet", "--bare", "--initial-branch=main")

    def _git(self, *arguments: str, data: bytes = b"", env: dict[str, str] | None = None) -> bytes:
        done = subprocess.run(
            ["git", *arguments], cwd=self.folder, input=data, capture_output=True, check=True, env={**os.environ, **AUTHOR, **(env or {})}
        )
        return done.stdout

    def head(self) -> str:
        return self._git("for-each-ref", "--format=%(objectname)", BRANCH).decode().strip()

    def tree(self, revision: str) -> dict[str, tuple[str, int]]:
        """Git's id and the size of each file."""
        found = {}
        for line in self._git("ls-tree", "-r", "--long", "-z", revision).decode().split("\0"):
            if line:
                about, path = line.split("\t", 1)
                _mode, _kind, blob, size = about.split()
                found[path] = (blob, int(size))
        return found

    def read(self, revision: str, path: str) -> bytes:
        return self._git("cat-file", "blob", f"{revision}:{path}")

    def commit(self, message: str, files: dict[str, bytes], deleted: list[str]) -> str:
        parent = self.head()
        with tempfile.TemporaryDirectory() as folder:
            index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            if parent:
                self._git("read-tree", parent, env=index)
            for path, content in files.items():
                blob = self._git("hash-object", "-w", "--stdin", data=content).decode().strip()
                self._git("update-index", "--add", "--cacheinfo", f"100644,{blob},{path}", env=index)
            for path in deleted:
                self._git("update-index", "--index-info", data=f"0 {'0' * 40}\t{path}\n".encode(), env=index)
            tree = self._git("write-tree", env=index).decode().strip()
        parents = ["-p", parent] if parent else []
        made = self._git("commit-tree", tree, *parents, "-m", message).decode().strip()
        self._git("update-ref", BRANCH, made)
        return made

    def export(self, revision: str, folder: Path) -> None:
        for path in self.tree(revision):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(self.read(revision, path))
