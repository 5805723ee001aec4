# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a gateway and a stranger can do from their own hosts."""

from __future__ import annotations

import json

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://store-gateway"]

STORES = ["store-bookworm", "store-trixie"]
POSTGRESQL = "Vq8-kT2w_Lz5.rH9n~cE3y"
REDIS = "pX6m-Dd4s_Wb7.uJ2f~gN8a"
WEBUI = "aB3'\"\\%@:/?#[]~x&=+Zq7-mL"

CONNECT = """
import json, sys, psycopg2
try:
    connection = psycopg2.connect(connect_timeout=4, **json.load(sys.stdin))
    cursor = connection.cursor()
    cursor.execute("CREATE TEMPORARY TABLE t (x int)")
    cursor.execute("SELECT current_user || ' ' || current_database() || ' ' || ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    print(cursor.fetchone()[0])
except psycopg2.Error as error:
    print(error)
"""


@pytest.fixture
def stranger() -> Host:
    return Host.get_host("docker://store-stranger")


def connect(host: Host, store: str, password: str = POSTGRESQL, **options: str) -> str:
    values = json.dumps({"host": store, "user": "litellm", "dbname": "litellm", "password": password, **options}).replace("'", "'\\''")
    return str(
        host.check_output(f"printf '%s' '{values}' | python3 -c '{CONNECT.replace(chr(39), chr(39) + chr(92) + chr(39) + chr(39))}'")
    )


def ask_redis(host: Host, store: str, *commands: str, tls: bool) -> list[str]:
    options = "--tls --cacert /root/store.crt" if tls else ""
    lines = "\\n".join(commands)
    answer = host.run(f"printf '{lines}\\n' | timeout 5 redis-cli -h {store} {options}")
    return [line for line in (answer.stdout + answer.stderr).splitlines() if line]


def test_the_gateway_is_admitted(host: Host) -> None:
    assert connect(host, "store-bookworm") == "litellm litellm false"
    assert connect(host, "store-trixie", sslmode="verify-full", sslrootcert="/root/store.crt") == "litellm litellm true"


def test_a_password_may_have_any_character(host: Host) -> None:
    assert connect(host, "store-bookworm", WEBUI, user="openwebui", dbname="openwebui") == "openwebui openwebui false"


@pytest.mark.parametrize("store", STORES)
def test_a_wrong_password_is_refused(host: Host, store: str) -> None:
    assert "password authentication failed" in connect(host, store, "wrong")


@pytest.mark.parametrize(
    ("user", "dbname"), [("postgres", "postgres"), ("litellm", "openwebui"), ("litellm", "postgres"), ("openwebui", "litellm")]
)
def test_nobody_reaches_what_is_not_theirs(host: Host, user: str, dbname: str) -> None:
    assert "no pg_hba.conf entry" in connect(host, "store-bookworm", user=user, dbname=dbname)


def test_nothing_goes_without_tls_where_it_is_on(host: Host) -> None:
    assert "no encryption" in connect(host, "store-trixie", sslmode="disable")
    assert ask_redis(host, "store-trixie", "PING", tls=False)[:1] != ["PONG"]


@pytest.mark.parametrize("store", STORES)
def test_redis(host: Host, store: str) -> None:
    tls = store == "store-trixie"
    assert ask_redis(host, store, f"AUTH {REDIS}", "PING", tls=tls) == ["OK", "PONG"]
    assert ask_redis(host, store, "PING", tls=tls)[0].startswith("NOAUTH")
    assert ask_redis(host, store, f"AUTH {REDIS}x", "PING", tls=tls)[0].startswith("WRONGPASS")


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("port", [5432, 6379])
def test_a_stranger_gets_no_answer(host: Host, stranger: Host, store: str, port: int) -> None:
    probe = f"timeout 3 bash -c ': </dev/tcp/{store}/{port}'"
    assert host.run(probe).rc == 0
    assert stranger.run(probe).rc == 124
