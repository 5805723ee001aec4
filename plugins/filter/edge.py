# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that check what an edge node is to do, before it does."""

from __future__ import annotations

import typing as t

from ansible_collections.selfhosted.llm.plugins.plugin_utils.certificates import problems as certificate_problems
from ansible_collections.selfhosted.llm.plugins.plugin_utils.edge import problems as edge_problems


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"certificate_problems": certificate_problems, "edge_problems": edge_problems}
