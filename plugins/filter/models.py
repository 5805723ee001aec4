# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that give each consumer its part of llm_models."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.selfhosted.llm.plugins.plugin_utils.deferred import load

Groups = t.Mapping[str, t.Sequence[str]]
Urls = t.Mapping[str, str]


def _from_catalogue(name: str, *call: t.Any) -> t.Callable[..., t.Any]:
    """A filter that hands `llm_models | filter(groups, urls)` to a method of the catalogue."""

    def apply(models: t.Any, groups: Groups | None = None, urls: Urls | None = None, *arguments: t.Any) -> t.Any:
        try:
            return getattr(load("plugin_utils.models").Catalogue(models, groups, urls), name)(*call, *arguments)
        except ValueError as exc:
            raise AnsibleFilterError(str(exc)) from exc

    return apply


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "model_list": _from_catalogue("model_list"),
            "model_secrets": _from_catalogue("secrets"),
            "model_aliases": _from_catalogue("aliases"),
            "model_fallbacks": _from_catalogue("fallbacks"),
            "expected_models": _from_catalogue("expected"),
            "model_names": _from_catalogue("names"),
            "open_model_names": _from_catalogue("open_names"),
            "model_access_groups": _from_catalogue("access_groups"),
            "ollama_models": _from_catalogue("ollama_models"),
        }
