# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that check and render LiteLLM's configuration."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.selfhosted.llm.plugins.plugin_utils import observability
from ansible_collections.selfhosted.llm.plugins.plugin_utils.custom_auth import handler_settings
from ansible_collections.selfhosted.llm.plugins.plugin_utils.custom_auth import problems as custom_auth_problems
from ansible_collections.selfhosted.llm.plugins.plugin_utils.litellm_config import ConfigError, build_config, problems
from ansible_collections.selfhosted.llm.plugins.plugin_utils.litellm_state import counted_alone, database_url, declared_limits
from ansible_collections.selfhosted.llm.plugins.plugin_utils.litellm_state import problems as state_problems
from ansible_collections.selfhosted.llm.plugins.plugin_utils.variables import problems as variable_problems


def litellm_config(model_list: t.Any, settings: t.Mapping[str, t.Any], extra: t.Mapping[str, t.Any] | None = None) -> dict[str, t.Any]:
    try:
        return build_config(model_list, settings, extra)
    except ConfigError as exc:
        raise AnsibleFilterError(str(exc)) from exc


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "counted_alone": counted_alone,
            "custom_auth_problems": custom_auth_problems,
            "custom_auth_settings": handler_settings,
            "database_url": database_url,
            "declared_limits": declared_limits,
            "litellm_config": litellm_config,
            "litellm_problems": problems,
            "litellm_state_problems": state_problems,
            "observability_environment": observability.environment,
            "observability_loggers": observability.loggers,
            "observability_problems": observability.problems,
            "observability_secrets": observability.secret_environment,
            "variable_problems": variable_problems,
        }
