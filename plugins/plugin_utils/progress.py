# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An action that shows how far its module is.

Modules cannot print. So this runs the module in the background of the host (Ansible's own async), reads the file in which
module_utils/progress.py keeps the state, and prints a line on the controller every few seconds.
"""

from __future__ import annotations

import contextlib
import json
import time
import typing as t
import uuid

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.selfhosted.llm.plugins.module_utils.progress import line

display = Display()

# Modules end by themselves when nothing moves; this only bounds a host that forgets its jobs.
_LIMIT = 24 * 3600
_LOST_CONNECTIONS = 20


class ProgressAction(ActionBase):
    """Runs the module of the task's name. Subclasses say whether a check-mode result announces work worth watching."""

    _supports_check_mode = True
    _supports_async = True
    _requires_connection = True

    def work_ahead(self, planned: dict[str, t.Any]) -> bool:
        return bool(planned.get("changed"))

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        del tmp
        interval = self._interval()
        try:
            # The user's own async, as of every action with an async module, comes first.
            if self._task.check_mode or self._task.async_val or interval <= 0 or self._connection.always_pipeline_modules:
                return self._module(task_vars, wrap_async=bool(self._task.async_val) and not self._connection.has_native_async)
            planned = self._plan(task_vars)
            if planned.get("failed") or not self.work_ahead(planned):
                return planned
            return self._watched(task_vars, interval)
        finally:
            if not self._task.async_val:
                self._remove_tmp_path(self._connection._shell.tmpdir)

    def _interval(self) -> float:
        try:
            return float(self._task.args.get("progress_interval", 5))
        except (TypeError, ValueError):
            return 0.0  # the module says what is wrong with it

    def _module(self, task_vars: dict[str, t.Any] | None, wrap_async: bool = False, **more: t.Any) -> dict[str, t.Any]:
        arguments = {**self._task.args, **more}
        return t.cast("dict[str, t.Any]", self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=wrap_async))

    def _plan(self, task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        """The module in check mode: a run that finds nothing to do is then over, without the cost of a background job."""
        self._task.check_mode = True
        try:
            return self._module(task_vars)
        finally:
            self._task.check_mode = False

    def _watched(self, task_vars: dict[str, t.Any] | None, interval: float) -> dict[str, t.Any]:
        folder = self._remote_expand_user(self.get_shell_option("async_dir", default="~/.ansible_async"))
        state_file = self._connection._shell.join_path(folder, f"progress-{uuid.uuid4().hex}")
        # The executor would poll in silence if it saw these after this method; they are only for the wrapper's command line.
        self._task.async_val = _LIMIT
        try:
            started = self._module(task_vars, wrap_async=True, progress_file=state_file)
        finally:
            self._task.async_val = 0
        job = started.get("ansible_job_id")
        if not job or started.get("failed"):
            # No background jobs on this host, say a home that cannot be written.
            display.v(f"no background job, so no progress: {started.get('msg', '')}", host=self._host(task_vars))
            return self._module(task_vars)
        try:
            return self._poll(str(job), state_file, interval, task_vars)
        finally:
            self._low_level_execute_command(f"rm -f {state_file} {state_file}.new")

    def _poll(self, job: str, state_file: str, interval: float, task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        shown = ""
        lost = 0
        # The first look is early: much of the work is small.
        pause = min(1.0, interval)
        while True:
            time.sleep(pause)
            pause = interval
            try:
                shown = self._show(state_file, shown, task_vars)
                result = self._job(job, "status", task_vars)
                lost = 0
            except AnsibleConnectionFailure:
                lost += 1
                if lost > _LOST_CONNECTIONS:
                    raise
                with contextlib.suppress(Exception):
                    self._connection.reset()
                continue
            if result.get("finished"):
                with contextlib.suppress(AnsibleConnectionFailure):
                    self._job(job, "cleanup", task_vars)
                for key in ("ansible_job_id", "started", "finished", "results_file", "stdout", "stderr", "stdout_lines", "stderr_lines"):
                    result.pop(key, None)
                return result

    def _job(self, job: str, mode: str, task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        folder = self._remote_expand_user(self.get_shell_option("async_dir", default="~/.ansible_async"))
        arguments = {"jid": job, "mode": mode, "_async_dir": folder}
        return t.cast(
            "dict[str, t.Any]",
            self._execute_module(module_name="ansible.legacy.async_status", module_args=arguments, task_vars=task_vars),
        )

    def _show(self, state_file: str, shown: str, task_vars: dict[str, t.Any] | None) -> str:
        """Prints the state if it is another one than the last, and returns it."""
        answer = self._low_level_execute_command(f"cat {state_file} 2>/dev/null")
        try:
            text = line(json.loads(answer["stdout"]))
        except (KeyError, ValueError):
            return shown
        if text != shown:
            display.display(f"[{self._host(task_vars)}] {text}")
        return text

    @staticmethod
    def _host(task_vars: dict[str, t.Any] | None) -> str:
        return str((task_vars or {}).get("inventory_hostname", ""))
