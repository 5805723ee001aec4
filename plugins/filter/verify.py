# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that put together what the module verify_report takes."""

from __future__ import annotations

import typing as t

from ansible_collections.selfhosted.llm.plugins.plugin_utils.deferred import Deferred


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "verify_edges": Deferred("plugin_utils.verify.verify_edges"),
            "verify_gateways": Deferred("plugin_utils.verify.verify_gateways"),
            "verify_page_requests": Deferred("plugin_utils.verify.verify_page_requests"),
            "verify_pages": Deferred("plugin_utils.verify.verify_pages"),
            "verify_topology": Deferred("plugin_utils.verify.verify_topology"),
        }
