# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads of files whose checksum is known. An interrupted one goes on from where it stopped."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
import typing as t
from pathlib import Path
from urllib.error import HTTPError

from ansible.module_utils.urls import open_url

from ansible_collections.selfhosted.llm.plugins.module_utils import http
from ansible_collections.selfhosted.llm.plugins.module_utils.progress import Progress

# Layers of an ApiError that only a download has.
CHECKSUM = "checksum"
DISK = "disk"

SHA256 = re.compile(r"[0-9a-f]{64}")

# The part of a module's argument_spec that a Downloader reads.
OPTIONS: dict[str, dict[str, t.Any]] = {
    "ca_path": {"type": "path"},
    "proxy_url": {"type": "str"},
    "no_proxy": {"type": "str"},
    "timeout": {"type": "int", "default": 60},
    "retries": {"type": "int", "default": 3},
    "progress_interval": {"type": "int", "default": 5},
    "progress_file": {"type": "path"},
}


def base_name(url: str) -> str:
    return url.split("?", 1)[0].rstrip("/").rsplit("/", 1)[-1]


def checked_sha256(digest: str, url: str) -> str:
    """A checksum as it is compared. ApiError where it is none."""
    digest = digest.strip().lower()
    if not SHA256.fullmatch(digest):
        raise http.ApiError(CHECKSUM, f"the checksum of {url} is not a SHA-256: {digest!r}")
    return digest


def sha256_of(path: Path, seen: t.Callable[[int], None] = lambda _done: None) -> str:
    """The checksum of a file. `seen` is told how many bytes were read so far."""
    digest = hashlib.sha256()
    done = 0
    with path.open("rb") as handle:
        for chunk in iter(lambda: handle.read(1 << 20), b""):
            digest.update(chunk)
            done += len(chunk)
            seen(done)
    return digest.hexdigest()


class Downloader:
    """How a host reaches what it downloads. `params` are those of a module that has OPTIONS."""

    def __init__(self, params: t.Mapping[str, t.Any], progress: Progress) -> None:
        self._ca_path: str | None = params["ca_path"]
        self._timeout: int = params["timeout"]
        self._retries: int = params["retries"]
        self._progress = progress
        for variables, value in ((("http_proxy", "https_proxy"), params["proxy_url"]), (("no_proxy",), params["no_proxy"])):
            for name in variables if value else ():
                os.environ[name] = os.environ[name.upper()] = value

    def open(self, url: str, offset: int = 0) -> t.Any:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            return open_url(
                url,
                headers=headers,
                timeout=self._timeout,
                ca_path=self._ca_path,
                http_agent="selfhosted.llm",
                decompress=False,
            )
        except HTTPError as exc:
            if exc.code == 416:
                return exc
            raise http.classify_status(exc.code, "", url) from exc
        except Exception as exc:
            raise http.classify(exc, url) from exc

    def download(self, url: str, sha256: str, path: Path) -> None:
        """Fill the file at `path`, and compare its checksum."""
        for attempt in range(self._retries + 1):
            try:
                self._fetch(url, path)
                break
            except http.ApiError as exc:
                permanent = (exc.status is not None and exc.status < 500) or exc.layer in (http.TLS, http.DNS)
                if permanent or attempt == self._retries:
                    raise
                self._progress.update(base_name(url), "interrupted, trying again")
                time.sleep(2.0 * 2**attempt)
        size = path.stat().st_size
        found = sha256_of(path, lambda done: self._progress.update(base_name(url), "verifying", done, size))
        if found != sha256:
            raise http.ApiError(CHECKSUM, f"{url} has the checksum {found}, expected was {sha256}. Nothing of it was installed.")

    def _fetch(self, url: str, path: Path) -> None:
        """Fills the file at `path`, from where an earlier try left it."""
        offset = path.stat().st_size if path.exists() else 0
        raw = self.open(url, offset)
        status = raw.getcode()
        if status == 416:
            return  # nothing is left to fetch; the checksum tells whether it is right
        offset = offset if status == 206 else 0
        total = offset + int(raw.headers.get("Content-Length") or 0)
        done = offset
        try:
            with path.open("ab" if offset else "wb") as handle:
                for chunk in iter(lambda: raw.read(1 << 18), b""):
                    handle.write(chunk)
                    done += len(chunk)
                    self._progress.update(base_name(url), "downloading", done, total)
        except OSError as exc:
            if exc.errno == errno.ENOSPC:
                raise http.ApiError(DISK, f"cannot write {path}: {exc}", 0) from exc
            raise http.classify(exc, url) from exc
        except Exception as exc:
            raise http.classify(exc, url) from exc
        if done < total:
            raise http.ApiError(http.PROTOCOL, f"{url}: the answer broke off after {done} of {total} bytes")
