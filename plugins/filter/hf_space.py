# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters for the gateway as a Hugging Face Space."""

from __future__ import annotations

import typing as t

from ansible_collections.selfhosted.llm.plugins.plugin_utils.deferred import Deferred


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "hf_space_env": Deferred("plugin_utils.hf_space.docker_words"),
            "hf_space_environment": Deferred("plugin_utils.hf_space.environment"),
            "hf_space_inventory_problems": Deferred("plugin_utils.hf_space.inventory_problems"),
            "hf_space_problems": Deferred("plugin_utils.hf_space.problems"),
            "hf_space_url": Deferred("plugin_utils.hf_space.space_url"),
        }
