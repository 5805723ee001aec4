# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that check llama_server_servers, and turn it into units."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.selfhosted.llm.plugins.plugin_utils.deferred import Deferred


class _Read(Deferred):
    """What reads a list that has been checked before."""

    def __call__(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        try:
            return self.function()(*args, **kwargs)
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise AnsibleFilterError(f"llama_server_servers cannot be read, llama_server_problems says why: {exc!r}") from exc


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "llama_servers": _Read("plugin_utils.llama_server.servers"),
            "llama_model_files": _Read("plugin_utils.llama_server.downloads"),
            "llama_server_keys": _Read("plugin_utils.llama_server.keys"),
            "llama_server_problems": Deferred("plugin_utils.llama_server.problems"),
        }
