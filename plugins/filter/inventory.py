# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters on hosts and groups."""

from __future__ import annotations

import typing as t

from ansible_collections.selfhosted.llm.plugins.plugin_utils.deferred import Deferred


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "addresses": Deferred("plugin_utils.hosts.addresses"),
            "edge_proxies": Deferred("plugin_utils.hosts.edge_proxies"),
            "edge_url": Deferred("plugin_utils.hosts.edge_url"),
            "edge_urls": Deferred("plugin_utils.hosts.edge_urls"),
            "host_ports": Deferred("plugin_utils.hosts.host_ports"),
            "host_urls": Deferred("plugin_utils.hosts.host_urls"),
            "inventory_problems": Deferred("plugin_utils.inventory.inventory_problems"),
        }
