#!/usr/bin/python
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: open_webui_database
short_description: Check the PostgreSQL database of Open WebUI, and dump it before a release that migrates it
version_added: 0.1.0
author: The selfhosted.llm contributors (@selfhosted)
description:
  - Signs in from this host and says in the words of the operator's variables why the database cannot be used. Needs no driver on the host.
  - Open WebUI migrates its database when it starts. This compares what the database has with what a release expects.
    Where that is more, the database is dumped first. Where the database is of a newer release, the deploy is refused.
options:
  url:
    description: URL of the database.
    type: str
    required: true
  variable:
    description: Name of the variable that messages about O(url) name.
    type: str
    default: open_webui_database_url
  ca_bundle:
    description: PEM file with the authorities to trust where O(url) asks for a verified connection and names none.
    type: path
  release:
    description: Folder of the release that is to go live. Where it is not there, nothing can be said about migrations.
    type: path
    required: true
  vectors:
    description: Whether document vectors are kept there too, which needs the extension C(vector).
    type: bool
    default: false
  backup:
    description: Dump the database where the release is going to migrate it.
    type: bool
    default: true
  backup_dir:
    description: Folder of the dumps, for root alone.
    type: path
    default: /var/backups/open-webui
  keep_backups:
    description: How many dumps stay.
    type: int
    default: 5
attributes:
  check_mode:
    description: Says whether a dump would be made. A server that does not answer is reported and does not fail the task.
    support: full
  diff_mode:
    description: Shows no diff.
    support: none
"""

EXAMPLES = r"""
- name: Dump the database where the release is going to migrate it
  selfhosted.llm.open_webui_database:
    url: "{{ vault_webui_database_url }}"
    release: /opt/open-webui/releases/0.12.4-0123456789ab
"""

RETURN = r"""
reachable:
  description: Whether the database answered.
  returned: always
  type: bool
reason:
  description: Why it did not.
  returned: in check mode, when it did not
  type: str
revision:
  description: The migration that the database is at, empty where it has none.
  returned: when it answered
  type: str
migration_needed:
  description: Whether the release is going to migrate it.
  returned: always
  type: bool
backup_needed:
  description: Whether it has tables that are going to be migrated.
  returned: always
  type: bool
backup:
  description: Path of the dump.
  returned: when one was made
  type: str
