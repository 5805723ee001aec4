# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action behind ollama_model and release_archive, on a host that is a script."""

from __future__ import annotations

import json
import types
import typing as t

import pytest
from ansible.errors import AnsibleConnectionFailure

from ansible_collections.selfhosted.llm.plugins.action import ollama_model, release_archive
from ansible_collections.selfhosted.llm.plugins.plugin_utils import progress

DONE = {"changed": True, "models": [], "finished": True, "started": True, "ansible_job_id": "j1", "stdout": ""}
STATE = {"name": "a", "step": "pulling", "done": 5, "total": 10, "rate": 0.0}


class Host:
    """Answers module runs in order, and notes what was run how."""

    def __init__(self, *answers: dict[str, t.Any] | Exception) -> None:
        self.answers = list(answers)
        self.runs: list[str] = []
        self.commands: list[str] = []
        self.shown: list[str] = []
        self.states: list[str] = []


@pytest.fixture
def act(monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., tuple[dict[str, t.Any], t.Any]]:
    monkeypatch.setattr(progress.time, "sleep", lambda _seconds: None)

    def build(host: Host, module: t.Any = ollama_model, **options: t.Any) -> tuple[dict[str, t.Any], t.Any]:
        task = types.SimpleNamespace(
            args={"models": [], **options.pop("args", {})},
            check_mode=options.pop("check_mode", False),
            async_val=options.pop("async_val", 0),
        )
        shell = types.SimpleNamespace(tmpdir=None, join_path=lambda *parts: "/".join(parts))
        connection = types.SimpleNamespace(
            always_pipeline_modules=options.pop("pipelined", False), has_native_async=False, _shell=shell, reset=lambda: None
        )

        action = module.ActionModule.__new__(module.ActionModule)
        action._task, action._connection = task, connection

        def execute(
            module_name: str = "module", module_args: t.Any = None, task_vars: t.Any = None, wrap_async: bool = False
        ) -> dict[str, t.Any]:
            how = "async" if wrap_async else "check" if task.check_mode else "plain"
            if wrap_async:
                assert task.async_val > 0
            name = module_args.get("mode") if module_name.endswith("async_status") else how
            host.runs.append(name)
            answer = host.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return dict(answer)

        def command(text: str) -> dict[str, t.Any]:
            host.commands.append(text.split(maxsplit=1)[0])
            return {"stdout": host.states.pop(0) if text.startswith("cat") and host.states else "", "rc": 0}

        monkeypatch.setattr(progress.ActionBase, "run", lambda *_args: {})
        action._execute_module = execute
        action._low_level_execute_command = command
        action._remote_expand_user = lambda path: path
        action._remove_tmp_path = lambda _path: None
        action.get_shell_option = lambda _name, default: default
        monkeypatch.setattr(progress.display, "display", host.shown.append)
        return action.run(task_vars={"inventory_hostname": "gpu-1"}), task

    return build


def test_nothing_to_do_is_one_run(act: t.Any) -> None:
    host = Host({"changed": False, "to_load": []})
    result, task = act(host)
    assert host.runs == ["check"]
    assert result == {"changed": False, "to_load": []}
    assert task.check_mode is False


def test_what_fails_at_once_is_not_tried_in_the_background(act: t.Any) -> None:
    host = Host({"failed": True, "msg": "no server"})
    assert act(host)[0]["msg"] == "no server"
    assert host.runs == ["check"]


def test_work_is_watched(act: t.Any) -> None:
    host = Host({"changed": True}, {"ansible_job_id": "j1", "started": True}, {"finished": False}, {"finished": False}, DONE, {})
    host.states = [json.dumps(STATE), json.dumps(STATE), "{half"]
    result, task = act(host)
    assert host.runs == ["check", "async", "status", "status", "status", "cleanup"]
    assert host.shown == ["[gpu-1] a  pulling  50 %  5 B of 10 B"]
    assert result == {"changed": True, "models": []}
    assert host.commands[-1] == "rm"
    # The executor polls in silence where it finds this set.
    assert task.async_val == 0


def test_a_load_is_work_too(act: t.Any) -> None:
    host = Host({"changed": False, "to_load": ["a"]}, {"ansible_job_id": "j1"}, DONE, {})
    act(host)
    assert "async" in host.runs


def test_a_download_is_work_by_its_change(act: t.Any) -> None:
    host = Host({"changed": False, "to_load": ["a"]})
    act(host, release_archive)
    assert host.runs == ["check"]


def test_a_lost_connection_does_not_end_it(act: t.Any) -> None:
    host = Host({"changed": True}, {"ansible_job_id": "j1"}, AnsibleConnectionFailure("gone"), DONE, {})
    assert act(host)[0]["changed"]


def test_a_connection_lost_for_good_does(act: t.Any) -> None:
    host = Host({"changed": True}, {"ansible_job_id": "j1"}, *[AnsibleConnectionFailure("gone")] * 30)
    with pytest.raises(AnsibleConnectionFailure):
        act(host)


@pytest.mark.parametrize("refusal", [{"failed": True, "msg": "could not create async dir"}, {}])
def test_without_background_jobs_it_runs_in_the_foreground(act: t.Any, refusal: dict[str, t.Any]) -> None:
    host = Host({"changed": True}, refusal, {"changed": True, "plain": True})
    assert act(host)[0] == {"changed": True, "plain": True}
    assert host.runs == ["check", "async", "plain"]


@pytest.mark.parametrize(
    ("options", "run"),
    [
        ({"check_mode": True}, "check"),
        ({"async_val": 60}, "async"),
        ({"args": {"progress_interval": 0}}, "plain"),
        ({"args": {"progress_interval": "x"}}, "plain"),
        ({"pipelined": True}, "plain"),
    ],
)
def test_where_it_leaves_the_module_alone(act: t.Any, options: dict[str, t.Any], run: str) -> None:
    host = Host({"changed": True})
    act(host, **options)
    assert host.runs == [run]
