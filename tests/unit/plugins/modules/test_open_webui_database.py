# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.selfhosted.llm.plugins.module_utils.postgresql import PostgresError, parse_url
from ansible_collections.selfhosted.llm.plugins.modules import open_webui_database
from ansible_collections.selfhosted.llm.tests.unit.scripted_http import run_module

URL = "postgresql://webui:p%40ss-word-of-the-database@db.example:5432/webui"
PASSWORD = "p@ss-word-of-the-database"
MIGRATIONS = {
    "a": "revision = 'aaa'\ndown_revision = None\n",
    "b": 'revision: str = "bbb"\ndown_revision: Union[str, None] = "aaa"\n',
    "c": "revision: str = 'ccc'\ndown_revision: Union[str, Sequence[str], None] = ('aaa', 'bbb')\n",
}


class FakeConnection:
    """A server; what a test does not set is a fresh database of a server without pgvector."""

    failure: PostgresError | None = None
    revisions: t.ClassVar[list[str]] = []
    extension: str | None = None  # installed: t, available: f
    may_create = "f"
    version = 15

    def __init__(self, target: t.Any, ca_bundle: str = "") -> None:
        del ca_bundle
        if self.failure:
            raise self.failure
        self.target = target

    def __enter__(self) -> FakeConnection:
        return self

    def __exit__(self, *_exc: object) -> None:
        pass

    def value(self, sql: str) -> str | None:
        if "to_regclass" in sql:
            assert '"public".alembic_version' in sql or "public.alembic_version" in sql
            return "t" if self.revisions else "f"
        return self.may_create

    def query(self, sql: str) -> list[tuple[str | None, ...]]:
        if "pg_available_extensions" in sql:
            return [(self.extension,)] if self.extension else []
        return [(name,) for name in self.revisions]


Run = t.Callable[..., dict[str, t.Any]]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> type[FakeConnection]:
    class Server(FakeConnection):
        pass

    monkeypatch.setattr(open_webui_database, "Connection", Server)
    return Server


@pytest.fixture
def release(tmp_path: Path) -> Path:
    versions = tmp_path / "release" / "lib" / "python3.11" / "site-packages" / "open_webui" / "migrations" / "versions"
    versions.mkdir(parents=True)
    for name, text in MIGRATIONS.items():
        (versions / f"{name}_x.py").write_text(text, encoding="utf-8")
    return tmp_path / "release"


@pytest.fixture
def dumps(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, t.Any]]:
    """What pg_dump was called with. It writes a file, unless its code is set."""
    calls: list[dict[str, t.Any]] = []

    def run(command: list[str], **options: t.Any) -> subprocess.CompletedProcess[str]:
        calls.append({"command": command, **options})
        path = next(word for word in command if word.startswith("--file=")).partition("=")[2]
        Path(path).write_text("dump", encoding="utf-8")
        stderr = f"pg_dump: error: server version mismatch, password {PASSWORD}"
        return subprocess.CompletedProcess(command, calls[0].get("code", 0), "", stderr)

    monkeypatch.setattr(open_webui_database, "dump_programs", lambda: ["/usr/lib/postgresql/15/bin/pg_dump"])
    monkeypatch.setattr(open_webui_database.subprocess, "run", run)
    return calls


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, release: Path, server: type[FakeConnection]) -> Run:
    def call(check_mode: bool = False, **options: t.Any) -> dict[str, t.Any]:
        arguments = {"url": URL, "release": str(release), "backup_dir": str(tmp_path / "backups"), **options}
        result = run_module(capsys, open_webui_database.main, arguments, check_mode)
        assert PASSWORD not in str(result)
        return result

    return call


def test_the_last_of_a_release(release: Path) -> None:
    found = open_webui_database.shipped(str(release))
    assert found
    assert (found.known, found.heads) == ({"aaa", "bbb", "ccc"}, {"ccc"})
    assert open_webui_database.shipped("/nonexistent") is None


def test_a_fresh_database_has_nothing_to_dump(run: Run, dumps: list[t.Any]) -> None:
    result = run()
    assert (result["changed"], result["migration_needed"], result["backup_needed"], result["revision"]) == (False, True, False, "")
    assert dumps == []


def test_a_database_of_this_release(run: Run, server: type[FakeConnection], dumps: list[t.Any]) -> None:
    server.revisions = ["ccc"]
    result = run()
    assert (result["changed"], result["migration_needed"], result["revision"]) == (False, False, "ccc")
    assert dumps == []


