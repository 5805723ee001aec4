# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters whose code is loaded when it is used.

Ansible looks for a filter in all filter files of its collection, and compiles them and what they import, anew in every process that it
starts for a task: all of that counts for each task, whichever filter it uses.
"""

from __future__ import annotations

import importlib
import inspect
import typing as t

from ansible.errors import AnsibleFilterError

_PLUGINS = __name__.rpartition(".plugin_utils.")[0]


def load(module: str) -> t.Any:
    """The module, given by its name below `plugins`."""
    return importlib.import_module(f"{_PLUGINS}.{module}")


class Deferred:
    """The function `target`, given by its name below `plugins`. Its ValueError means that it was given a mistake."""

    def __init__(self, target: str) -> None:
        self._module, self._name = target.rsplit(".", 1)

    def function(self) -> t.Callable[..., t.Any]:
        return t.cast("t.Callable[..., t.Any]", getattr(load(self._module), self._name))

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.function())

    def __call__(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        try:
            return self.function()(*args, **kwargs)
        except ValueError as exc:
            raise AnsibleFilterError(str(exc)) from exc
