# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that check litellm_keys, litellm_teams, litellm_users and litellm_tiers, and turn them into what the modules take."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.selfhosted.llm.plugins.plugin_utils import tiers as lists


def _resolved(variable: str, entries: t.Any, tiers: t.Any, token_price: t.Any, open_models: t.Sequence[str]) -> list[dict[str, t.Any]]:
    try:
        return lists.resolve(variable, entries, tiers, float(token_price or 0), open_models)
    except (TypeError, ValueError) as exc:
        raise AnsibleFilterError(str(exc)) from exc


def key_items(keys: t.Any, tiers: t.Any = None, token_price: float = 0.0, open_models: t.Sequence[str] = ()) -> list[dict[str, t.Any]]:
    return _resolved("litellm_keys", keys, tiers, token_price, open_models)


def team_items(teams: t.Any, tiers: t.Any = None, token_price: float = 0.0, open_models: t.Sequence[str] = ()) -> list[dict[str, t.Any]]:
    return _resolved("litellm_teams", teams, tiers, token_price, open_models)


def user_items(users: t.Any, tiers: t.Any = None, token_price: float = 0.0, open_models: t.Sequence[str] = ()) -> list[dict[str, t.Any]]:
    return _resolved("litellm_users", users, tiers, token_price, open_models)


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "key_items": key_items,
            "team_items": team_items,
            "user_items": user_items,
            "key_problems": lists.problems,
            "with_webui_key": lists.with_webui_key,
            "token_priced": lists.token_priced,
        }
