# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import io
import tarfile
import typing as t
from http.client import IncompleteRead
from pathlib import Path
from urllib.error import URLError

import pytest

from ansible_collections.selfhosted.llm.plugins.modules import release_archive
from ansible_collections.selfhosted.llm.tests.unit.scripted_http import ScriptedHttp, run_module

BASE = "https://mirror.example.org/v1"


def archive(**files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size, info.mode = len(text), 0o755
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


MAIN = archive(bin__ollama="one", lib__a="a")
EXTRA = archive(lib__b="b")


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[ScriptedHttp]:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    scripted = ScriptedHttp(monkeypatch, "ansible_collections.selfhosted.llm.plugins.module_utils.download.open_url")
    yield scripted
    scripted.done()


@pytest.fixture
def install(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> t.Callable[..., dict[str, t.Any]]:
    def call(*archives: tuple[str, str | None], check_mode: bool = False, **options: t.Any) -> dict[str, t.Any]:
        arguments = {
            "releases": str(tmp_path / "releases"),
            "version": "1.0",
            "creates": "bin/ollama",
            "archives": [{"url": f"{BASE}/{name}", **({"sha256": digest} if digest else {})} for name, digest in archives],
            **options,
        }
        return run_module(capsys, release_archive.main, arguments, check_mode)

    return call


def names(tmp_path: Path) -> list[str]:
    folder = tmp_path / "releases"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_installs_once(mirror: ScriptedHttp, install: t.Any, tmp_path: Path) -> None:
    mirror.expect("GET", "/v1/a.tgz", answer=MAIN, headers={"Content-Length": str(len(MAIN))})
    result = install(("a.tgz", sha256(MAIN).upper()))
    release = tmp_path / "releases" / f"1.0-{sha256(MAIN)[:12]}"
    assert result["changed"]
    assert result["release"] == str(release)
    assert result["checksums"] == {"a.tgz": sha256(MAIN)}
    assert (release / "bin/ollama").read_text() == "one"
    assert release.stat().st_mode & 0o777 == 0o755
    assert names(tmp_path) == [release.name]
    assert not install(("a.tgz", sha256(MAIN)))["changed"]


def test_a_wrong_checksum_installs_nothing(mirror: ScriptedHttp, install: t.Any, tmp_path: Path) -> None:
    mirror.expect("GET", "/v1/a.tgz", answer=MAIN)
    result = install(("a.tgz", "0" * 64))
    assert result["failed"]
    assert result["error"]["layer"] == "checksum"
    assert sha256(MAIN) in result["msg"]
    assert names(tmp_path) == []


def test_one_wrong_checksum_of_two_installs_nothing(mirror: ScriptedHttp, install: t.Any, tmp_path: Path) -> None:
    mirror.expect("GET", "/v1/a.tgz", answer=MAIN)
    mirror.expect("GET", "/v1/b.tgz", answer=EXTRA)
    assert install(("a.tgz", sha256(MAIN)), ("b.tgz", "0" * 64))["failed"]
    assert names(tmp_path) == []


def test_several_archives_are_one_release(mirror: ScriptedHttp, install: t.Any) -> None:
    mirror.expect("GET", "/v1/a.tgz", answer=MAIN)
    mirror.expect("GET", "/v1/b.tgz", answer=EXTRA)
    result = install(("a.tgz", sha256(MAIN)), ("b.tgz", sha256(EXTRA)))
    release = Path(result["release"])
    assert (release / "lib/a").exists()
    assert (release / "lib/b").exists()
    assert release.name != f"1.0-{sha256(MAIN)[:12]}"
    assert not install(("a.tgz", sha256(MAIN)), ("b.tgz", sha256(EXTRA)))["changed"]


def test_checksums_of_the_release_are_read_once(mirror: ScriptedHttp, install: t.Any) -> None:
    listing = f"{sha256(EXTRA)}  ./other.tgz\n{sha256(MAIN)}  ./a.tgz\n"
    mirror.expect("GET", "/v1/sha256sum.txt", answer=listing)
    mirror.expect("GET", "/v1/a.tgz", answer=MAIN)
    first = install(("a.tgz", None), checksums_url=f"{BASE}/sha256sum.txt")
    assert first["changed"]
    second = install(("a.tgz", None), checksums_url=f"{BASE}/sha256sum.txt")
    assert not second["changed"]
    assert second["release"] == first["release"]


@pytest.mark.parametrize(("digest", "options"), [(None, {}), ("abc", {})])
def test_without_a_checksum_nothing_is_downloaded(install: t.Any, mirror: ScriptedHttp, digest: str | None, options: t.Any) -> None:
    assert install(("a.tgz", digest), **options)["error"]["layer"] == "checksum"
    assert mirror.seen == []


def test_a_list_without_the_archive(mirror: ScriptedHttp, install: t.Any) -> None:
    mirror.expect("GET", "/v1/sha256sum.txt", answer="nothing of it\n")
    assert "has no checksum of a.tgz" in install(("a.tgz", None), checksums_url=f"{BASE}/sha256sum.txt")["msg"]


def test_an_interrupted_download_goes_on(mirror: ScriptedHttp, install: t.Any) -> None:
    mirror.expect("GET", "/v1/a.tgz", answer=MAIN[:50], headers={"Content-Length": str(len(MAIN))}, breaks_off=IncompleteRead(b""))
    mirror.expect("GET", "/v1/a.tgz", answer=MAIN[50:], status=206, headers={"Content-Length": str(len(MAIN) - 50)})
    assert install(("a.tgz", sha256(MAIN)))["changed"]
    assert mirror.requests[1]["headers"] == {"Range": "bytes=50-"}


def test_a_server_without_ranges_starts_over(mirror: ScriptedHttp, install: t.Any) -> None:
    mirror.expect("GET", "/v1/a.tgz", answer=MAIN[:50], headers={"Content-Length": str(len(MAIN))})
    mirror.expect("GET", "/v1/a.tgz", answer=MAIN, headers={"Content-Length": str(len(MAIN))})
    assert install(("a.tgz", sha256(MAIN)))["changed"]


def test_an_archive_that_is_not_there_is_not_asked_for_again(mirror: ScriptedHttp, install: t.Any, tmp_path: Path) -> None:
    mirror.expect("GET", "/v1/a.tgz", status=404)
    result = install(("a.tgz", sha256(MAIN)))
    assert result["error"]["status"] == 404
    assert names(tmp_path) == []


def test_a_mirror_that_is_down(mirror: ScriptedHttp, install: t.Any) -> None:
    for _attempt in range(2):
        mirror.expect("GET", "/v1/a.tgz", error=URLError(ConnectionRefusedError(111, "Connection refused")))
    assert install(("a.tgz", sha256(MAIN)), retries=1)["error"]["layer"] == "refused"


@pytest.mark.parametrize(("data", "part"), [(b"not an archive", "cannot be unpacked"), (EXTRA, "does not hold bin/ollama")])
def test_an_archive_that_is_none(mirror: ScriptedHttp, install: t.Any, tmp_path: Path, data: bytes, part: str) -> None:
    mirror.expect("GET", "/v1/a.tgz", answer=data)
    assert part in install(("a.tgz", sha256(data)))["msg"]
    assert names(tmp_path) == []


def test_what_a_cut_off_run_left_is_cleared(mirror: ScriptedHttp, install: t.Any, tmp_path: Path) -> None:
    release = f"1.0-{sha256(MAIN)[:12]}"
    (tmp_path / "releases" / release).mkdir(parents=True)
    (tmp_path / "releases" / ".partial-1.0-x" / "tree").mkdir(parents=True)
    mirror.expect("GET", "/v1/a.tgz", answer=MAIN)
    assert install(("a.tgz", sha256(MAIN)))["changed"]
    assert names(tmp_path) == [release]


def test_check_mode_downloads_nothing(install: t.Any, mirror: ScriptedHttp, tmp_path: Path) -> None:
    result = install(("a.tgz", sha256(MAIN)), check_mode=True)
    assert result["changed"]
    assert result["release"].endswith(f"releases/1.0-{sha256(MAIN)[:12]}")
    assert names(tmp_path) == []
    assert mirror.seen == []
