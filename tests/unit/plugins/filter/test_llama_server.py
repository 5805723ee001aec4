# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.selfhosted.llm.plugins.filter.llama_server import FilterModule

FILTERS = FilterModule().filters()


def test_filters() -> None:
    declared = [{"port": 8080, "model": "/srv/m.gguf", "api_key": "x"}]
    assert FILTERS["llama_servers"](declared)[0]["unit"] == "llama-server-8080"
    assert FILTERS["llama_server_keys"](declared) == {"llama-server-8080": "x"}
    assert len(FILTERS["llama_server_problems"](declared)) == 1


@pytest.mark.parametrize("name", ["llama_servers", "llama_server_keys"])
@pytest.mark.parametrize("declared", [[{"model": "/srv/m.gguf", "api_key": "x"}], [{"port": "http", "api_key": "x"}], ["8080"]])
def test_what_cannot_be_read_is_named(name: str, declared: object) -> None:
    with pytest.raises(AnsibleFilterError, match="llama_server_servers cannot be read"):
        FILTERS[name](declared)
