# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module hf_space with the real library huggingface_hub against the stand-in of the Hub."""

from __future__ import annotations

import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from ansible_collections.selfhosted.llm.plugins.modules import hf_space
from ansible_collections.selfhosted.llm.tests.unit.scripted_http import run_module

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "standins" / "huggingface_hub"))
import serve

# It comes with requirements-dev.txt: without it these tests fail rather than prove nothing.
import huggingface_hub  # noqa: F401  # isort: skip

TOKEN = "hf_" + "Wq7Zk2Xv9Nn4Rt6Lm8"
SECRET = "sk-Gw7Rn2Wq9Zt4Lb6Vm3Yc8Hd5Jf"
FILES = {"README.md": "---\nsdk: docker\napp_port: 7860\n---\n", "Dockerfile": "FROM a\n", "config.yaml": "model_list: []\n"}
Publish = t.Callable[..., t.Any]


@pytest.fixture
def hub(tmp_path: Path) -> t.Iterator[serve.Hub]:
    made = serve.Hub(tmp_path, TOKEN, "somebody")
    server, _url = serve.start(made)
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def publish(hub: serve.Hub, capsys: pytest.CaptureFixture[str]) -> Publish:
    def call(check: bool = False, **options: t.Any) -> t.Any:
        given = {
            "repository": "somebody/gateway",
            "token": TOKEN,
            "endpoint": hub.address,
            "files": FILES,
            "absent_files": ["custom_auth.py"],
            "secrets": {"LITELLM_MASTER_KEY": SECRET},
            "variables": {"LITELLM_LOG": "WARNING"},
            "digest_key": SECRET,
            "interval": 0.01,
            "timeout": 20,
            "_ansible_diff": True,
            **options,
        }
        result = run_module(capsys, hf_space.main, given, check)
        # What Ansible repeats of the arguments is censored.
        assert TOKEN not in str(result)
        assert SECRET not in str(result)
        return result

    return call


