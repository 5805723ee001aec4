# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are replaced whole or not at all, and can be put back as they were."""

from __future__ import annotations

import base64
import contextlib
import grp
import json
import os
import pwd
import shutil
import stat
import tempfile
import typing as t


class Content(t.NamedTuple):
    """A regular file: its bytes, permission bits and numeric owner."""

    data: bytes
    mode: int
    uid: int
    gid: int


def user_id(name: str) -> int:
    return int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid


def group_id(name: str) -> int:
    return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid


def read(path: str) -> Content | None:
    """The file, or None where there is none."""
    try:
        with open(path, "rb") as handle:
            info = os.fstat(handle.fileno())
            return Content(handle.read(), stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _replacing(path: str, mode: int, uid: int, gid: int) -> t.Iterator[t.BinaryIO]:
    """A stream whose content becomes the file by a rename: readers see the old one or the new one, and never with wider permissions."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            os.fchown(stream.fileno(), uid, gid)
            os.fchmod(stream.fileno(), mode)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write(path: str, content: Content) -> None:
    with _replacing(path, content.mode, content.uid, content.gid) as stream:
        stream.write(content.data)


def copy(source: str, path: str) -> None:
    """Copy a file of any size, owner and permissions included."""
    with open(source, "rb") as old:
        info = os.fstat(old.fileno())
        with _replacing(path, stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) as stream:
            shutil.copyfileobj(old, stream)


def remove(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def link_target(path: str) -> str | None:
    """Where a symbolic link points, or None where there is none."""
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise ValueError(f"{path} is there and is not a symbolic link: move it away, it belongs to the deploy") from exc


def point_link(path: str, target: str | None) -> None:
    """Move a symbolic link in one step, or remove it for None."""
    if target is None:
        remove(path)
        return
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    temporary = f"{path}.new"
    remove(temporary)
    os.symlink(target, temporary)
    os.replace(temporary, path)


class Snapshot(t.NamedTuple):
    """A set of files and links as they are at one moment; None stands for "not there"."""

    files: dict[str, Content | None]
    links: dict[str, str | None]

    @classmethod
    def take(cls, files: t.Iterable[str], links: t.Iterable[str]) -> Snapshot:
        return cls({path: read(path) for path in files}, {path: link_target(path) for path in links})

    def restore(self) -> None:
        for path, content in self.files.items():
            if content is None:
                remove(path)
            else:
                write(path, content)
        for path, target in self.links.items():
            point_link(path, target)

    def dump(self) -> bytes:
        return json.dumps(
            {
                "files": {p: c and [base64.b64encode(c.data).decode(), c.mode, c.uid, c.gid] for p, c in self.files.items()},
                "links": self.links,
            }
        ).encode()

    @classmethod
    def load(cls, data: bytes) -> Snapshot:
        raw = json.loads(data)
        return cls(
            {p: c and Content(base64.b64decode(c[0]), c[1], c[2], c[3]) for p, c in raw["files"].items()},
            dict(raw["links"]),
        )
