# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters on secrets: what is wrong with one before it goes live, and which are live."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.selfhosted.llm.plugins.module_utils.systemd import format_environment, parse_environment
from ansible_collections.selfhosted.llm.plugins.plugin_utils.secrets import weakness


def environment_text(values: t.Any) -> str:
    try:
        return format_environment(values)
    except ValueError as exc:
        raise AnsibleFilterError(str(exc)) from exc


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"environment_text": environment_text, "environment_values": parse_environment, "weakness": weakness}
