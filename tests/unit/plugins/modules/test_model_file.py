# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import os
import typing as t
from http.client import IncompleteRead
from pathlib import Path

import pytest

from ansible_collections.selfhosted.llm.plugins.modules import model_file
from ansible_collections.selfhosted.llm.tests.unit.scripted_http import ScriptedHttp, run_module

DATA = b"GGUF" + bytes(range(256))
SHA256 = hashlib.sha256(DATA).hexdigest()
LENGTH = {"Content-Length": str(len(DATA))}


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[ScriptedHttp]:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    scripted = ScriptedHttp(monkeypatch, "ansible_collections.selfhosted.llm.plugins.module_utils.download.open_url")
    yield scripted
    scripted.done()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tmp_path / "models/0123/tiny.gguf"


@pytest.fixture
def bring(capsys: pytest.CaptureFixture[str], model: Path, mirror: ScriptedHttp) -> t.Callable[..., dict[str, t.Any]]:
    del mirror

    def call(sha256: str = SHA256, check_mode: bool = False, **options: t.Any) -> dict[str, t.Any]:
        files = [{"path": str(model), "url": "https://models.example.org/tiny.gguf?download=true", "sha256": sha256}]
        return run_module(capsys, model_file.main, {"files": files, **options}, check_mode)

    return call


def test_downloaded_once_and_read_once(mirror: ScriptedHttp, bring: t.Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror.expect("GET", "/tiny.gguf?download=true", answer=DATA, headers=LENGTH)
    first = bring(SHA256.upper())
    assert (first["changed"], first["downloaded"]) == (True, [str(model)])
    assert model.read_bytes() == DATA
    assert model.stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in model.parent.iterdir()) == [".tiny.gguf.verified", "tiny.gguf"]
    monkeypatch.setattr(model_file, "sha256_of", lambda *_args: pytest.fail("it was read again"))
    assert not bring()["changed"]


def test_what_was_changed_is_noticed(mirror: ScriptedHttp, bring: t.Any, model: Path) -> None:
    mirror.expect("GET", "/tiny.gguf?download=true", answer=DATA)
    bring()
    # Of the same size, as a bad disk would leave it.
    model.write_bytes(DATA[::-1])
    os.utime(model, ns=(1, 1))
    mirror.expect("GET", "/tiny.gguf?download=true", answer=DATA)
    assert bring()["downloaded"] == [str(model)]
    assert model.read_bytes() == DATA


def test_a_file_that_was_brought_by_hand_is_kept(bring: t.Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model.parent.mkdir(parents=True)
    model.write_bytes(DATA)
    planned = bring(check_mode=True)
    assert (planned["changed"], planned["unverified"]) == (False, [str(model)])
    # The note is still to be written: a check writes none.
    assert bring()["unverified"] == [str(model)]
    monkeypatch.setattr(model_file, "sha256_of", lambda *_args: pytest.fail("it was read again"))
    assert bring()["unverified"] == []


def test_an_interrupted_download_goes_on_in_the_next_run(mirror: ScriptedHttp, bring: t.Any, model: Path) -> None:
    mirror.expect("GET", "/tiny.gguf?download=true", answer=DATA[:100], headers=LENGTH, breaks_off=IncompleteRead(b""))
    assert bring(retries=0)["failed"]
    assert not model.exists()
    mirror.expect("GET", "/tiny.gguf?download=true", answer=DATA[100:], status=206, headers={"Content-Length": str(len(DATA) - 100)})
    assert bring(retries=0)["changed"]
    assert mirror.requests[1]["headers"] == {"Range": "bytes=100-"}
    assert model.read_bytes() == DATA


def test_what_has_another_checksum_is_not_installed(mirror: ScriptedHttp, bring: t.Any, model: Path) -> None:
    mirror.expect("GET", "/tiny.gguf?download=true", answer=DATA)
    result = bring("0" * 64)
    assert (result["failed"], result["error"]["layer"]) == (True, "checksum")
    assert SHA256 in result["msg"]
    assert not model.parent.exists()


def test_the_model_that_is_there_stays_until_the_new_one_is_right(mirror: ScriptedHttp, bring: t.Any, model: Path) -> None:
    model.parent.mkdir(parents=True)
    model.write_bytes(b"old")
    mirror.expect("GET", "/tiny.gguf?download=true", status=404)
    assert bring()["error"]["status"] == 404
    assert model.read_bytes() == b"old"


def test_a_check_downloads_nothing(bring: t.Any, model: Path) -> None:
    result = bring(check_mode=True)
    assert (result["changed"], result["downloaded"]) == (True, [str(model)])
    assert result["diff"]["after"] == f"{model}\n"
    assert not model.parent.exists()


def test_a_checksum_that_is_none(bring: t.Any) -> None:
    assert "is not a SHA-256: 'abc'" in bring("abc")["msg"]


def test_a_folder_that_cannot_be_written(bring: t.Any, model: Path) -> None:
    model.parent.parent.write_text("a file")
    result = bring()
    assert (result["failed"], result["error"]["layer"]) == (True, "disk")
