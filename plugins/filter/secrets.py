# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters on secrets: what is wrong with one before it goes live, and which are live."""

from __future__ import annotations

import typing as t

from ansible_collections.selfhosted.llm.plugins.module_utils.systemd import parse_environment
from ansible_collections.selfhosted.llm.plugins.plugin_utils.secrets import weakness


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"environment_values": parse_environment, "weakness": weakness}