"""

import contextlib
import glob
import os
import re
import shutil
import subprocess
import time
import typing as t
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhosted.llm.plugins.module_utils.migrations import dump_environment, dump_programs, explain, told
from ansible_collections.selfhosted.llm.plugins.module_utils.postgresql import Connection, PostgresError, identifier, literal, parse_url

ARGUMENTS = {
    "url": {"type": "str", "required": True, "no_log": True},
    "variable": {"type": "str", "default": "open_webui_database_url"},
    "ca_bundle": {"type": "path"},
    "release": {"type": "path", "required": True},
    "vectors": {"type": "bool", "default": False},
    "backup": {"type": "bool", "default": True},
    "backup_dir": {"type": "path", "default": "/var/backups/open-webui"},
    "keep_backups": {"type": "int", "default": 5},
}

_REVISION = re.compile(r"^revision\b[^=\n]*=\s*['\"](\w+)['\"]", re.MULTILINE)
_BEFORE = re.compile(r"^down_revision\b[^=\n]*=\s*(.*)$", re.MULTILINE)
_QUOTED = re.compile(r"['\"](\w+)['\"]")


class UnusableError(Exception):
    """Something that the operator has to change."""


class Shipped(t.NamedTuple):
    """The migrations of a release, and the last of them."""

    known: set[str]
    heads: set[str]


def shipped(release: str) -> Shipped | None:
    """What the release brings along; None where it is not built yet."""
    known: set[str] = set()
    before: set[str] = set()
    pattern = os.path.join(glob.escape(release), "lib", "python3*", "site-packages", "open_webui", "migrations", "versions", "*.py")
    for path in glob.glob(pattern):
        with open(path, encoding="utf-8") as handle:
            text = handle.read()
        known.update(_REVISION.findall(text))
        before.update(name for line in _BEFORE.findall(text) for name in _QUOTED.findall(line))
    return Shipped(known, known - before) if known else None


def current(db: Connection) -> set[str]:
    """Migrations that the database is at. Two branches that were never merged would be two."""
    table = f"{identifier(db.target.schema)}.alembic_version"
    if db.value(f"SELECT to_regclass({literal(table)}) IS NOT NULL") != "t":
        return set()
    return {str(row[0]) for row in db.query(f"SELECT version_num FROM {table}")}  # noqa: S608 - identifier() quotes it


def vector_problem(db: Connection) -> str | None:
    """Why document vectors cannot be kept in this database."""
    rows = db.query("SELECT installed_version IS NOT NULL FROM pg_available_extensions WHERE name = 'vector'")
    if not rows:
        return (
            f"PostgreSQL at {db.target.place} does not have the extension vector: install postgresql-{db.version}-pgvector there, "
            "or set open_webui_vector_db to chroma"
        )
    if rows[0][0] == "t":
        return None
    may = db.value(
        "SELECT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) OR "
        "(EXISTS (SELECT 1 FROM pg_available_extension_versions WHERE name = 'vector' AND trusted) "
        "AND has_database_privilege(current_database(), 'CREATE'))"
    )
    if may == "t":
        return None
    return f"{db.target.user} may not create the extension vector in {db.target.place}: an administrator has to run CREATE EXTENSION vector"


class Database:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        try:
            self.target = parse_url(self.params["url"])
        except PostgresError as exc:
            raise UnusableError(explain(exc, self.params["variable"])) from exc
        self.secrets = [self.params["url"], self.target.password, quote(self.target.password, safe="")]
        module.no_log_values.update(text for text in self.secrets if text)

    def connect(self) -> Connection:
        return Connection(self.target, self.params["ca_bundle"] or "")

    def run(self, db: Connection) -> dict[str, t.Any]:
        params = self.params
        problem = vector_problem(db) if params["vectors"] else None
        if problem:
            raise UnusableError(f"{params['variable']}: {problem}.")
        release, at = shipped(params["release"]), current(db)
        unknown = at - release.known if release else set()
        if unknown:
            raise UnusableError(
                f"{params['variable']}: the database at {self.target.place} is at {', '.join(sorted(unknown))}, which this release does "
                "not know: it was used by a newer one. Deploy that release, or restore the dump that was made before it."
            )
        # Before the release is built nothing tells; it will be, so an empty database is going to be filled.
        needed = at != release.heads if release else not at
        result = {
            "changed": False,
            "reachable": True,
            "revision": ", ".join(sorted(at)),
            "migration_needed": needed,
            "backup_needed": bool(needed and at and params["backup"]),
        }
        if result["backup_needed"]:
            result["changed"] = True
            if not self.module.check_mode:
                result["backup"] = self.dump()
        return result

    def dump(self) -> str:
        folder = self.params["backup_dir"]
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.chmod(folder, 0o700)
        program = next(iter(dump_programs()), None) or shutil.which("pg_dump")
        if not program:
            raise UnusableError(
                "pg_dump is not on this host, and the database must be dumped before it is migrated. Install the package that "
                "open_webui_postgresql_client names, or set open_webui_backup_before_migration to false."
            )
        name = f"open-webui-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.dump"
        partial = os.path.join(folder, f".{name}")
        command = [program, "--no-password", "--format=custom", "--compress=6", "--no-owner", "--no-privileges"]
        command += [f"--schema={identifier(self.target.schema)}", f"--file={partial}"]
        try:
            environment = dump_environment(self.target, self.params["ca_bundle"] or "")
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                said = told(done.stderr, self.secrets, 10)
                remedy = "\nSet open_webui_postgresql_client to the client of the server's version." if "version mismatch" in said else ""
                raise UnusableError(f"the dump before the migration failed, nothing was changed: {said}{remedy}")
            os.replace(partial, os.path.join(folder, name))
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)
        self.prune(folder)
        return os.path.join(folder, name)

    def prune(self, folder: str) -> None:
        """Names carry the time."""
        dumps = sorted(glob.glob(os.path.join(glob.escape(folder), "open-webui-*.dump")), reverse=True)
        for path in dumps[max(self.params["keep_backups"], 1) :]:
            os.unlink(path)


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    # The dump is for root alone.
    os.umask(0o077)
    try:
        database = Database(module)
        with database.connect() as db:
            result = database.run(db)
    except UnusableError as exc:
        module.fail_json(msg=str(exc))
    except PostgresError as exc:
        reason = explain(exc, module.params["variable"], database.target)
        # In check mode the server need not be there yet, as nothing else is.
        if not module.check_mode:
            module.fail_json(msg=reason)
        result = {"changed": False, "reachable": False, "reason": reason, "migration_needed": True, "backup_needed": False}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
