# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible_collections.selfhosted.llm.plugins.plugin_utils.progress import ProgressAction


class ActionModule(ProgressAction):
    """Shows downloads and verifications."""

    def work_ahead(self, planned: dict[str, t.Any]) -> bool:
        return bool(planned.get("changed") or planned.get("unverified"))
