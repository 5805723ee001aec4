# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that make a Compose project of a gateway."""

from __future__ import annotations

import typing as t

from ansible_collections.selfhosted.llm.plugins.plugin_utils.deferred import Deferred


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "compose_package": Deferred("plugin_utils.compose.compose_package"),
            "compose_problems": Deferred("plugin_utils.compose.compose_problems"),
            "compose_project": Deferred("plugin_utils.compose.compose_project"),
            "compose_revisions": Deferred("plugin_utils.compose.compose_revisions"),
        }
