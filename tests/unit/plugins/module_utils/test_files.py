# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest

from ansible_collections.selfhosted.llm.plugins.module_utils import files
from ansible_collections.selfhosted.llm.plugins.module_utils.files import Content, Snapshot

ME = (os.geteuid(), os.getegid())


def content(data: bytes, mode: int = 0o640) -> Content:
    return Content(data, mode, *ME)


def test_accounts() -> None:
    user, group = pwd.getpwuid(0).pw_name, grp.getgrgid(0).gr_name
    assert (files.user_id(user), files.group_id(group)) == (0, 0)
    assert (files.user_id("1234"), files.group_id("1234")) == (1234, 1234)
    with pytest.raises(KeyError):
        files.user_id("no-such-user")
    with pytest.raises(KeyError):
        files.group_id("no-such-group")


def test_write_and_read(tmp_path: Path) -> None:
    path = str(tmp_path / "new/folder/file")
    assert files.read(path) is None
    files.write(path, content(b"\0one"))
    assert files.read(path) == content(b"\0one")
    files.write(path, content(b"two", 0o600))
    assert files.read(path) == content(b"two", 0o600)
    assert os.listdir(tmp_path / "new/folder") == ["file"]


def test_a_reader_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write(str(path), content(b"old"))
    with path.open("rb") as reader:
        files.write(str(path), content(b"new"))
        assert reader.read() == b"old"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    files.write(str(path), content(b"old"))

    def fail(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        files.write(str(path), content(b"secret"))
    assert os.listdir(tmp_path) == ["file"]
    assert path.read_bytes() == b"old"


def test_permissions_are_never_wider_than_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it has its owner, nobody but root may read it."""
    seen = []
    monkeypatch.setattr(os, "fchown", lambda handle, *_args: seen.append(os.fstat(handle).st_mode & 0o777))
    files.write(str(tmp_path / "file"), content(b"secret", 0o644))
    assert seen == [0o600]


def test_copy(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"x" * 3_000_000)
    source.chmod(0o604)
    target.write_bytes(b"old")
    files.copy(str(source), str(target))
    assert files.read(str(target)) == content(b"x" * 3_000_000, 0o604)
    with pytest.raises(FileNotFoundError):
        files.copy(str(tmp_path / "nothing"), str(target))
    assert sorted(os.listdir(tmp_path)) == ["source", "target"]


def test_remove(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert files.remove(str(tmp_path / "file"))
    assert not files.remove(str(tmp_path / "file"))


def test_links(tmp_path: Path) -> None:
    link = str(tmp_path / "app/current")
    assert files.link_target(link) is None
    files.point_link(link, "/releases/1")
    assert files.link_target(link) == "/releases/1"
    # A leftover of a run that was cut off is no obstacle.
    os.symlink("/leftover", f"{link}.new")
    files.point_link(link, "/releases/2")
    assert files.link_target(link) == "/releases/2"
    assert os.listdir(tmp_path / "app") == ["current"]
    files.point_link(link, None)
    assert files.link_target(link) is None
    files.point_link(link, None)


def test_what_is_no_link_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "current"
    path.mkdir()
    with pytest.raises(ValueError, match="is there and is not a symbolic link: move it away"):
        files.link_target(str(path))


def test_snapshot(tmp_path: Path) -> None:
    names = {name: str(tmp_path / name) for name in ("kept", "changed", "removed", "new", "link", "gone-link", "new-link")}
    for name in ("kept", "changed", "removed"):
        files.write(names[name], content(f"{name}\xff".encode("latin-1"), 0o604))
    os.symlink("/releases/1", names["link"])
    os.symlink("/releases/0", names["gone-link"])
    snapshot = Snapshot.take(
        [names[name] for name in ("kept", "changed", "removed", "new")], [names[name] for name in ("link", "gone-link", "new-link")]
    )
    recorded = Snapshot.load(snapshot.dump())
    assert recorded == snapshot

    files.write(names["changed"], content(b"other", 0o600))
    files.write(names["new"], content(b"new"))
    files.remove(names["removed"])
    for name in ("link", "new-link"):
        files.point_link(names[name], "/releases/2")
    files.point_link(names["gone-link"], None)

    recorded.restore()
    assert Snapshot.take(snapshot.files, snapshot.links) == snapshot
    assert files.read(names["changed"]) == content(b"changed\xff", 0o604)
    assert not os.path.lexists(names["new-link"])
