# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters for the gateway as a Hugging Face Space."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.selfhosted.llm.plugins.plugin_utils import hf_space


def hf_space_env(values: t.Mapping[str, t.Any]) -> str:
    try:
        return hf_space.docker_words(values)
    except ValueError as exc:
        raise AnsibleFilterError(f"the environment of the Space: {exc}") from exc


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "hf_space_env": hf_space_env,
            "hf_space_environment": hf_space.environment,
            "hf_space_inventory_problems": hf_space.inventory_problems,
            "hf_space_problems": hf_space.problems,
            "hf_space_url": hf_space.space_url,
        }
