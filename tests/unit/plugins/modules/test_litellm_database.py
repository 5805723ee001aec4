# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Against a scripted server that keeps what a database would keep; programs are fakes."""

from __future__ import annotations

import os
import re
import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.selfhosted.llm.plugins.module_utils import migrations
from ansible_collections.selfhosted.llm.plugins.modules import litellm_database
from ansible_collections.selfhosted.llm.tests.unit.scripted_http import run_module
from ansible_collections.selfhosted.llm.tests.unit.scripted_postgresql import Server, ServerError

Results = dict[str, t.Any]
SALT = "sk-salt-Zq7wR2mT9xLb4vNc8hYd3kGf6pSj"
NAMES = ("20250101000000_one", "20250202000000_two")


class Database:
    """The state behind the scripted server."""

    def __init__(self, **settings: t.Any) -> None:
        self.facts: dict[str, str] = {}
        self.migrations: dict[str, bool] = {}
        self.pid = "42"
        self.read_only = "f"
        self.may_create = ["t", "t"]
        self.busy = 0
        self.server = Server(
            [
                ("pg_backend_pid", lambda _sql: [(self.pid, self.read_only, *self.may_create, "97")]),
                (r"to_regclass\('selfhosted_llm.facts'\)", lambda _sql: [("t" if self.facts else "f",)]),
                (r"to_regclass", lambda _sql: [("t" if self.migrations else "f",)]),
                (r"SELECT value FROM selfhosted_llm.facts WHERE name = '(.*)'", self._fact),
                (r"count\(\*\) FROM pg_class", lambda _sql: [(str(len(self.migrations)),)]),
                (r"FROM \"public\"._prisma_migrations", lambda _sql: [(n, "t" if ok else "f") for n, ok in self.migrations.items()]),
                (r"pg_try_advisory_lock", self._lock),
                (r"INSERT INTO selfhosted_llm.facts VALUES \('(.*?)', '(.*?)'", self._remember),
            ],
            **settings,
        )

    def _fact(self, sql: str) -> t.Any:
        name = re.findall(r"name = '(.*)'", sql)[0]
        return [(self.facts[name],)] if name in self.facts else []

    def _remember(self, sql: str) -> None:
        name, value = re.findall(r"VALUES \('(.*?)', '(.*?)'", sql)[0]
        self.facts[name] = value

    def _lock(self, _sql: str) -> t.Any:
        self.busy -= 1
        return [("f" if self.busy >= 0 else "t",)]


