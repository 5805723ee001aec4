# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parts that need no server; the rest is in the tests of the module litellm_database."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.selfhosted.llm.plugins.module_utils import migrations
from ansible_collections.selfhosted.llm.plugins.module_utils.postgresql import PostgresError, parse_url


def test_each_mistake_has_a_remedy() -> None:
    target = parse_url("postgresql://me:hunter2@db/litellm")
    for kind in (
        "name",
        "refused",
        "unreachable",
        "refused_client",
        "password",
        "database",
        "tls",
        "full",
        "starting",
        "permission",
        "other",
    ):
        message = migrations.explain(PostgresError(kind, "it is wrong."), "the_variable", target)
        assert message.startswith("the_variable: PostgreSQL at db:5432/litellm (user me) cannot be used: it is wrong. ")
        assert message.endswith(".")
        assert "hunter2" not in message
    assert migrations.explain(PostgresError("url", "it has no host"), "the_variable") == "the_variable: it has no host."


def test_what_a_release_brings(tmp_path: Path) -> None:
    assert migrations.shipped(str(tmp_path)) is None
    packages = tmp_path / "lib/python3.13/site-packages"
    for name in ("1_a", "2_b"):
        (packages / "litellm_proxy_extras/migrations" / name).mkdir(parents=True)
        (packages / "litellm_proxy_extras/migrations" / name / "migration.sql").touch()
    assert migrations.shipped(str(tmp_path)) is None
    (packages / "litellm_proxy_extras-0.4.108.dist-info").mkdir()
    assert migrations.shipped(str(tmp_path)) == migrations.Shipped("0.4.108", frozenset({"1_a", "2_b"}))


def test_what_a_job_says_is_shortened_and_has_no_secrets() -> None:
    output = (
        "2026-11-21 02:35:58,353 - litellm_proxy_extras - INFO - Preparing\n"
        "LiteLLM Proxy: Postgres connection budget per pod = 1\n"
        "migrations/\n  └─ 20250326162113_baseline/\n\n"
        "2026-11-21 02:35:58,353 - litellm_proxy_extras - ERROR - failed for pw%2Fd, that is pw/d\n"
        "\x1b[1;31mred\x1b[0m\n"
    )
    assert migrations.told(output, ["pw/d", "pw%2Fd", ""]) == (
        "2026-11-21 02:35:58,353 - litellm_proxy_extras - ERROR - failed for ********, that is ********\nred"
    )
    assert migrations.told("\n".join(str(number) for number in range(99)), [], 2) == "97\n98"


@pytest.mark.parametrize(
    ("query", "ca_bundle", "mode", "root"),
    [
        ("", "/ca.pem", "prefer", None),
        ("?sslmode=require", "/ca.pem", "require", "/nonexistent"),
        ("?sslmode=verify-full", "/ca.pem", "verify-full", "/ca.pem"),
        ("?sslmode=verify-full&sslrootcert=/own.pem", "/ca.pem", "verify-full", "/own.pem"),
        ("?sslmode=verify-full", "", "verify-full", None),
    ],
)
def test_libpq_trusts_as_the_gateway_does(query: str, ca_bundle: str, mode: str, root: str | None) -> None:
    environment = migrations.dump_environment(parse_url(f"postgresql://me:p%20w@db:6432/litellm{query}"), ca_bundle)
    assert (environment["PGPASSWORD"], environment["PGPORT"], environment["PGSSLMODE"]) == ("p w", "6432", mode)
    assert environment.get("PGSSLROOTCERT") == root


def test_the_newest_pg_dump_first(tmp_path: Path) -> None:
    for version in ("9.6", "15", "17", "odd"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin/pg_dump").touch()
    assert [path.split("/")[-3] for path in migrations.dump_programs(str(tmp_path))] == ["17", "15", "9.6", "odd"]


def test_the_newest_dumps_stay(tmp_path: Path) -> None:
    for name in ("litellm-20250101T000000Z.dump", "litellm-20260101T000000Z.dump", "notes.txt"):
        (tmp_path / name).touch()
    assert migrations.prune(str(tmp_path), 2) == []
    # The one just made stays whatever is asked for.
    assert [Path(path).name for path in migrations.prune(str(tmp_path), 0)] == ["litellm-20250101T000000Z.dump"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["litellm-20260101T000000Z.dump", "notes.txt"]
