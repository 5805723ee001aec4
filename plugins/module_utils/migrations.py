# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LiteLLM's database before a deploy: is it usable, what is pending, is the salt key the old one, and a copy of it."""

# ruff: noqa: S608 - each value in a statement has gone through literal() or identifier()

from __future__ import annotations

import base64
import contextlib
import glob
import hashlib
import hmac
import os
import re
import time
import typing as t

from ansible_collections.selfhosted.llm.plugins.module_utils.postgresql import Connection, PostgresError, Target, identifier, literal

# LiteLLM's migrations use gen_random_uuid(), which is part of PostgreSQL since 13.
OLDEST_SERVER = 13
# Ours: what is no business of LiteLLM's schema, where Prisma would stumble over it.
OWN_SCHEMA = "selfhosted_llm"
OWN_TABLE = f"{OWN_SCHEMA}.facts"
LOCK_KEY = int.from_bytes(b"llm_migr", "big")
SALT_KEY = "salt_key"
OTHER_SALT_KEY = (
    "litellm_proxy_salt_key is not the one that this database was written with: keys of providers and other secrets stored in it could "
    "not be read any more. Put the old one back. Only where they may be lost, run once with -e litellm_proxy_salt_key_change=true."
)

_REMEDIES = {
    "name": "Correct the host name, or this host's name resolution.",
    "refused": "Start PostgreSQL there, let it listen on an address that this host reaches (listen_addresses), or correct host and port.",
    "unreachable": "Look for a firewall between, and check host and port.",
    "refused_client": "Admit this host, user and database in the server's pg_hba.conf; one that admits TLS only wants sslmode=require.",
    "password": "Correct user and password; special characters of the password must be percent-encoded, such as %40 for @.",
    "database": "Create the database, or correct its name.",
    "tls": "Set sslmode and sslrootcert to what the server offers.",
    "full": "Raise max_connections of the server, or lower litellm_proxy_database_connections.",
    "starting": "Run this again when the server has started.",
    "protocol": "Correct host and port.",
    "locked": "",
    "permission": "Make the user the owner of the database: ALTER DATABASE ... OWNER TO ...",
}


def explain(error: PostgresError, variable: str, target: Target | None = None) -> str:
    """The variable, what is wrong, and what to do. Never the URL, never the password."""
    where = f"PostgreSQL at {target.place} (user {target.user})" if target else ""
    if error.kind == "url" or target is None:
        return f"{variable}: {error.message}."
    remedy = _REMEDIES.get(error.kind, "See the log of the server.")
    return f"{variable}: {where} cannot be used: {error.message.rstrip('.')}. {remedy}".rstrip()


class Server(t.NamedTuple):
    """What a session tells about the server behind it."""

    version: int
    encrypted: bool
    pooled: bool
    read_only: bool
    may_create_tables: bool
    may_create_schema: bool
    max_connections: int


def inspect(db: Connection) -> Server:
    schema, own = literal(db.target.schema), literal(OWN_SCHEMA)
    row = db.query(
        "SELECT pg_backend_pid(), pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on', "
        f"coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = {schema}), "
        "has_database_privilege(current_database(), 'CREATE')), "
        f"coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = {own}), "
        "has_database_privilege(current_database(), 'CREATE')), "
        "current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
    )[0]
    return Server(
        version=db.version,
        encrypted=db.encrypted,
        # A pooler names a process of its own at the start of a session.
        pooled=str(db.pid) != row[0],
        read_only=row[1] == "t",
        may_create_tables=row[2] == "t",
        may_create_schema=row[3] == "t",
        max_connections=int(row[4] or 0),
    )


def server_problem(server: Server, target: Target, variable: str, direct_variable: str, is_direct: bool) -> str | None:
    """Why migrations cannot run there, in words, or None."""
    where = f"PostgreSQL at {target.place}"
    if 0 < server.version < OLDEST_SERVER:
        return f"{variable}: {where} is version {server.version}. LiteLLM needs {OLDEST_SERVER} or newer: upgrade the server."
    if server.pooled and not is_direct:
        return (
            f"{variable}: {where} is reached through a connection pooler, which cannot hold the lock of a migration. Set "
            f"{direct_variable} to the server itself, or to a pooler in session mode."
        )
    if server.read_only:
        return f"{variable}: {where} is read-only, a standby perhaps. Name the primary."
    if not server.may_create_tables:
        user, schema = target.user, target.schema
        return (
            f"{variable}: {where} lets the user {user} create no tables in schema {schema}. As its administrator: "
            f"ALTER DATABASE {identifier(target.database)} OWNER TO {identifier(user)}; "
            f"GRANT ALL ON SCHEMA {identifier(schema)} TO {identifier(user)};"
        )
    if not server.may_create_schema:
        return (
            f"{variable}: {where} lets the user {target.user} create no schema, and {OWN_SCHEMA} keeps the fingerprint of the salt key. "
            f"As its administrator: CREATE SCHEMA {OWN_SCHEMA} AUTHORIZATION {identifier(target.user)};"
        )
    return None


