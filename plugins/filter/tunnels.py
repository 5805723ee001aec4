# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters on SSH tunnels."""

from __future__ import annotations

import typing as t

from ansible_collections.selfhosted.llm.plugins.plugin_utils.deferred import Deferred


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "host_tunnels": Deferred("plugin_utils.tunnels.host_tunnels"),
            "tunnel_authorized_keys": Deferred("plugin_utils.tunnels.authorized_keys"),
            "tunnel_client_problems": Deferred("plugin_utils.tunnels.tunnel_client_problems"),
            "tunnel_clients": Deferred("plugin_utils.tunnels.tunnel_clients"),
            "tunnel_gateways": Deferred("plugin_utils.tunnels.tunnel_gateways"),
            "tunnel_known_hosts": Deferred("plugin_utils.tunnels.known_hosts"),
            "tunnel_listener_problems": Deferred("plugin_utils.tunnels.listener_problems"),
            "tunnel_permissions": Deferred("plugin_utils.tunnels.permissions"),
            "tunnel_plan": Deferred("plugin_utils.tunnels.tunnel_plan"),
            "tunnel_problems": Deferred("plugin_utils.tunnels.tunnel_problems"),
            "tunnel_withdrawals": Deferred("plugin_utils.tunnels.withdrawals"),
        }
