#!/usr/bin/python
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_archive
short_description: Install a release from archives whose checksums are known
version_added: 0.1.0
author: The selfhosted.llm contributors (@selfhosted)
description:
  - Downloads archives, compares their SHA-256 with what is expected, unpacks them over each other into a hidden folder, and gives
    that its final name, C(<version>-<first 12 digits of the checksum>), in one step. A release is there as a whole or not at all.
  - Nothing is unpacked before every checksum was right.
  - A release that is there is not touched, and nothing is downloaded for it.
  - While it downloads, a line per host and interval shows how far it is.
  - It does not make the release live and removes no other; M(selfhosted.llm.service_deploy) does.
options:
  releases:
    description: Folder that holds the releases.
    type: path
    required: true
  version:
    description: Version, the first part of the release's name.
    type: str
    required: true
  archives:
    description: What to download, in the order in which it is unpacked. Any format GNU tar reads.
    type: list
    elements: dict
    required: true
    suboptions:
      url:
        description: Where the archive is.
        type: str
        required: true
      sha256:
        description: Its checksum. Where it is not given, it is taken from O(checksums_url).
        type: str
  checksums_url:
    description:
      - List of checksums beside the archives, as C(sha256sum) writes it, for archives without O(archives[].sha256).
      - It proves that a download is whole, not that the publisher made it.
        What a release was installed with is kept with it, so that the list is read once per host and version.
    type: str
  creates:
    description: Path inside the release that must be there after unpacking.
    type: str
    required: true
extends_documentation_fragment: [selfhosted.llm.download, selfhosted.llm.progress]
attributes:
  check_mode:
    description: Reports what would be installed without downloading it. A list of checksums is read, as the release's name depends on it.
    support: full
  diff_mode:
    description: Returns the path of a release that is new.
    support: full
  action:
    description: Has a corresponding action plugin, which shows the progress. Without it the module runs in silence.
    support: full
"""

EXAMPLES = r"""
- name: Install a release of Ollama
  selfhosted.llm.release_archive:
    releases: /opt/ollama/releases
    version: 0.32.15
    archives:
      - url: https://mirror.example.org/ollama/v0.32.15/ollama-linux-amd64.tar.zst
        sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    creates: bin/ollama
"""

RETURN = r"""
release:
  description: Path of the release.
  returned: success
  type: str
  sample: /opt/ollama/releases/0.32.15-9f86d081884c
checksums:
  description: The checksum of each archive.
  returned: success
  type: dict
  sample: {"ollama-linux-amd64.tar.zst": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}
error:
  description: The layer at fault, the message and the HTTP status.
  returned: failure
  type: dict
"""

import hashlib
import json
import os
import shutil
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhosted.llm.plugins.module_utils import http
from ansible_collections.selfhosted.llm.plugins.module_utils.download import (
    CHECKSUM,
    OPTIONS,
    SHA256,
    Downloader,
    base_name,
    checked_sha256,
)
from ansible_collections.selfhosted.llm.plugins.module_utils.progress import Progress

_MARKER = ".release.json"


def parse_checksums(text: str) -> dict[str, str]:
    """The lines of sha256sum: {file name: checksum}, without a leading ./ or *."""
    found = {}
    for row in text.splitlines():
        digest, _space, name = row.strip().partition(" ")
        if SHA256.fullmatch(digest.lower()):
            found[name.strip().lstrip("*").rsplit("/", 1)[-1]] = digest.lower()
    return found


def release_id(version: str, checksums: t.Sequence[str]) -> str:
    """<version>-<12 digits>: of the archive's checksum, or of all of them where there are several."""
    digest = checksums[0] if len(checksums) == 1 else hashlib.sha256("".join(checksums).encode()).hexdigest()
    return f"{version}-{digest[:12]}"