def test_it_is_dumped_before_it_is_migrated(run: Run, server: type[FakeConnection], dumps: list[t.Any], tmp_path: Path) -> None:
    server.revisions = ["bbb"]
    result = run()
    assert result["changed"]
    path = Path(result["backup"])
    assert path.read_text(encoding="utf-8") == "dump"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert path.parent.stat().st_mode & 0o777 == 0o700
    # The password is in the environment alone, which only root can read.
    assert PASSWORD not in " ".join(dumps[0]["command"])
    assert dumps[0]["env"]["PGPASSWORD"] == PASSWORD


def test_check_mode_dumps_nothing(run: Run, server: type[FakeConnection], dumps: list[t.Any], tmp_path: Path) -> None:
    server.revisions = ["bbb"]
    result = run(check_mode=True)
    assert (result["changed"], result["backup_needed"]) == (True, True)
    assert dumps == []
    assert not (tmp_path / "backups").exists()


def test_no_dump_is_wanted(run: Run, server: type[FakeConnection], dumps: list[t.Any]) -> None:
    server.revisions = ["bbb"]
    result = run(backup=False)
    assert (result["changed"], result["migration_needed"], dumps) == (False, True, [])


def test_a_dump_that_fails_leaves_nothing(run: Run, server: type[FakeConnection], dumps: list[t.Any], tmp_path: Path) -> None:
    server.revisions = ["bbb"]
    dumps.append({"code": 1})
    result = run()
    assert result["failed"]
    assert "nothing was changed" in result["msg"]
    assert "open_webui_postgresql_client" in result["msg"]
    assert list((tmp_path / "backups").iterdir()) == []


def test_no_pg_dump(run: Run, server: type[FakeConnection], monkeypatch: pytest.MonkeyPatch) -> None:
    server.revisions = ["bbb"]
    monkeypatch.setattr(open_webui_database, "dump_programs", list)
    monkeypatch.setattr(open_webui_database.shutil, "which", lambda _name: None)
    assert "open_webui_postgresql_client" in run()["msg"]


def test_old_dumps_go(run: Run, server: type[FakeConnection], dumps: list[t.Any], tmp_path: Path) -> None:
    server.revisions = ["bbb"]
    folder = tmp_path / "backups"
    folder.mkdir()
    for year in (2020, 2021, 2022):
        (folder / f"open-webui-{year}0101T000000Z.dump").touch()
    (folder / "mine.dump").touch()
    new = Path(run(keep_backups=2)["backup"]).name
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(["mine.dump", "open-webui-20220101T000000Z.dump", new])


def test_a_newer_database_is_refused(run: Run, server: type[FakeConnection], dumps: list[t.Any]) -> None:
    server.revisions = ["zzz"]
    result = run()
    assert result["failed"]
    assert "zzz, which this release does not know" in result["msg"]


def test_before_the_release_is_built(run: Run, server: type[FakeConnection], dumps: list[t.Any]) -> None:
    server.revisions = ["zzz"]
    assert run(check_mode=True, release="/nonexistent")["migration_needed"] is False


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_server_that_does_not_answer(run: Run, server: type[FakeConnection], check_mode: bool) -> None:
    server.failure = PostgresError("refused", "nothing listens there")
    result = run(check_mode=check_mode)
    assert result["failed"] is not check_mode
    words = result["reason"] if check_mode else result["msg"]
    assert words.startswith("open_webui_database_url: PostgreSQL at db.example:5432/webui (user webui) cannot be used")


def test_a_url_that_is_none(run: Run) -> None:
    assert run(url="mysql://x")["msg"].startswith("open_webui_database_url: its scheme is 'mysql'")


@pytest.mark.parametrize(
    ("extension", "may_create", "words"),
    [("t", "f", ""), ("f", "t", ""), ("f", "f", "CREATE EXTENSION vector"), (None, "t", "postgresql-15-pgvector")],
)
def test_vectors(run: Run, server: type[FakeConnection], extension: str | None, may_create: str, words: str) -> None:
    server.extension, server.may_create = extension, may_create
    result = run(vectors=True)
    assert result["failed"] is bool(words)
    assert words in result.get("msg", "")
    assert run(vectors=False)["failed"] is False


def test_the_url_of_the_tests() -> None:
    assert parse_url(URL).password == PASSWORD
