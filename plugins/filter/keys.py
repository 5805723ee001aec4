# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that check litellm_keys, litellm_teams, litellm_users and litellm_tiers, and turn them into what the modules take."""

from __future__ import annotations

import typing as t

from ansible_collections.selfhosted.llm.plugins.plugin_utils.deferred import Deferred


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "key_items": Deferred("plugin_utils.tiers.key_items"),
            "team_items": Deferred("plugin_utils.tiers.team_items"),
            "user_items": Deferred("plugin_utils.tiers.user_items"),
            "key_problems": Deferred("plugin_utils.tiers.problems"),
            "with_webui_key": Deferred("plugin_utils.tiers.with_webui_key"),
            "token_priced": Deferred("plugin_utils.tiers.token_priced"),
        }
