# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action behind litellm_key: files on the controller, and a module that is a script."""

from __future__ import annotations

import types
import typing as t
from pathlib import Path

import pytest
from ansible.parsing.vault import VaultSecret
from ansible.plugins.action import ActionBase

from ansible_collections.selfhosted.llm.plugins.action import litellm_key

SECRETS = [("default", VaultSecret(b"one"))]


class Run:
    """The action, its calls of the module as (check mode?, arguments), and the module's answers in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ActionBase, "run", lambda *_args: {})
        self.calls: list[tuple[bool, dict[str, t.Any]]] = []

    def __call__(self, *answers: dict[str, t.Any], check_mode: bool = False, **arguments: t.Any) -> dict[str, t.Any]:
        self.calls = []
        script = list(answers)
        action = litellm_key.ActionModule.__new__(litellm_key.ActionModule)
        task = types.SimpleNamespace(args=arguments, check_mode=check_mode)

        def execute(module_args: dict[str, t.Any], task_vars: t.Any = None) -> dict[str, t.Any]:
            del task_vars
            self.calls.append((task.check_mode, module_args))
            return dict(script.pop(0))

        action._task = task
        action._loader = types.SimpleNamespace(_vault=types.SimpleNamespace(secrets=SECRETS))
        action._connection = types.SimpleNamespace(_shell=types.SimpleNamespace(tmpdir=None))
        action._execute_module = execute
        action._remove_tmp_path = lambda _path: None
        result: dict[str, t.Any] = action.run(task_vars={})
        assert not script
        assert task.check_mode == check_mode
        return result


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(monkeypatch)


def test_without_files_the_module_runs_once(run: Run) -> None:
    keys = [{"key_alias": "a", "key": "sk-declared"}]
    assert run({"changed": True}, keys=keys, url="u") == {"changed": True}
    assert run.calls == [(False, {"keys": keys, "url": "u"})]


def test_without_files_no_vault_password_is_needed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.SECRETS", [])
    keys = [{"key_alias": "a", "key": "sk-declared"}]
    assert run({"changed": False}, keys=keys, encrypt_key_files=True, key_directory="keys") == {"changed": False}
    with_a_file = run(keys=[{"key_alias": "b"}], encrypt_key_files=True, key_directory="keys")
    assert "no vault password" in with_a_file["msg"]


def test_a_new_key_gets_a_file_before_it_is_made(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "keys" / "a.key"
    result = run(
        {"changed": True, "to_generate": ["a"]},
        {"changed": True},
        keys=[{"key_alias": "a", "rpm_limit": 1}],
        key_directory=str(tmp_path / "keys"),
    )
    (planned, plan), (real, done) = run.calls
    assert (planned, real) == (True, False)
    assert plan == {"keys": [{"key_alias": "a", "rpm_limit": 1}], "supplied": ["a"]}
    value = file.read_text().strip()
    assert value.startswith("sk-")
    assert len(value) > 40
    assert done == {"keys": [{"key_alias": "a", "rpm_limit": 1, "key": value}], "rotate": []}
    assert result == {"changed": True, "key_files": [str(file)]}
    assert value not in str(result)


def test_a_file_that_is_there_is_the_value(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "mine"
    file.write_text("sk-known\n")
    file.chmod(0o600)
    result = run(
        {"changed": False}, keys=[{"key_alias": "a", "key_file": str(file)}, {"key_alias": "b", "state": "absent", "key_file": "x"}]
    )
    assert run.calls[0][1]["keys"] == [{"key_alias": "a", "key": "sk-known"}, {"key_alias": "b", "state": "absent"}]
    assert result == {"changed": False, "key_files": []}


def test_encrypted(run: Run, tmp_path: Path) -> None:
    options = {"keys": [{"key_alias": "a"}], "key_directory": str(tmp_path), "encrypt_key_files": "yes"}
    run({"changed": True, "to_generate": ["a"]}, {"changed": True}, **options)
    value = run.calls[1][1]["keys"][0]["key"]
    assert (tmp_path / "a.key").read_text().startswith("$ANSIBLE_VAULT")
    assert not run({"changed": False}, **options)["changed"]
    assert run.calls[0][1]["keys"][0]["key"] == value


def test_a_file_that_others_can_read_is_mended(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "a.key"
    file.write_text("sk-known\n")
    file.chmod(0o644)
    options = {"keys": [{"key_alias": "a"}], "key_directory": str(tmp_path)}
    assert run({"changed": False}, check_mode=True, **options)["changed"]
    assert file.stat().st_mode & 0o777 == 0o644
    assert run({"changed": False}, **options) == {"changed": True, "key_files": [str(file)]}
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == "sk-known\n"


def test_check_mode_writes_nothing(run: Run, tmp_path: Path) -> None:
    result = run({"changed": True, "to_generate": ["a"]}, check_mode=True, keys=[{"key_alias": "a"}], key_directory=str(tmp_path / "keys"))
    assert result["key_files"] == [str(tmp_path / "keys" / "a.key")]
    assert not (tmp_path / "keys").exists()


def test_a_plan_that_fails_is_the_end(run: Run, tmp_path: Path) -> None:
    result = run({"failed": True, "msg": "no database"}, keys=[{"key_alias": "a"}], key_directory=str(tmp_path))
    assert result["failed"]
    assert list(tmp_path.iterdir()) == []


def test_a_key_whose_file_is_missing_is_left_with_a_warning(run: Run, tmp_path: Path) -> None:
    result = run({"changed": False, "to_generate": []}, keys=[{"key_alias": "a"}], key_directory=str(tmp_path))
    assert not result["changed"]
    assert "their values are not known: a. Bring" in result["warnings"][0]
    assert list(tmp_path.iterdir()) == []


def test_rotation(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "a.key"
    file.write_text("sk-old\n")
    file.chmod(0o600)
    run(
        {"changed": True, "to_generate": ["a"]},
        {"changed": True},
        keys=[{"key_alias": "a"}, {"key_alias": "b", "key": "sk-declared"}],
        key_directory=str(tmp_path),
        rotate=["a", "b"],
    )
    (_check, plan), (_real, done) = run.calls
    assert "key" not in plan["keys"][0]
    assert plan["rotate"] == ["a", "b"]
    # The new value says that it is rotated; what the controller does not supply is the module's.
    assert done["rotate"] == ["b"]
    assert done["keys"][0]["key"] == file.read_text().strip() != "sk-old"


@pytest.mark.parametrize(
    ("keys", "options", "said"),
    [
        ([{"key_alias": "a", "key_file": "x"}, {"key_alias": "b", "key_file": "./x"}], {}, "two keys have this file"),
        ([{"key_alias": "a/b"}], {"key_directory": "keys"}, "Give the key a key_file"),
        ([{"key_alias": "a"}], {"key_directory": "keys", "encrypt_key_files": True, "vault_id": "nobody"}, "vault_id nobody"),
    ],
)
def test_mistakes(run: Run, keys: t.Any, options: t.Any, said: str) -> None:
    result = run(keys=keys, **options)
    assert result["failed"]
    assert said in result["msg"]
    assert run.calls == []


def test_what_is_no_list_of_keys_is_for_the_module_to_say(run: Run) -> None:
    assert run({"failed": True}, keys="a")["failed"]
