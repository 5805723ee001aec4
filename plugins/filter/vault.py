# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter that adds secrets to the text of a vault."""

from __future__ import annotations

import typing as t

from ansible_collections.selfhosted.llm.plugins.plugin_utils.deferred import Deferred


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"vault_text": Deferred("plugin_utils.vault.vault_text")}
