#!/usr/bin/python
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litellm_database
short_description: Check and migrate the PostgreSQL database of a LiteLLM gateway
version_added: 0.1.0
author: The selfhosted.llm contributors (@selfhosted)
description:
  - With O(action=check) it signs in from this host and says in the words of the operator's variables why the database cannot be used.
    Needs no driver on the host, and changes nothing.
  - With O(action=migrate) it brings the schema to what a release expects, before that release goes live.
    An advisory lock makes two deploys at once run one migration. What is in the database is dumped first.
    The release's own migration job does the work, as the service user.
  - A fingerprint of the salt key is kept in the database, in a schema of its own. Another salt key is refused.
options:
  action:
    description: What to do.
    type: str
    choices: [check, migrate]
    required: true
  url:
    description: URL of the database as the gateway uses it.
    type: str
    required: true
  direct_url:
    description: URL past a connection pooler, for migrations.
    type: str
    default: ""
  variable:
    description: Name of the variable that messages about O(url) name.
    type: str
    default: litellm_proxy_database_url
  direct_variable:
    description: Name of the variable that messages about O(direct_url) name.
    type: str
    default: litellm_proxy_direct_database_url
  ca_bundle:
    description: PEM file with the authorities to trust where O(url) asks for a verified connection and names none.
    type: path
  salt_key:
    description: The salt key of the gateway. Empty leaves it out of the check.
    type: str
    default: ""
  salt_key_change:
    description: Take another salt key than the one before.
    type: bool
    default: false
  connections:
    description: Connections that all gateways together can open. A server that has fewer causes a warning. 0 leaves it out.
    type: int
    default: 0
  may_be_missing:
    description:
      - With O(action=check), a server that does not answer, or does not let this user in, is reported and does not fail the task.
        For a server that the same run is going to deploy.
    type: bool
    default: false
  release:
    description: Folder of the release whose migrations are wanted. Required with O(action=migrate).
    type: path
  config:
    description: Text of the gateway's C(config.yaml), as it will be. Required with O(action=migrate).
    type: str
  environment:
    description: Environment of the gateway.
    type: dict
    default: {}
  secrets:
    description: Further environment of the gateway, that is shown nowhere.
    type: dict
    default: {}
  user:
    description: Account that the migration job runs as.
    type: str
    default: litellm
  backup:
    description: Dump a database that has tables before it is migrated.
    type: bool
    default: true
  backup_dir:
    description: Folder of the dumps, for root alone.
    type: path
    default: /var/backups/litellm
  keep_backups:
    description: How many dumps stay.
    type: int
    default: 5
  lock_timeout:
    description: Seconds to wait for another deploy that is migrating.
    type: int
    default: 900
  timeout:
    description: Seconds that the migration may take.
    type: int
    default: 1800
attributes:
  check_mode:
    description: Says whether a migration would run.
    support: full
  diff_mode:
    description: Shows the pending migrations.
    support: full
"""

EXAMPLES = r"""
- name: See whether the database can be used
  selfhosted.llm.litellm_database:
    action: check
    url: "{{ vault_litellm_database_url }}"
    salt_key: "{{ vault_litellm_salt_key }}"

- name: Migrate it
  selfhosted.llm.litellm_database:
    action: migrate
    url: "{{ vault_litellm_database_url }}"
    salt_key: "{{ vault_litellm_salt_key }}"
    release: /opt/litellm/releases/1.106.2-0123456789ab
    config: "{{ lookup('ansible.builtin.template', 'config.yaml.j2') }}"
    secrets: {LITELLM_MASTER_KEY: "{{ vault_litellm_master_key }}", LITELLM_SALT_KEY: "{{ vault_litellm_salt_key }}"}
"""

RETURN = r"""
reachable:
  description: Whether the database answered.
  returned: always
  type: bool
reason:
  description: Why it did not.
  returned: when it did not, and may be missing
  type: str
server:
  description: Its major version, whether the connection is encrypted, and whether there is a pooler between.
  returned: when it answered
  type: dict
pending:
  description: Migrations that were pending before.
  returned: O(action=migrate)
  type: list
  elements: str
migration_needed:
  description: Whether the migration job has something to do. C(changed) can be overridden by a task, this cannot.
  returned: O(action=migrate)
  type: bool