def commits(hub: serve.Hub) -> list[str]:
    folder = hub.spaces["somebody/gateway"].repository.folder
    done = subprocess.run(["git", "log", "--format=%s", "main"], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_from_nothing_to_running_and_then_nothing(hub: serve.Hub, publish: Publish) -> None:
    before = publish(check=True)
    assert before["changed"]
    assert not hub.spaces

    made = publish()
    assert made["changed"]
    assert made["stage"] == "RUNNING"
    assert made["url"] == hub.urls["somebody/gateway"]
    assert made["committed"] == sorted(FILES)
    space = hub.spaces["somebody/gateway"]
    assert space.private
    assert space.secrets["LITELLM_MASTER_KEY"]["value"] == SECRET
    assert space.variables["LITELLM_LOG"]["value"] == "WARNING"
    assert commits(hub) == ["Deploy by Ansible (selfhosted.llm)", "initial commit"]
    assert made["commit"] == space.repository.head()
    assert space.repository.read("main", "Dockerfile") == b"FROM a\n"

    hub.calls.clear()
    again = publish()
    assert not again["changed"]
    assert again["diff"] == []
    assert all(call.startswith("GET ") for call in hub.calls), hub.calls


def test_a_changed_file_is_one_commit(hub: serve.Hub, publish: Publish) -> None:
    publish(files={**FILES, "custom_auth.py": "x = 1\n"})
    files = {**FILES, "Dockerfile": "FROM b\n"}
    would = publish(files=files, check=True)
    assert would["changed"]
    assert len(commits(hub)) == 2
    done = publish(files=files)
    assert done["committed"] == ["Dockerfile", "custom_auth.py"]
    assert would["diff"] == done["diff"]
    assert done["diff"][0]["before"] == "FROM a\n"
    assert len(commits(hub)) == 3
    assert "custom_auth.py" not in hub.spaces["somebody/gateway"].repository.tree("main")


def test_only_the_changed_secret_is_set(hub: serve.Hub, publish: Publish) -> None:
    publish(secrets={"LITELLM_MASTER_KEY": SECRET, "HF_TOKEN": "hf_value-of-the-model"})
    hub.calls.clear()
    done = publish(secrets={"LITELLM_MASTER_KEY": SECRET, "HF_TOKEN": "hf_another-of-the-model"})
    assert done["secrets"] == ["HF_TOKEN"]
    assert not done["committed"]
    assert [call for call in hub.calls if not call.startswith("GET ")] == [
        "POST /api/spaces/somebody/gateway/secrets",
        "POST /api/spaces/somebody/gateway/restart",
    ]
    assert not publish(secrets={"LITELLM_MASTER_KEY": SECRET, "HF_TOKEN": "hf_another-of-the-model"})["changed"]
    assert publish()["secrets"] == ["HF_TOKEN"]
    assert set(hub.spaces["somebody/gateway"].secrets) == {"LITELLM_MASTER_KEY"}


def test_what_others_set_stays(hub: serve.Hub, publish: Publish) -> None:
    publish()
    space = hub.spaces["somebody/gateway"]
    space.secrets["THEIRS"] = {"key": "THEIRS", "value": "x", "description": None, "updatedAt": None}
    space.variables["THEIRS"] = {"key": "THEIRS", "value": "x", "description": "by hand", "updatedAt": None}
    assert not publish()["changed"]
    assert "THEIRS" in space.secrets
    assert "THEIRS" in space.variables


def test_a_failing_build_shows_its_log(hub: serve.Hub, publish: Publish) -> None:
    publish()
    space = hub.spaces["somebody/gateway"]
    space.fail_build = f"ERROR: no such image; the key is {SECRET}"
    failed = publish(files={**FILES, "Dockerfile": "FROM nothing\n"})
    assert failed["failed"]
    assert "BUILD_ERROR" in failed["msg"]
    assert "ERROR: no such image" in failed["msg"]
    # What was temporary is built once more by the next run.
    space.fail_build = ""
    again = publish(files={**FILES, "Dockerfile": "FROM nothing\n"})
    assert again["woken"] == "BUILD_ERROR"
    assert again["stage"] == "RUNNING"


def test_a_hub_that_is_late_to_say_so(hub: serve.Hub, publish: Publish) -> None:
    publish()
    space = hub.spaces["somebody/gateway"]
    space.fail_build, space.stale = "ERROR: no such image", 3
    assert publish(files={**FILES, "Dockerfile": "FROM nothing\n"})["failed"], "RUNNING is what ran before"


@pytest.mark.parametrize("stage", ["SLEEPING", "PAUSED"])
def test_it_is_woken(hub: serve.Hub, publish: Publish, stage: str) -> None:
    publish()
    hub.spaces["somebody/gateway"].idle(stage)
    assert publish(check=True)["woken"] == stage
    assert hub.spaces["somebody/gateway"].stage == stage
    woken = publish()
    assert woken["changed"]
    assert woken["woken"] == stage
    assert woken["stage"] == "RUNNING"
    assert not publish()["changed"]


def test_visibility(hub: serve.Hub, publish: Publish) -> None:
    publish()
    assert publish(private=False)["changed"]
    assert not hub.spaces["somebody/gateway"].private
    assert not publish(private=False)["changed"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token": "hf_nobodys-token"}, "refuses the token"),
        ({"repository": "another/gateway"}, "It needs the right to write to Spaces of another"),
        ({"repository": "gateway"}, "repository must be owner/name"),
        ({"endpoint": "http://127.0.0.1:9"}, "did not answer"),
        ({"files": {"config.yaml": f"master_key: {SECRET}"}}, "config.yaml would publish the value of a secret"),
        ({"secrets": {"A": 1}}, "the value of A must be a string"),
        ({"secrets": {"A": ""}}, "A is empty"),
        ({"secrets": {"A-B": "xxxxxxxx"}}, "no name for an environment variable"),
        ({"variables": {"LITELLM_MASTER_KEY": "x"}}, "cannot be a secret and a variable at once"),
    ],
)
def test_refusals(hub: serve.Hub, publish: Publish, options: dict[str, t.Any], message: str) -> None:
    result = publish(**options)
    assert result["failed"]
    assert message in result["msg"]
    assert not hub.spaces


def test_a_token_that_can_only_read(hub: serve.Hub, publish: Publish) -> None:
    hub.role = "read"
    assert "can only read" in publish()["msg"]
    assert not hub.spaces


def test_without_the_library(publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'huggingface_hub" in publish()["msg"]
