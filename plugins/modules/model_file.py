#!/usr/bin/python
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_file
short_description: Download model files whose checksums are known
version_added: 0.1.0
author: The selfhosted.llm contributors (@selfhosted)
description:
  - Downloads each file beside its place, compares its SHA-256 with what is expected, and gives it its name in one step.
    A file is there as a whole or not at all.
  - An interrupted download goes on from where it stopped, also in the next run.
  - To read a file of tens of gigabytes takes minutes. So what was verified is noted beside it, in C(.<name>.verified), with its size
    and time, and as long as these are the same it is not read again. A file that somebody else put there is read once, and kept if it
    is the right one.
  - While it downloads or verifies, a line per host and interval shows how far it is.
options:
  files:
    description: The files.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Where it goes. Missing folders are made.
        type: path
        required: true
      url:
        description: Where it comes from.
        type: str
        required: true
      sha256:
        description: Its checksum.
        type: str
        required: true
extends_documentation_fragment: [selfhosted.llm.download, selfhosted.llm.progress]
attributes:
  check_mode:
    description: Reports what would be downloaded. A file that nobody has verified yet is read for it.
    support: full
  diff_mode:
    description: Returns the paths of the files that are new.
    support: full
  action:
    description: Has a corresponding action plugin, which shows the progress. Without it the module runs in silence.
    support: full
"""

EXAMPLES = r"""
- name: Download a model
  selfhosted.llm.model_file:
    files:
      - path: /var/lib/llama-server/models/qwen2.5-7b-instruct-q4_k_m.gguf
        url: https://models.example.org/qwen2.5-7b-instruct-q4_k_m.gguf
        sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
"""

RETURN = r"""
downloaded:
  description: Paths of the files that were (or would be) downloaded.
  returned: success
  type: list
  elements: str
unverified:
  description: Paths of files that are the right ones, and of which that was not noted yet.
  returned: success
  type: list
  elements: str
error:
  description: The layer at fault, the message and the HTTP status.
  returned: failure
  type: dict
"""

import json
import os
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhosted.llm.plugins.module_utils import http
from ansible_collections.selfhosted.llm.plugins.module_utils.download import CHECKSUM, DISK, OPTIONS, Downloader, checked_sha256, sha256_of
from ansible_collections.selfhosted.llm.plugins.module_utils.progress import Progress


class ModelFile:
    """One file on one host, and the note that says what it was verified to be."""

    def __init__(self, path: str, url: str, sha256: str) -> None:
        self.path = Path(path)
        self.url = url
        self.sha256 = checked_sha256(sha256, url)
        self.note = self.path.with_name(f".{self.path.name}.verified")
        # Of this very content: the start of another file is of no use to it.
        self.partial = self.path.with_name(f".{self.path.name}.{self.sha256[:12]}.partial")

    def _noted(self) -> dict[str, t.Any]:
        info = self.path.stat()
        return {"sha256": self.sha256, "size": info.st_size, "time": info.st_mtime_ns}

    def is_verified(self) -> bool:
        try:
            return bool(json.loads(self.note.read_text(encoding="utf-8")) == self._noted())
        except (FileNotFoundError, ValueError):
            return False

    def is_right(self, progress: Progress) -> bool:
        if not self.path.is_file():
            return False
        size = self.path.stat().st_size
        return sha256_of(self.path, lambda done: progress.update(self.path.name, "verifying", done, size)) == self.sha256

    def write_note(self) -> None:
        temporary = self.note.with_name(f"{self.note.name}.new")
        temporary.write_text(json.dumps(self._noted()), encoding="utf-8")
        temporary.replace(self.note)

    def bring(self, downloader: Downloader) -> None:
        folder = self.path.parent
        new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            downloader.download(self.url, self.sha256, self.partial)
        except http.ApiError as exc:
            # What was interrupted is gone on with; what is complete and wrong is not.
            if exc.layer == CHECKSUM:
                self.partial.unlink()
                if new:
                    folder.rmdir()
            raise
        with self.partial.open("rb") as handle:
            os.fsync(handle.fileno())
        self.partial.replace(self.path)


def run(module: AnsibleModule) -> dict[str, t.Any]:
    progress = Progress(module.params["progress_file"])
    downloader = Downloader(module.params, progress)
    wanted = [ModelFile(**item) for item in module.params["files"]]
    downloaded, unverified = [], []
    for file in wanted:
        if file.is_verified():
            continue
        if file.is_right(progress):
            unverified.append(str(file.path))
        else:
            downloaded.append(str(file.path))
            if not module.check_mode:
                file.bring(downloader)
        if not module.check_mode:
            file.write_note()
    return {
        "changed": bool(downloaded),
        "downloaded": downloaded,
        "unverified": unverified,
        "diff": {"before": "", "after": "".join(f"{path}\n" for path in downloaded)},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "url": {"type": "str", "required": True},
                    "sha256": {"type": "str", "required": True},
                },
            },
            **OPTIONS,
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    try:
        module.exit_json(**run(module))
    except http.ApiError as exc:
        module.fail_json(msg=exc.message, error=exc.as_dict())
    except OSError as exc:
        error = http.ApiError(DISK, f"cannot write the files: {exc}")
        module.fail_json(msg=error.message, error=error.as_dict())


if __name__ == "__main__":
    main()