class Programs:
    """subprocess.run: `runs` has the commands and their environments."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.runs: list[tuple[list[str], dict[str, str]]] = []
        self.code = 0
        self.output = ""
        self.applies = list(NAMES)
        self.fails_at = ""
        self.dump_error = ""
        self.config = ""

    def __call__(self, command: list[str], env: dict[str, str], **_more: t.Any) -> subprocess.CompletedProcess[str]:
        self.runs.append((command, env))
        if "pg_dump" in command[0]:
            target = next(word for word in command if word.startswith("--file="))[len("--file=") :]
            Path(target).write_text("dump")
            return subprocess.CompletedProcess(command, 1 if self.dump_error else 0, "", self.dump_error)
        self.config = Path(command[command.index("--config") + 1]).read_text()
        self.database.migrations.update(dict.fromkeys(self.applies, True))
        if self.fails_at:
            self.database.migrations[self.fails_at] = False
        return subprocess.CompletedProcess(command, self.code, self.output, "")


@pytest.fixture
def database() -> t.Iterator[Database]:
    made = Database()
    yield made
    made.server.close()


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, database: Database) -> Programs:
    fake = Programs(database)
    monkeypatch.setattr(subprocess, "run", fake)
    monkeypatch.setattr(os, "umask", lambda _mask: 0)
    monkeypatch.setattr(os, "chown", lambda *_args: None)
    monkeypatch.setattr(migrations, "dump_programs", lambda: ["/usr/lib/postgresql/15/bin/pg_dump"])
    monkeypatch.setattr(migrations.time, "sleep", lambda _seconds: None)
    return fake


Run = t.Callable[..., Results]


@pytest.fixture
def run(tmp_path: Path, database: Database, programs: Programs, capsys: pytest.CaptureFixture[str]) -> Run:
    packages = tmp_path / "release/lib/python3.11/site-packages"
    (packages / "litellm_proxy_extras-0.4.108.dist-info").mkdir(parents=True)
    for name in NAMES:
        folder = packages / "litellm_proxy_extras/migrations" / name
        folder.mkdir(parents=True)
        (folder / "migration.sql").touch()

    def call(action: str, check_mode: bool = False, fails: bool = False, **changes: t.Any) -> Results:
        options = {"action": action, "url": database.server.url(), "salt_key": SALT}
        if action == "migrate":
            options.update(
                {
                    "release": str(tmp_path / "release"),
                    "config": "model_list: []\n",
                    "user": "root",
                    "backup_dir": str(tmp_path / "backups"),
                    "environment": {"DISABLE_SCHEMA_UPDATE": "true", "NUM_WORKERS": 4},
                    "secrets": {"LITELLM_MASTER_KEY": "sk-master"},
                }
            )
        result = run_module(capsys, litellm_database.main, {**options, **changes}, check_mode)
        assert bool(result.get("failed")) == fails, result
        # Whatever happens, nobody learns a secret.
        assert SALT not in str(result)
        return result

    return call


# Check


def test_a_database_that_can_be_used(run: Run, programs: Programs, database: Database) -> None:
    result = run("check", connections=97)
    assert (result["changed"], result["reachable"], result["server"]) == (False, True, {"version": 15, "encrypted": False, "pooled": False})
    assert "warnings" not in result
    assert programs.runs == []
    assert not any(word in sql for sql in database.server.seen for word in ("INSERT", "CREATE SCHEMA", "advisory"))


def test_too_few_connections_are_told(run: Run) -> None:
    assert run("check", connections=98)["changed"] is False


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"read_only": "t"}, "is read-only, a standby perhaps. Name the primary."),
        ({"may_create": ["f", "t"]}, 'GRANT ALL ON SCHEMA "public" TO "user";'),
        ({"may_create": ["t", "f"]}, 'CREATE SCHEMA selfhosted_llm AUTHORIZATION "user";'),
        ({"pid": "77"}, "through a connection pooler, which cannot hold the lock of a migration. Set litellm_proxy_direct_database_url"),
    ],
)
def test_a_database_that_cannot_be_used(run: Run, database: Database, state: dict[str, t.Any], message: str) -> None:
    vars(database).update(state)
    for action in ("check", "migrate"):
        result = run(action, fails=True)
        assert result["msg"].startswith("litellm_proxy_database_url: PostgreSQL at 127.0.0.1:")
        assert message in result["msg"]


def test_an_old_server(run: Run) -> None:
    old = Server([("pg_backend_pid", [("42", "f", "t", "t", "97")])], version="12.4")
    assert "is version 12. LiteLLM needs 13 or newer" in run("check", url=old.url(), fails=True)["msg"]
    old.close()


def test_a_pooler_with_a_direct_url(run: Run, database: Database) -> None:
    pooler = Server([("pg_backend_pid", [("77", "f", "t", "t", "97")])])
    result = run("check", url=pooler.url(), direct_url=database.server.url())
    assert result["server"]["pooled"] is True
    assert any("pg_backend_pid" in sql for sql in database.server.seen)
    pooler.close()


def test_messages_name_variable_and_remedy_and_never_the_password(run: Run, database: Database) -> None:
    wrong = database.server.url(password="hunter2")
    result = run("check", url=wrong, fails=True)
    assert re.match(
        r"litellm_proxy_database_url: PostgreSQL at 127.0.0.1:\d+/db \(user user\) cannot be used: password authentication failed .*"
        "Correct user and password; special characters",
        result["msg"],
    )
    assert "hunter2" not in str(result)
    result = run("check", direct_url=wrong, fails=True)
    assert result["msg"].startswith("litellm_proxy_direct_database_url: ")
    result = run("check", url="postgresql://u:hunter2#@h/d", fails=True, variable="open_webui_database_url")
    assert result["msg"].startswith("open_webui_database_url: ")
    assert "special characters of the password must be percent-encoded" in result["msg"]
    assert "hunter2" not in str(result)


def test_a_server_that_is_still_to_be_deployed(run: Run) -> None:
    gone = Server()
    gone.close()
    result = run("check", url=gone.url(), may_be_missing=True)
    assert (result["changed"], result["reachable"]) == (False, False)
    assert "nothing listens there. Start PostgreSQL there" in result["reason"]
    assert run("check", url=gone.url(), fails=True)["msg"] == result["reason"]
    # When it is time to migrate it has to be there; in check mode nothing is.
    assert run("migrate", url=gone.url(), may_be_missing=True, fails=True)["msg"] == result["reason"]
    checked = run("migrate", check_mode=True, url=gone.url(), may_be_missing=True)
    assert (checked["changed"], checked["migration_needed"], checked["work_to_do"], checked["backup_needed"]) == (True, True, True, False)


# Migrate


def test_an_empty_database(run: Run, programs: Programs, database: Database, tmp_path: Path) -> None:
    result = run("migrate")
    assert (result["changed"], result["pending"], result["migration_needed"]) == (True, list(NAMES), True)
    assert "backup" not in result
    assert result["diff"]["before"] == "".join(f"{name}\n" for name in NAMES)
    ((command, environment),) = programs.runs
    release = str(tmp_path / "release")
    assert command[:5] == ["setpriv", "--reuid=0", "--regid=0", "--init-groups", "--no-new-privs"]
    assert (command[5], command[-1]) == (f"{release}/bin/litellm", "--skip_server_startup")
    assert "pw" not in " ".join(command)
    assert programs.config == "model_list: []\n"
    assert "DISABLE_SCHEMA_UPDATE" not in environment
    assert environment["DATABASE_URL"] == database.server.url()
    assert "DIRECT_URL" not in environment
    assert (environment["NUM_WORKERS"], environment["LITELLM_MASTER_KEY"]) == ("1", "sk-master")
    assert environment["PATH"].startswith(f"{release}/prisma/bin:{release}/bin:")
    assert environment["PRISMA_BINARY_CACHE_DIR"] == f"{release}/prisma"
    assert not os.path.exists(environment["HOME"])
    assert database.facts["migrated 0.4.108"] == "release"
    assert migrations.matches(SALT, database.facts["salt_key"])


def test_the_second_time_there_is_nothing_to_do(run: Run, programs: Programs, database: Database) -> None:
    run("migrate")
    programs.runs.clear()
    database.server.seen.clear()
    result = run("migrate")
    assert (result["changed"], result["work_to_do"], result["pending"], programs.runs) == (False, False, [], [])
    assert not any("lock" in sql for sql in database.server.seen)


def test_check_mode_changes_nothing(run: Run, programs: Programs, database: Database) -> None:
    result = run("migrate", check_mode=True)
    assert (result["changed"], result["pending"], result["backup_needed"]) == (True, list(NAMES), False)
    assert (programs.runs, database.facts) == ([], {})
    assert run("migrate", check_mode=True, release="/nowhere")["migration_needed"] is True
    assert "does not exist or has no migrations" in run("migrate", release="/nowhere", fails=True)["msg"]


def test_a_database_with_tables_is_dumped_first(run: Run, programs: Programs, database: Database, tmp_path: Path) -> None:
    database.migrations = {NAMES[0]: True}
    (tmp_path / "backups").mkdir()
    for day in range(1, 7):
        (tmp_path / f"backups/litellm-2025010{day}T000000Z.dump").touch()
    assert run("migrate", check_mode=True)["backup_needed"] is True
    result = run("migrate", keep_backups=3)
    (dump, environment), (_job, _environment) = programs.runs
    assert dump[:2] == ["/usr/lib/postgresql/15/bin/pg_dump", "--no-password"]
    assert '--schema="public"' in dump
    assert "pw" not in " ".join(dump)
    assert (environment["PGPASSWORD"], environment["PGDATABASE"], environment["PGSSLMODE"]) == ("pw", "db", "prefer")
    assert re.search(r"/backups/litellm-\d{8}T\d{6}Z\.dump$", result["backup"])
    assert len(list((tmp_path / "backups").iterdir())) == 3
    assert len(result["removed_backups"]) == 4
    assert (tmp_path / "backups").stat().st_mode & 0o777 == 0o700


def test_no_dump_where_none_is_wanted(run: Run, programs: Programs, database: Database) -> None:
    database.migrations = {NAMES[0]: True}
    assert "backup" not in run("migrate", backup=False)
    assert len(programs.runs) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("pg_dump: error: out of memory", "the dump before the migration failed, nothing was migrated: pg_dump: error: out of memory"),
        ("aborting because of server version mismatch", "set litellm_proxy_postgresql_client to postgresql-client-15"),
    ],
)
def test_without_a_dump_nothing_is_migrated(
    run: Run, programs: Programs, database: Database, tmp_path: Path, words: str, message: str
) -> None:
    database.migrations = {NAMES[0]: True}
    programs.dump_error = words
    assert message in run("migrate", fails=True)["msg"]
    assert len(programs.runs) == 1
    assert list((tmp_path / "backups").iterdir()) == []


def test_no_program_to_dump_with(run: Run, monkeypatch: pytest.MonkeyPatch, database: Database) -> None:
    database.migrations = {NAMES[0]: True}
    monkeypatch.setattr(migrations, "dump_programs", list)
    monkeypatch.setattr(litellm_database.shutil, "which", lambda _name: None)
    assert "litellm_proxy_postgresql_client" in run("migrate", fails=True)["msg"]


def test_a_failed_migration(run: Run, programs: Programs, database: Database) -> None:
    programs.code, programs.applies, programs.fails_at = 2, [NAMES[0]], NAMES[1]
    programs.output = (
        "2026-01-01 00:00:00,000 - litellm_proxy_extras - INFO - noise\n"
        f"\x1b[1;31mcannot proceed with {database.server.url()}: P3018 pw\x1b[0m\n"
    )
    result = run("migrate", fails=True)
    assert result["msg"].startswith("the migration failed, the gateways were not touched. 20250202000000_two has begun and not ended")
    assert result["msg"].endswith("It said:\ncannot proceed with ********: P3018 ********")
    assert "migrated 0.4.108" not in database.facts


def test_a_job_that_says_it_is_done_and_is_not(run: Run, programs: Programs) -> None:
    programs.applies = [NAMES[0]]
    assert "1 migrations are still pending, 20250202000000_two the first" in run("migrate", fails=True)["msg"]


def test_the_job_that_was_cut_off_after_its_migrations_runs_again(run: Run, programs: Programs, database: Database) -> None:
    database.migrations = dict.fromkeys(NAMES, True)
    result = run("migrate")
    assert (result["changed"], result["pending"], len(programs.runs)) == (True, [], 2)


def test_one_of_two_deploys_at_once_migrates(run: Run, programs: Programs, database: Database) -> None:
    database.busy = 3

    def other(sql: str) -> t.Any:
        locked = Database._lock(database, sql)
        if database.busy == 0:
            database.migrations = dict.fromkeys(NAMES, True)
            database.facts = {"migrated 0.4.108": "release", "salt_key": migrations.fingerprint(SALT)}
        return locked

    database.server.answers.insert(0, ("pg_try_advisory_lock", other))
    result = run("migrate")
    assert (result["changed"], result["pending"], programs.runs) == (False, [], [])


def test_waiting_for_the_other_one_has_an_end(run: Run, programs: Programs, database: Database) -> None:
    database.busy = 1000
    assert "another deploy has been migrating this database for more than 0 s" in run("migrate", lock_timeout=0, fails=True)["msg"]
    assert programs.runs == []


def test_an_error_of_the_server_in_the_middle(run: Run, database: Database) -> None:
    database.server.answers.insert(0, ("_prisma_migrations WHERE", ServerError("42501", "permission denied for table _prisma_migrations")))
    database.migrations = {NAMES[0]: True}
    assert "permission denied for table _prisma_migrations. Make the user the owner" in run("migrate", fails=True)["msg"]


# The salt key


def test_another_salt_key_is_refused(run: Run, programs: Programs, database: Database) -> None:
    database.facts["salt_key"] = migrations.fingerprint("another")
    for action in ("check", "migrate"):
        assert run(action, fails=True)["msg"].startswith("litellm_proxy_salt_key is not the one that this database was written with")
    assert programs.runs == []


def test_another_salt_key_by_force(run: Run, database: Database) -> None:
    run("migrate")
    database.facts["salt_key"] = migrations.fingerprint("another")
    run("check", salt_key_change=True)
    assert migrations.matches("another", database.facts["salt_key"])
    result = run("migrate", salt_key_change=True)
    assert (result["changed"], result["migration_needed"]) == (True, False)
    assert migrations.matches(SALT, database.facts["salt_key"])
    assert run("migrate")["changed"] is False


def test_a_fingerprint_is_one_way_and_salted() -> None:
    one, two = migrations.fingerprint(SALT), migrations.fingerprint(SALT)
    assert one != two
    assert SALT not in one
    assert migrations.matches(SALT, one)
    assert migrations.matches(SALT, two)
    assert not migrations.matches(SALT + "x", one)


def test_a_diff_stays_short() -> None:
    assert litellm_database.listed([]) == ""
    assert litellm_database.listed(["a", "b", "c"], 2) == "a\nb\nand 1 more\n"
