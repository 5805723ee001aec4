# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters on the servers of `llm_models` that run on hosts of the inventory."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.selfhosted.llm.plugins.plugin_utils import servers
from ansible_collections.selfhosted.llm.plugins.plugin_utils.hosts import HostVars
from ansible_collections.selfhosted.llm.plugins.plugin_utils.models import ModelsError


def _checked(function: t.Callable[[t.Any, HostVars], t.Any]) -> t.Callable[[t.Any, HostVars], t.Any]:
    def apply(models: t.Any, hostvars: HostVars) -> t.Any:
        try:
            return function(models, hostvars)
        except ModelsError as exc:
            raise AnsibleFilterError(str(exc)) from exc

    return apply


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "resolved_models": _checked(servers.resolved_models),
            "server_endpoints": _checked(servers.server_endpoints),
            "tunnelled_servers": _checked(servers.tunnelled_servers),
        }