# The salt key


def fingerprint(secret: str, salt: bytes | None = None) -> str:
    """One-way: the key cannot be found from it, nor can two databases with the same key be told."""
    salt = salt or os.urandom(16)
    digest = hashlib.pbkdf2_hmac("sha256", secret.encode(), salt, 100_000)
    return f"pbkdf2-sha256-100000${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def matches(secret: str, stored: str) -> bool:
    salt = base64.b64decode(stored.split("$")[1])
    return hmac.compare_digest(fingerprint(secret, salt), stored)


def salt_key_problem(db: Connection, salt_key: str, change: bool) -> str | None:
    stored = fact(db, SALT_KEY)
    return None if stored is None or change or matches(salt_key, stored) else OTHER_SALT_KEY


# What is kept in the database about the deploys


def has_facts(db: Connection) -> bool:
    return db.value(f"SELECT to_regclass({literal(OWN_TABLE)}) IS NOT NULL") == "t"


def fact(db: Connection, name: str) -> str | None:
    return db.value(f"SELECT value FROM {OWN_TABLE} WHERE name = {literal(name)}") if has_facts(db) else None


def remember(db: Connection, name: str, value: str) -> None:
    db.query(
        f"CREATE SCHEMA IF NOT EXISTS {OWN_SCHEMA}; "
        f"CREATE TABLE IF NOT EXISTS {OWN_TABLE} (name text PRIMARY KEY, value text NOT NULL, changed timestamptz NOT NULL); "
        f"INSERT INTO {OWN_TABLE} VALUES ({literal(name)}, {literal(value)}, now()) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value, changed = now()"
    )


# Migrations


class Shipped(t.NamedTuple):
    """What a release brings along."""

    version: str
    names: frozenset[str]


def shipped(release: str) -> Shipped | None:
    """The migrations of a release, or None where the release is not there."""
    packages = glob.glob(os.path.join(glob.escape(release), "lib", "python3*", "site-packages"))
    for packages_dir in packages:
        found = glob.glob(os.path.join(glob.escape(packages_dir), "litellm_proxy_extras", "migrations", "*", "migration.sql"))
        info = glob.glob(os.path.join(glob.escape(packages_dir), "litellm_proxy_extras-*.dist-info"))
        if found and info:
            version = os.path.basename(info[0])[len("litellm_proxy_extras-") : -len(".dist-info")]
            return Shipped(version, frozenset(os.path.basename(os.path.dirname(path)) for path in found))
    return None


class Status(t.NamedTuple):
    """`pending` and `failed` are names of migrations; `finished` says whether a job for these migrations ran to its end."""

    pending: list[str]
    failed: list[str]
    has_tables: bool
    finished: bool

    @property
    def needed(self) -> bool:
        return bool(self.pending) or not self.finished


def status(db: Connection, release: Shipped) -> Status:
    schema = identifier(db.target.schema)
    tables = db.value(
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        f"WHERE n.nspname = {literal(db.target.schema)} AND c.relkind IN ('r', 'p')"
    )
    applied: set[str] = set()
    failed: list[str] = []
    if db.value(f"SELECT to_regclass({literal(schema + '._prisma_migrations')}) IS NOT NULL") == "t":
        for name, done in db.query(
            f"SELECT migration_name, finished_at IS NOT NULL FROM {schema}._prisma_migrations WHERE rolled_back_at IS NULL"
        ):
            if done == "t":
                applied.add(name or "")
            else:
                failed.append(name or "")
    return Status(
        pending=sorted(release.names - applied),
        failed=sorted(set(failed) - applied),
        has_tables=tables not in (None, "0"),
        finished=fact(db, f"migrated {release.version}") is not None,
    )