class Installer:
    """One release on one host."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.releases = Path(self.params["releases"])
        self.progress = Progress(self.params["progress_file"])
        self.archives: list[dict[str, t.Any]] = [dict(item) for item in self.params["archives"]]
        self.downloader = Downloader(self.params, self.progress)

    def installed(self) -> Path | None:
        """A complete release of this version from these archives. Checksums that are not given are those it was installed with."""
        wanted = [(base_name(item["url"]), item["sha256"]) for item in self.archives]
        for marker_file in sorted(self.releases.glob(f"*/{_MARKER}")):
            marker = json.loads(marker_file.read_text(encoding="utf-8"))
            have = marker["archives"] if marker["version"] == self.params["version"] else []
            if len(have) == len(wanted) and all(file == old[0] and digest in (None, old[1]) for (file, digest), old in zip(wanted, have)):
                for item, old in zip(self.archives, have):
                    item["sha256"] = old[1]
                return marker_file.parent
        return None

    def complete_checksums(self) -> None:
        missing = [item for item in self.archives if not item["sha256"]]
        if not missing:
            return
        url = self.params["checksums_url"]
        if not url:
            raise http.ApiError(CHECKSUM, f"{missing[0]['url']} has no checksum, and there is no checksums_url to take it from")
        listed = parse_checksums(self.downloader.open(url).read().decode("utf-8", "replace"))
        for item in missing:
            name = base_name(item["url"])
            if name not in listed:
                raise http.ApiError(CHECKSUM, f"{url} has no checksum of {name}")
            item["sha256"] = listed[name]

    def install(self, release: Path) -> None:
        self.releases.mkdir(parents=True, exist_ok=True)
        for left in self.releases.glob(".partial-*"):
            shutil.rmtree(left)
        # On the file system of its final place, so that the rename at the end is one step.
        partial = self.releases / f".partial-{release.name}"
        tree = partial / "tree"
        tree.mkdir(parents=True)
        try:
            paths = [partial / f"archive-{number}" for number in range(len(self.archives))]
            for item, path in zip(self.archives, paths):
                self.downloader.download(item["url"], item["sha256"], path)
            for item, path in zip(self.archives, paths):
                self.unpack(item["url"], path, tree)
            if not (tree / self.params["creates"]).exists():
                raise http.ApiError(http.PROTOCOL, f"{self.archives[0]['url']} does not hold {self.params['creates']}")
            marker = {"version": self.params["version"], "archives": [[base_name(item["url"]), item["sha256"]] for item in self.archives]}
            (tree / _MARKER).write_text(json.dumps(marker), encoding="utf-8")
            os.sync()
            if release.is_dir():
                shutil.rmtree(release)  # of the right name, but without the marker: not complete
            tree.rename(release)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def unpack(self, url: str, path: Path, tree: Path) -> None:
        self.progress.update(base_name(url), "unpacking")
        # An archive's own entry for its top folder must not decide who may enter the release.
        command = ["tar", "--extract", "--no-same-owner", "--no-same-permissions", "--no-overwrite-dir"]
        code, _out, err = self.module.run_command([*command, "--file", str(path), "--directory", str(tree)])
        if code:
            raise http.ApiError(http.PROTOCOL, f"{url} cannot be unpacked: {err.strip()}")

    def run(self) -> dict[str, t.Any]:
        for item in self.archives:
            if item["sha256"]:
                item["sha256"] = checked_sha256(item["sha256"], item["url"])
        release = self.installed()
        changed = release is None
        if release is None:
            self.complete_checksums()
            release = self.releases / release_id(self.params["version"], [item["sha256"] for item in self.archives])
            if not self.module.check_mode:
                self.install(release)
        return {
            "changed": changed,
            "release": str(release),
            "checksums": {base_name(item["url"]): item["sha256"] for item in self.archives},
            "diff": {"before": "" if changed else f"{release}\n", "after": f"{release}\n"},
        }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "releases": {"type": "path", "required": True},
            "version": {"type": "str", "required": True},
            "archives": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {"url": {"type": "str", "required": True}, "sha256": {"type": "str"}},
            },
            "checksums_url": {"type": "str"},
            "creates": {"type": "str", "required": True},
            **OPTIONS,
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    try:
        module.exit_json(**Installer(module).run())
    except http.ApiError as exc:
        module.fail_json(msg=exc.message, error=exc.as_dict())


if __name__ == "__main__":
    main()
