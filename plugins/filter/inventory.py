# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters on hosts and groups."""

from __future__ import annotations

import typing as t

from ansible_collections.selfhosted.llm.plugins.plugin_utils.hosts import (
    addresses,
    edge_proxies,
    edge_url,
    edge_urls,
    host_ports,
    host_urls,
)
from ansible_collections.selfhosted.llm.plugins.plugin_utils.inventory import inventory_problems


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "addresses": addresses,
            "edge_proxies": edge_proxies,
            "edge_url": edge_url,
            "edge_urls": edge_urls,
            "host_ports": host_ports,
            "host_urls": host_urls,
            "inventory_problems": inventory_problems,
        }