class Lock:
    """An advisory lock of the session: one migration at a time, whoever deploys. It ends with the connection."""

    def __init__(
        self, db: Connection, timeout: float, sleep: t.Callable[[float], None] = time.sleep, now: t.Callable[[], float] = time.monotonic
    ) -> None:
        self._db = db
        self._timeout = timeout
        self._sleep = sleep
        self._now = now

    def __enter__(self) -> Lock:
        # Where the server ends idle sessions, this one must outlast a migration. Servers before 14 do not know the setting.
        with contextlib.suppress(PostgresError):
            self._db.query("SET idle_session_timeout = 0")
        deadline = self._now() + self._timeout
        while self._db.value(f"SELECT pg_try_advisory_lock({LOCK_KEY})") != "t":
            if self._now() >= deadline:
                raise PostgresError(
                    "locked",
                    f"another deploy has been migrating this database for more than {self._timeout:.0f} s. Wait for it, or end "
                    "its session: SELECT pid FROM pg_locks WHERE locktype = 'advisory'",
                )
            self._sleep(1)
        return self

    def __exit__(self, *_exc: object) -> None:
        with contextlib.suppress(PostgresError):
            self._db.query(f"SELECT pg_advisory_unlock({LOCK_KEY})")


def service_environment(release: str, base: t.Mapping[str, str], url: str, direct_url: str) -> dict[str, str]:
    """What the migration job gets: the service's own environment, and the leave to change the schema."""
    values = {name: value for name, value in base.items() if name != "DISABLE_SCHEMA_UPDATE"}
    values["DATABASE_URL"] = url
    if direct_url:
        values["DIRECT_URL"] = direct_url
    values["NUM_WORKERS"] = "1"
    values["PATH"] = f"{release}/prisma/bin:{release}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    values["PRISMA_BINARY_CACHE_DIR"] = f"{release}/prisma"
    return values


_NOISE = re.compile(r"^(\S+ \S+ - litellm_proxy_extras - INFO|\s*(└─|migrations/)|LiteLLM Proxy: Postgres connection budget|\s*$)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def told(output: str, secrets: t.Iterable[str], lines: int = 40) -> str:
    """The end of what a job said, without progress and without secrets."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        output = output.replace(secret, "********")
    kept = [line for line in _COLOUR.sub("", output).splitlines() if not _NOISE.match(line)]
    return "\n".join(kept[-lines:]).strip()


# Backups


def dump_programs(root: str = "/usr/lib/postgresql") -> list[str]:
    """pg_dump of each installed version, the newest first: it can read every older server, but no newer one."""
    found = glob.glob(os.path.join(root, "*", "bin", "pg_dump"))

    def version(path: str) -> float:
        text = path.split(os.sep)[-3]
        return float(text) if re.match(r"\d+(\.\d+)?\Z", text) else 0.0

    return sorted(found, key=version, reverse=True)


def dump_environment(target: Target, ca_bundle: str) -> dict[str, str]:
    """libpq's variables: a password on a command line could be read by everybody."""
    values = {
        "PGHOST": target.host,
        "PGPORT": str(target.port),
        "PGUSER": target.user,
        "PGPASSWORD": target.password,
        "PGDATABASE": target.database,
        "PGSSLMODE": target.sslmode,
        "PGCONNECT_TIMEOUT": "15",
        "PGAPPNAME": "selfhosted.llm backup",
        "LC_ALL": "C.UTF-8",
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    }
    root = target.root_cert or (ca_bundle if target.sslmode.startswith("verify-") else "")
    if root:
        values["PGSSLROOTCERT"] = root
    elif target.sslmode == "require":
        # Else a certificate in root's home folder would decide.
        values["PGSSLROOTCERT"] = "/nonexistent"
    return values


def dump_command(program: str, db: Connection, path: str) -> list[str]:
    """Only LiteLLM's schema and ours: hosted databases have others that their users may not read."""
    schemas = [db.target.schema] + ([OWN_SCHEMA] if has_facts(db) else [])
    return [
        program,
        "--no-password",
        "--format=custom",
        "--compress=6",
        "--no-owner",
        "--no-privileges",
        *(f"--schema={identifier(name)}" for name in schemas),
        f"--file={path}",
    ]


def prune(folder: str, keep: int) -> list[str]:
    """Remove all but the newest backups. Names carry the time."""
    surplus = sorted(glob.glob(os.path.join(glob.escape(folder), "litellm-*.dump")), reverse=True)[max(keep, 1) :]
    for path in surplus:
        os.unlink(path)
    return surplus
