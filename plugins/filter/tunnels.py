# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters on SSH tunnels."""

from __future__ import annotations

import functools
import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.selfhosted.llm.plugins.plugin_utils import tunnels


def _explained(function: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
    @functools.wraps(function)
    def call(*args: t.Any, **kwargs: t.Any) -> t.Any:
        try:
            return function(*args, **kwargs)
        except ValueError as exc:
            raise AnsibleFilterError(str(exc)) from exc

    return call


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "host_tunnels": _explained(tunnels.host_tunnels),
            "tunnel_authorized_keys": _explained(tunnels.authorized_keys),
            "tunnel_client_problems": tunnels.tunnel_client_problems,
            "tunnel_clients": _explained(tunnels.tunnel_clients),
            "tunnel_gateways": tunnels.tunnel_gateways,
            "tunnel_known_hosts": _explained(tunnels.known_hosts),
            "tunnel_listener_problems": _explained(tunnels.listener_problems),
            "tunnel_permissions": tunnels.permissions,
            "tunnel_plan": _explained(tunnels.tunnel_plan),
            "tunnel_problems": tunnels.tunnel_problems,
            "tunnel_withdrawals": tunnels.withdrawals,
        }
