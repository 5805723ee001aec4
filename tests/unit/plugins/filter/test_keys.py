# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.selfhosted.llm.plugins.filter import keys

FILTERS = keys.FilterModule().filters()


def test_each_list_has_its_filter() -> None:
    tiers = {"free": {"rpm_limit": 10}}
    assert FILTERS["key_items"]([{"key_alias": "a", "tier": "free"}], tiers) == [{"key_alias": "a", "rpm_limit": 10}]
    assert FILTERS["team_items"]([{"team_alias": "a", "tier": "free"}], tiers) == [{"team_alias": "a", "rpm_limit": 10}]
    assert FILTERS["user_items"]([{"user_id": "a", "tier": "free"}], tiers) == [{"user_id": "a", "rpm_limit": 10}]


@pytest.mark.parametrize("price", ["cheap", 0, None])
def test_mistakes_are_said_in_ansibles_way(price: object) -> None:
    with pytest.raises(AnsibleFilterError):
        FILTERS["key_items"]([{"key_alias": "a", "tokens_per_day": 1}], {}, price)
