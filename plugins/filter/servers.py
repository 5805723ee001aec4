# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters on the servers of `llm_models` that run on hosts of the inventory."""

from __future__ import annotations

import typing as t

from ansible_collections.selfhosted.llm.plugins.plugin_utils.deferred import Deferred


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "resolved_models": Deferred("plugin_utils.servers.resolved_models"),
            "server_endpoints": Deferred("plugin_utils.servers.server_endpoints"),
            "tunnelled_servers": Deferred("plugin_utils.servers.tunnelled_servers"),
        }