work_to_do:
  description: Whether there is anything to do, be it only to note the fingerprint of the salt key.
  returned: O(action=migrate)
  type: bool
backup_needed:
  description: Whether a dump would be made first.
  returned: O(action=migrate)
  type: bool
backup:
  description: Path of the dump.
  returned: when one was made
  type: str
removed_backups:
  description: Older dumps that were removed.
  returned: when a dump was made
  type: list
  elements: str
seconds:
  description: Seconds the migration took.
  returned: when one ran
  type: float
"""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
import typing as t
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhosted.llm.plugins.module_utils import migrations
from ansible_collections.selfhosted.llm.plugins.module_utils.postgresql import Connection, PostgresError, Target, parse_url

ARGUMENTS = {
    "action": {"type": "str", "choices": ["check", "migrate"], "required": True},
    "url": {"type": "str", "required": True, "no_log": True},
    "direct_url": {"type": "str", "default": "", "no_log": True},
    "variable": {"type": "str", "default": "litellm_proxy_database_url"},
    "direct_variable": {"type": "str", "default": "litellm_proxy_direct_database_url"},
    "ca_bundle": {"type": "path"},
    "salt_key": {"type": "str", "default": "", "no_log": True},
    "salt_key_change": {"type": "bool", "default": False, "no_log": False},
    "connections": {"type": "int", "default": 0},
    "may_be_missing": {"type": "bool", "default": False},
    "release": {"type": "path"},
    "config": {"type": "str"},
    "environment": {"type": "dict", "default": {}},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "user": {"type": "str", "default": "litellm"},
    "backup": {"type": "bool", "default": True},
    "backup_dir": {"type": "path", "default": "/var/backups/litellm"},
    "keep_backups": {"type": "int", "default": 5},
    "lock_timeout": {"type": "int", "default": 900},
    "timeout": {"type": "int", "default": 1800},
}

# What a server that is still to be deployed, or to be configured, answers.
MISSING = ("name", "unreachable", "refused", "refused_client", "password", "database", "starting", "tls", "permission")


class UnusableError(Exception):
    """Something that the operator has to change. `missing` is true where a deploy of the server can do so."""

    def __init__(self, message: str, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


class Database:
    """The two ways to one database: as the gateway goes, and past a pooler."""

    def __init__(self, params: t.Mapping[str, t.Any]) -> None:
        self.params = params
        self.target = self._parse("url", "variable")
        self.direct = self._parse("direct_url", "direct_variable") if params["direct_url"] else None

    def _parse(self, option: str, variable: str) -> Target:
        try:
            return parse_url(self.params[option])
        except PostgresError as exc:
            raise UnusableError(migrations.explain(exc, self.params[variable])) from exc

    @property
    def passwords(self) -> list[str]:
        found = [self.params["url"], self.params["direct_url"]]
        for target in filter(None, (self.target, self.direct)):
            found += [target.password, quote(target.password, safe="")]
        return [text for text in found if text]

    def connect(self, direct: bool = False) -> Connection:
        target = self.direct if direct and self.direct else self.target
        variable = self.params["direct_variable" if target is self.direct else "variable"]
        try:
            return Connection(target, self.params["ca_bundle"] or "")
        except PostgresError as exc:
            raise UnusableError(migrations.explain(exc, variable, target), exc.kind in MISSING) from exc

    def look(self, db: Connection) -> migrations.Server:
        """The server behind a session, or an UnusableError."""
        params = self.params
        variable = params["direct_variable" if db.target is self.direct else "variable"]
        server = migrations.inspect(db)
        # Where there is a direct URL it is the one that has to be able to do everything.
        problem = migrations.server_problem(server, db.target, variable, params["direct_variable"], self.direct is not None)
        if problem:
            raise UnusableError(problem)
        return server

    def guard_salt_key(self, db: Connection) -> None:
        params = self.params
        if params["salt_key"]:
            problem = migrations.salt_key_problem(db, params["salt_key"], params["salt_key_change"])
            if problem:
                raise UnusableError(problem)

    def salt_key_is_known(self, db: Connection) -> bool:
        stored = migrations.fact(db, migrations.SALT_KEY)
        return not self.params["salt_key"] or (stored is not None and migrations.matches(self.params["salt_key"], stored))


def check(module: AnsibleModule, database: Database) -> dict[str, t.Any]:
    params = module.params
    with database.connect() as db:
        server = database.look(db)
        database.guard_salt_key(db)
        # Behind a pooler the server's limit is not the gateways'.
        if not server.pooled and 0 < server.max_connections < params["connections"]:
            module.warn(
                f"{params['variable']}: all gateways together can open {params['connections']} connections, PostgreSQL at "
                f"{db.target.place} takes {server.max_connections}. Lower litellm_proxy_database_connections, or raise max_connections."
            )
    if database.direct:
        with database.connect(direct=True) as db:
            database.look(db)
    facts = {"version": server.version, "encrypted": server.encrypted, "pooled": server.pooled}
    return {"changed": False, "reachable": True, "server": facts}


class Migration:
    """One migration, by the job of the release, under the lock."""

    def __init__(self, module: AnsibleModule, database: Database, db: Connection) -> None:
        self.module = module
        self.params = module.params
        self.database = database
        self.db = db

    def run(self, release: migrations.Shipped) -> dict[str, t.Any]:
        with migrations.Lock(self.db, self.params["lock_timeout"]):
            # Another deploy may have done it meanwhile.
            self.database.guard_salt_key(self.db)
            before = migrations.status(self.db, release)
            done: dict[str, t.Any] = {"pending": before.pending, "migration_needed": before.needed, "changed": before.needed}
            if before.needed:
                if before.has_tables and self.params["backup"]:
                    done["backup"], done["removed_backups"] = self.backup()
                started = time.monotonic()
                output = self.job()
                done["seconds"] = round(time.monotonic() - started, 1)
                self.expect_nothing_pending(release, output)
                migrations.remember(self.db, f"migrated {release.version}", os.path.basename(self.params["release"]))
            if not self.database.salt_key_is_known(self.db):
                migrations.remember(self.db, migrations.SALT_KEY, migrations.fingerprint(self.params["salt_key"]))
                done["changed"] = True
        return done

    def expect_nothing_pending(self, release: migrations.Shipped, output: str) -> None:
        after = migrations.status(self.db, release)
        if after.pending:
            raise UnusableError(
                f"the migration job ended without an error, but {len(after.pending)} migrations are still pending, "
                f"{after.pending[0]} the first. It said:\n{migrations.told(output, self.database.passwords)}"
            )

    def backup(self) -> tuple[str, list[str]]:
        folder = self.params["backup_dir"]
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.chmod(folder, 0o700)
        programs = migrations.dump_programs()
        program = programs[0] if programs else shutil.which("pg_dump")
        if not program:
            raise UnusableError(
                "pg_dump is not on this host, and the database must be dumped before it is migrated. Install the package that "
                "litellm_proxy_postgresql_client names, or set litellm_proxy_backup_before_migration to false."
            )
        name = f"litellm-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.dump"
        path = os.path.join(folder, name)
        # pg_dump makes the file with the rights of the umask.
        partial = os.path.join(folder, f".{name}")
        try:
            result = subprocess.run(
                migrations.dump_command(program, self.db, partial),
                env=migrations.dump_environment(self.db.target, self.params["ca_bundle"] or ""),
                capture_output=True,
                text=True,
                check=False,
            )
            if result.returncode != 0:
                said = migrations.told(result.stderr, self.database.passwords, 10)
                remedy = ""
                if "version mismatch" in said:
                    remedy = (
                        f"\nThe server is newer than this pg_dump: set litellm_proxy_postgresql_client to "
                        f"postgresql-client-{self.db.version} (and add the package source that has it)."
                    )
                raise UnusableError(f"the dump before the migration failed, nothing was migrated: {said}{remedy}")
            os.replace(partial, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)
        return path, migrations.prune(folder, self.params["keep_backups"])

    def job(self) -> str:
        """Run LiteLLM's own migration job as the service user and return what it said."""
        params, release = self.params, self.params["release"]
        account = pwd.getpwnam(params["user"])
        work = tempfile.mkdtemp(prefix="litellm-migration-", dir="/run" if os.path.isdir("/run") else None)
        try:
            config = os.path.join(work, "config.yaml")
            with open(config, "w", encoding="utf-8") as handle:
                handle.write(params["config"])
            for path, mode in ((config, 0o600), (work, 0o700)):
                os.chown(path, account.pw_uid, account.pw_gid)
                os.chmod(path, mode)
            given = {name: str(value) for name, value in {**params["environment"], **params["secrets"]}.items()}
            environment = migrations.service_environment(release, given, params["url"], params["direct_url"])
            environment.update({"HOME": work, "LITELLM_PRISMA_MIGRATE_DEPLOY_TIMEOUT": str(params["timeout"])})
            command = [
                *("setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--init-groups", "--no-new-privs"),
                *(os.path.join(release, "bin", "litellm"), "--config", config, "--skip_server_startup"),
            ]
            try:
                result = subprocess.run(
                    command,
                    env=environment,
                    cwd=work,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    check=False,
                    # LiteLLM tries again after a failure; this only ends one that hangs.
                    timeout=params["timeout"] * 2 + 300,
                )
            except subprocess.TimeoutExpired as exc:
                raise UnusableError(f"the migration did not end within {exc.timeout:.0f} s. {self.state()}") from exc
            if result.returncode != 0:
                said = migrations.told(result.stdout, self.database.passwords)
                raise UnusableError(f"the migration failed, the gateways were not touched. {self.state()}It said:\n{said}")
            return result.stdout
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def state(self) -> str:
        """What the database says about a migration that did not end well."""
        release = migrations.shipped(self.params["release"])
        try:
            failed = migrations.status(self.db, release).failed if release else []
        except PostgresError:
            return ""
        if not failed:
            return ""
        return (
            f"{', '.join(failed)} has begun and not ended: see it in _prisma_migrations, and LiteLLM's documentation on failed migrations. "
        )


