# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Open WebUI as the role left it, after the faults of side_effect.yml."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

testinfra_hosts = ["ansible://webui"]

ROOT = Path(__file__).parents[3]
READ_STALE = """
import sqlite3
database = sqlite3.connect("file:/var/lib/open-webui/webui.db?mode=ro", uri=True)
print(database.execute("SELECT value FROM config WHERE key = 'ui.enable_signup'").fetchone()[0])
"""
READ_DIMENSION = """
import sqlite3
database = sqlite3.connect("file:/var/lib/open-webui/vector_db/chroma.sqlite3?mode=ro", uri=True)
print(database.execute("SELECT dimension FROM collections WHERE name = 'file-{file_id}'").fetchone()[0])
"""
PASSAGE = "The lighthouse keeper of Tevennec counts seven gulls each morning."


class Api:
    """Open WebUI's API, from outside the machine."""

    def __init__(self, host: Host) -> None:
        variables = host.ansible.get_variables()
        self.email: str = variables["open_webui_admin_email"]
        self.password: str = variables["open_webui_admin_password"]
        self.url = f"http://{host.check_output('hostname -I').split()[0]}:8080"
        self.token = ""

    def call(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, str]:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json", **(headers or {})})
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def json(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        status, text = self.call(path, body, headers)
        assert status == 200, f"{path}: {status} {text[:500]}"
        return json.loads(text)


@pytest.fixture(name="anonymous")
def _anonymous(host: Host) -> Api:
    return Api(host)


@pytest.fixture(name="api", scope="module")
def _api(host: Host) -> Api:
    api = Api(host)
    session = api.json("/api/v1/auths/signin", {"email": api.email, "password": api.password})
    assert session["role"] == "admin"
    assert session["name"] == "The Admin"
    api.token = session["token"]
    return api


def environment(host: Host) -> dict[str, str]:
    text = host.file("/etc/open-webui/open-webui.env").content_string
    return dict(re.findall(r'^(\w+)="(.*)"$', text, flags=re.MULTILINE))


def test_the_account_may_do_nothing_else(host: Host) -> None:
    user = host.user("open-webui")
    assert user.shell == "/usr/sbin/nologin"
    assert user.uid < 1000
    assert user.groups == ["open-webui"]


@pytest.mark.parametrize(
    ("path", "owner", "mode"),
    [
        ("/var/lib/open-webui", "open-webui", 0o700),
        ("/var/lib/open-webui/webui.db", "open-webui", 0o600),
        ("/etc/open-webui", "root", 0o700),
        ("/etc/open-webui/open-webui.env", "root", 0o600),
        ("/etc/open-webui/secret_key", "root", 0o600),
    ],
)
def test_files(host: Host, path: str, owner: str, mode: int) -> None:
    file = host.file(path)
    assert (file.user, file.mode) == (owner, mode)


def test_the_release_belongs_to_root_and_is_compiled(host: Host) -> None:
    release = host.file("/opt/open-webui/current").linked_to
    assert re.fullmatch(r"/opt/open-webui/releases/0\.12\.4-[0-9a-f]{12}", release)
    assert host.check_output(f"find {release} -user open-webui -print -quit") == ""
    assert host.run(f"ls {release}/lib/python3*/site-packages/open_webui/__pycache__/main.*.pyc").succeeded
    assert host.run(f"ls -d {release}/lib/python3*/site-packages/torch").failed


def test_the_unit_runs_and_is_hardened(host: Host) -> None:
    service = host.service("open-webui")
    assert service.is_running
    assert service.is_enabled
    assert host.check_output("systemctl show --property User --value open-webui") == "open-webui"
    verdict = host.check_output("systemd-analyze security --no-pager open-webui")
    exposure = re.search(r"exposure level for open-webui.service: ([\d.]+)", verdict)
    assert exposure
    assert float(exposure.group(1)) <= 3.0


def test_no_secret_is_in_a_process_list_or_the_journal(host: Host) -> None:
    key = host.file("/etc/open-webui/secret_key").content_string
    variables = host.ansible.get_variables()
    seen = host.check_output("ps -eo args; journalctl --no-pager --output cat; cat /etc/systemd/system/open-webui.service")
    for secret in (key, variables["open_webui_gateway_key"], variables["open_webui_admin_password"]):
        assert secret not in seen


def test_the_secret_key_is_the_one_that_was_made_first(host: Host) -> None:
    key = host.file("/etc/open-webui/secret_key")
    assert environment(host)["WEBUI_SECRET_KEY"] == key.content_string
    assert re.fullmatch(r"[A-Za-z0-9]{64}", key.content_string)
    unit = host.file("/etc/systemd/system/open-webui.service")
    assert key.mtime <= unit.mtime


def test_nothing_of_a_candidate_is_left(host: Host) -> None:
    for path in ("/var/lib/open-webui/.candidate", "/run/open-webui-candidate", "/run/systemd/system/open-webui-candidate.service"):
        assert not host.file(path).exists


def test_it_listens_and_is_ready(host: Host, anonymous: Api) -> None:
    assert host.socket("tcp://0.0.0.0:8080").is_listening
    assert anonymous.json("/health") == {"status": True}
    assert anonymous.json("/ready") == {"status": True}


def test_settings_follow_the_inventory_and_not_the_database(host: Host, anonymous: Api, api: Api) -> None:
    stale = host.check_output("python3 -c %s", READ_STALE)
    assert stale == "true", "side_effect.yml should have written this"
    public = anonymous.json("/api/config")
    assert public["name"] == "Molecule Chat (Open WebUI)"
    assert public["features"]["enable_signup"] is False
    assert api.json("/api/config")["default_models"] == "tiny"
    assert api.json("/openai/config")["OPENAI_API_BASE_URLS"] == ["http://webui-gateway:4000/v1"]
    assert api.json("/ollama/config")["ENABLE_OLLAMA_API"] is False


def test_nobody_can_sign_up(anonymous: Api) -> None:
    account = {"name": "Eve", "email": "eve@molecule.test", "password": "a-long-Enough-1-password"}
    status, _text = anonymous.call("/api/v1/auths/signup", account)
    assert status == 403


@pytest.mark.parametrize("path", ["/api/models", "/openai/models", "/api/v1/files/", "/api/v1/users/", "/api/v1/configs/export"])
def test_nothing_answers_a_stranger(anonymous: Api, path: str) -> None:
    status, _text = anonymous.call(path)
    assert status in (401, 403, 404, 405)


def test_the_api_documentation_is_not_served(anonymous: Api) -> None:
    assert "openapi" not in anonymous.call("/openapi.json")[1][:200]


def test_the_models_are_those_of_the_gateway(api: Api) -> None:
    assert sorted(model["id"] for model in api.json("/api/models")["data"]) == ["embed", "tiny"]


def test_a_user_who_is_no_admin_sees_the_models(api: Api, anonymous: Api) -> None:
    email = f"user-{uuid.uuid4().hex[:8]}@molecule.test"
    added = api.json("/api/v1/auths/add", {"name": "User", "email": email, "password": "kJ8-vW3-pQ6-xT1", "role": "user"})
    anonymous.token = added["token"]
    assert sorted(model["id"] for model in anonymous.json("/api/models")["data"]) == ["embed", "tiny"]
    assert anonymous.call("/api/v1/users/")[0] in (401, 403)


def test_chat(api: Api) -> None:
    question = {"model": "tiny", "max_tokens": 16, "messages": [{"role": "user", "content": "Hello"}]}
    answer = api.json("/api/chat/completions", {**question, "stream": False})
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["usage"]["completion_tokens"] > 0
    status, text = api.call("/api/chat/completions", {**question, "stream": True})
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert status == 200
    assert events[-1] == "[DONE]"
    assert len(events) > 2


def gateway_dimension(host: Host) -> int:
    """Length of the vectors that the gateway's embedding model makes."""
    variables = host.ansible.get_variables()
    answer = host.check_output(
        "curl -sf %s -H %s -H 'Content-Type: application/json' -d %s",
        variables["open_webui_gateway_url"] + "/embeddings",
        f"Authorization: Bearer {variables['litellm_proxy_master_key']}",
        json.dumps({"model": "embed", "input": PASSAGE}),
    )
    return len(json.loads(answer)["data"][0]["embedding"])


def test_a_document_is_indexed_by_the_embedding_model_of_the_gateway(host: Host, api: Api) -> None:
    boundary = uuid.uuid4().hex
    part = 'Content-Disposition: form-data; name="file"; filename="keeper.txt"\r\nContent-Type: text/plain\r\n'
    form = f"--{boundary}\r\n{part}\r\n{PASSAGE}\r\n--{boundary}--\r\n".encode()
    file_id = api.json("/api/v1/files/", form, {"Content-Type": f"multipart/form-data; boundary={boundary}"})["id"]
    state: dict[str, Any] = {}
    for _second in range(60):
        state = api.json(f"/api/v1/files/{file_id}/process/status")
        if state["status"] in ("completed", "failed"):
            break
        time.sleep(1)
    assert state["status"] == "completed", state
    query = {"collection_name": f"file-{file_id}", "query": "Who counts gulls?", "k": 1, "hybrid": False}
    found = api.json("/api/v1/retrieval/query/doc", query)
    assert found["documents"][0][0] == PASSAGE
    stored = host.check_output("python3 -c %s", READ_DIMENSION.format(file_id=file_id))
    assert int(stored) == gateway_dimension(host)


def test_a_browser_can_chat(host: Host, api: Api, tmp_path: Path) -> None:
    del host  # its journal is shown when this fails
    password = tmp_path / "password"
    password.write_text(api.password, encoding="utf-8")
    settings = {
        "OPEN_WEBUI_URL": api.url,
        "OPEN_WEBUI_EMAIL": api.email,
        "OPEN_WEBUI_PASSWORD_FILE": str(password),
        "OPEN_WEBUI_MODEL": "tiny",
        "SCREENSHOTS": str(ROOT / "reports" / "browser"),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(ROOT / "tests" / "browser")]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout
