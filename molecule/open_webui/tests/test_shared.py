# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Open WebUI with PostgreSQL, Redis and two workers, as the role left it after the faults of side_effect.yml."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

testinfra_hosts = ["ansible://webui_shared"]

STORE = "webui-gateway"


def on_the_store(*command: str) -> str:
    done = subprocess.run(["docker", "exec", STORE, *command], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def sql(statement: str) -> str:
    return on_the_store("psql", "-XAt", "-U", "postgres", "-d", "openwebui", "-c", statement)


def ask(host: Host, path: str, body: Any = None, token: str = "") -> Any:
    url = f"http://{host.check_output('hostname -I').split()[0]}:8080{path}"
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())


@pytest.fixture(name="token", scope="module")
def _token(host: Host) -> str:
    variables = host.ansible.get_variables()
    account = {"email": variables["open_webui_admin_email"], "password": variables["open_webui_admin_password"]}
    session = ask(host, "/api/v1/auths/signin", account)
    assert session["role"] == "admin"
    return str(session["token"])


def test_the_data_is_in_postgresql(host: Host) -> None:
    assert sql('SELECT email, role FROM "user"') == "admin@molecule.test|admin"
    assert not host.file("/var/lib/open-webui/webui.db").exists


def test_a_session_is_good_with_every_worker(host: Host, token: str) -> None:
    for _number in range(12):
        assert ask(host, "/api/v1/auths/", token=token)["role"] == "admin"


def test_the_models_and_a_chat(host: Host, token: str) -> None:
    assert sorted(model["id"] for model in ask(host, "/api/models", token=token)["data"]) == ["embed", "tiny"]
    question = {"model": "tiny", "max_tokens": 8, "stream": False, "messages": [{"role": "user", "content": "Hello"}]}
    assert ask(host, "/api/chat/completions", question, token)["choices"]


def test_it_uses_redis_and_no_candidate_is_left_there(host: Host) -> None:
    password = host.ansible.get_variables()["webui_redis_password"]
    script = f"REDISCLI_AUTH={password} redis-cli -n 1 --scan"
    keys = on_the_store("sh", "-c", script).splitlines()
    assert [key for key in keys if key.startswith("open-webui:")]


def test_the_database_was_dumped_before_a_migration(host: Host) -> None:
    folder = host.file("/var/backups/open-webui")
    assert (folder.user, folder.mode) == ("root", 0o700)
    (dump,) = folder.listdir()
    assert re.fullmatch(r"open-webui-\d{8}T\d{6}Z\.dump", dump)
    assert host.file(f"/var/backups/open-webui/{dump}").mode == 0o600
    assert "TABLE DATA public user" in host.check_output("pg_restore --list %s", f"/var/backups/open-webui/{dump}")


def test_no_secret_is_in_a_process_list_or_the_journal(host: Host) -> None:
    variables = host.ansible.get_variables()
    seen = host.check_output("ps -eo args; journalctl --no-pager --output cat; cat /etc/systemd/system/open-webui.service")
    for name in ("webui_database_password", "webui_redis_password"):
        assert variables[name] not in seen


def test_nothing_of_a_candidate_is_left(host: Host) -> None:
    for path in ("/var/lib/open-webui/.candidate", "/run/open-webui-candidate", "/run/systemd/system/open-webui-candidate.service"):
        assert not host.file(path).exists
