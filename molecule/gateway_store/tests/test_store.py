# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stores after side_effect.yml: changed, and on Debian 12 removed and brought back."""

from __future__ import annotations

import re

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://store"]

PASSWORDS = ("Vq8-kT2w_Lz5.rH9n~cE3y", "pX6m-Dd4s_Wb7.uJ2f~gN8a")


def version(host: Host) -> str:
    return "15" if host.system_info.codename == "bookworm" else "17"


def sql(host: Host, statement: str, database: str = "postgres") -> str:
    return str(host.check_output("psql -XAtq -U postgres %s -c %s", database, statement))


def redis(host: Host, *commands: str) -> list[str]:
    tls = "--tls --insecure" if host.system_info.codename == "trixie" else ""
    lines = "\\n".join([f"AUTH {PASSWORDS[1]}", *commands])
    return [line for line in host.check_output(f"printf '{lines}\\n' | redis-cli -h 127.0.0.1 {tls}").splitlines()[1:] if line]


def test_services(host: Host) -> None:
    for unit in (f"postgresql@{version(host)}-main", "redis-server", "store-firewall"):
        assert host.service(unit).is_running
    for unit in ("postgresql", "redis-server", "store-firewall"):
        assert host.service(unit).is_enabled
    assert host.check_output("systemctl --failed --no-legend --plain") == ""
    assert host.check_output("ps -o user= -C postgres | sort -u") == "postgres"
    assert host.check_output("ps -o user= -C redis-server | sort -u") == "redis"


@pytest.mark.parametrize("service", ["postgresql", "redis-server"])
def test_hardening(host: Host, service: str) -> None:
    unit = f"postgresql@{version(host)}-main" if service == "postgresql" else service
    summary = host.check_output(f"systemd-analyze security {unit} --no-pager").splitlines()[-1]
    exposure = re.search(r"([0-9.]+) [A-Z]+", summary)
    assert exposure, summary
    assert float(exposure.group(1)) <= 3.0


def test_no_password_is_on_the_host(host: Host) -> None:
    for password in PASSWORDS:
        found = host.run(f"grep -rlF -- {password} /etc /var/lib/postgresql /var/lib/redis /var/log /run/log /tmp")
        assert found.stdout == ""
        assert host.run(f"journalctl --no-pager | grep -cF -- {password}").stdout.strip() == "0"
    acl = host.file("/etc/redis/selfhosted-llm.acl")
    assert (acl.user, acl.mode) == ("redis", 0o600)


def test_what_was_kept_is_still_there(host: Host) -> None:
    assert sql(host, "SELECT answer FROM kept", "litellm") == "42"
    assert redis(host, "GET kept") == ["42"]


def test_roles_and_databases(host: Host) -> None:
    roles = sql(host, "SELECT rolname, rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolcanlogin ORDER BY 1").splitlines()
    databases = sql(
        host, "SELECT datname, pg_get_userbyid(datdba), pg_encoding_to_char(encoding) FROM pg_database WHERE NOT datistemplate ORDER BY 1"
    )
    names = ["litellm", "openwebui"] if version(host) == "15" else ["litellm"]
    assert roles == [*(f"{name}|f|f|f" for name in names), "postgres|t|t|t"]
    assert [line for line in databases.splitlines() if not line.startswith("postgres|")] == [f"{name}|{name}|UTF8" for name in names]
    assert "SCRAM-SHA-256" in sql(host, "SELECT rolpassword FROM pg_authid WHERE rolname = 'litellm'")


def test_settings(host: Host) -> None:
    assert sql(host, "SHOW max_connections") == "100"
    assert sql(host, "SHOW shared_buffers") == "64MB"
    assert sql(host, "SHOW ssl") == ("on" if version(host) == "17" else "off")
    assert sql(host, "SELECT count(*) FROM pg_settings WHERE pending_restart") == "0"
    assert sql(host, "SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL") == "0"


def test_strangers_of_this_host_are_not_postgres(host: Host) -> None:
    assert "Peer authentication failed" in host.run("runuser -u daemon -- psql -U postgres -c 'SELECT 1'").stderr


def test_redis_keeps_to_its_memory(host: Host) -> None:
    info = redis(host, "INFO memory")
    assert "maxmemory:67108864" in [line.strip() for line in info]
    assert "maxmemory_policy:allkeys-lru" in [line.strip() for line in info]
    # 96 MB into 64: what is old goes, nothing is refused.
    tls = "--tls --insecure" if host.system_info.codename == "trixie" else ""
    script = "for i = 1, 96 do redis.call('SET', 'fill:' .. i, string.rep('x', 1048576)) end return redis.call('DBSIZE')"
    filled = host.run(f"printf 'AUTH {PASSWORDS[1]}\\nEVAL \"{script}\" 0\\n' | redis-cli -h 127.0.0.1 {tls}")
    # A script is one command: memory is freed before each one, so this may be told that there is none left.
    assert filled.rc == 0
    for number in range(4):
        assert redis(host, f"SET after:{number} x") == ["OK"]
    used = next(line for line in redis(host, "INFO memory") if line.startswith("used_memory:"))
    assert int(used.split(":")[1]) < 80 * 1024 * 1024
    redis(host, "FLUSHALL", "SET kept 42")


@pytest.mark.parametrize("command", ["CONFIG GET dir", "SHUTDOWN", "REPLICAOF 192.0.2.1 6379", "ACL LIST", "MODULE LIST"])
def test_redis_administers_nothing(host: Host, command: str) -> None:
    assert redis(host, command)[0].startswith("NOPERM")


def test_redis_does_what_applications_need(host: Host) -> None:
    assert redis(
        host, "INCRBYFLOAT n 1.5", "EXPIRE n 60", 'EVAL "return 1" 0', "PUBLISH c m", "CLIENT SETINFO LIB-NAME x", "SCAN 0 COUNT 1"
    )[:4] == [
        "1.5",
        "1",
        "1",
        "0",
    ]


def test_a_boot(host: Host) -> None:
    """Stopped and started in the order of a boot, the services come up guarded."""
    unit = f"postgresql@{version(host)}-main"
    host.check_output(f"systemctl stop {unit} redis-server store-firewall")
    host.check_output("systemctl start postgresql redis-server")
    assert host.service("store-firewall").is_running
    assert "selfhosted_store" in host.check_output("nft list tables")
    for _ in range(20):
        if host.run("psql -XAtq -U postgres -c 'SELECT 1'").rc == 0:
            break
        host.run("sleep 0.5")
    assert sql(host, "SELECT 1") == "1"
