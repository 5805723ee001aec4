# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that check and render LiteLLM's configuration."""

from __future__ import annotations

import typing as t

from ansible_collections.selfhosted.llm.plugins.plugin_utils.deferred import Deferred


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "counted_alone": Deferred("plugin_utils.litellm_state.counted_alone"),
            "custom_auth_problems": Deferred("plugin_utils.custom_auth.problems"),
            "custom_auth_settings": Deferred("plugin_utils.custom_auth.handler_settings"),
            "database_url": Deferred("plugin_utils.litellm_state.database_url"),
            "declared_limits": Deferred("plugin_utils.litellm_state.declared_limits"),
            "litellm_config": Deferred("plugin_utils.litellm_config.build_config"),
            "litellm_problems": Deferred("plugin_utils.litellm_config.problems"),
            "litellm_state_problems": Deferred("plugin_utils.litellm_state.problems"),
            "observability_environment": Deferred("plugin_utils.observability.environment"),
            "observability_loggers": Deferred("plugin_utils.observability.loggers"),
            "observability_problems": Deferred("plugin_utils.observability.problems"),
            "observability_secrets": Deferred("plugin_utils.observability.secret_environment"),
            "variable_problems": Deferred("plugin_utils.variables.problems"),
        }