def listed(names: t.Sequence[str], most: int = 12) -> str:
    """Names for a diff. An empty database lacks hundreds of migrations, which tell nobody anything."""
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return "".join(f"{name}\n" for name in [*names[:most], *more])


def migrate(module: AnsibleModule, database: Database) -> dict[str, t.Any]:
    params = module.params
    release = migrations.shipped(params["release"])
    if release is None and not module.check_mode:
        raise UnusableError(f"the release {params['release']} does not exist or has no migrations: build it before the migration")
    with database.connect(direct=True) as db:
        server = database.look(db)
        database.guard_salt_key(db)
        facts = {"version": server.version, "encrypted": server.encrypted, "pooled": server.pooled}
        result: dict[str, t.Any] = {"reachable": True, "server": facts}
        # Without the release nothing tells what is pending; it will be built, so that there is something to do.
        now = migrations.status(db, release) if release else migrations.Status([], [], False, False)
        work = now.needed or not database.salt_key_is_known(db)
        result["work_to_do"] = work
        result["backup_needed"] = now.needed and now.has_tables and params["backup"]
        if module.check_mode or release is None or not work:
            result.update(changed=work, pending=now.pending, migration_needed=now.needed)
        else:
            result.update(Migration(module, database, db).run(release))
    result["diff"] = {
        "before_header": "pending migrations",
        "after_header": "pending migrations",
        "before": listed(result["pending"]),
        "after": "",
    }
    return result


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True, required_if=[("action", "migrate", ("release", "config"))])
    # Backups and what the job writes are for root, and for the service, alone.
    os.umask(0o077)
    params = module.params
    try:
        database = Database(params)
        module.no_log_values.update(database.passwords)
        result = check(module, database) if params["action"] == "check" else migrate(module, database)
    except UnusableError as exc:
        # In check mode the server need not be there yet, as nothing else is.
        if exc.missing and params["may_be_missing"] and (params["action"] == "check" or module.check_mode):
            module.exit_json(
                changed=params["action"] == "migrate",
                reachable=False,
                reason=str(exc),
                pending=[],
                migration_needed=params["action"] == "migrate",
                work_to_do=True,
                backup_needed=False,
            )
        module.fail_json(msg=str(exc))
    except PostgresError as exc:
        module.fail_json(msg=migrations.explain(exc, params["variable"], database.target))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
