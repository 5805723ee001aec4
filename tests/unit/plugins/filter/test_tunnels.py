# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.selfhosted.llm.plugins.filter.tunnels import FilterModule

FILTERS = FilterModule().filters()


def test_what_cannot_be_is_an_error_of_the_filter() -> None:
    with pytest.raises(AnsibleFilterError, match=r"goes to gw-9\. Known are: none"):
        FILTERS["host_tunnels"]([], "gpu-1", {}, [{"to": "gw-9", "listen": "127.0.0.1:8080", "target": "127.0.0.1:8080"}])
    with pytest.raises(AnsibleFilterError, match="is no public key"):
        FILTERS["tunnel_known_hosts"](["x"], "gw-1")


def test_what_can_be_goes_through() -> None:
    assert FILTERS["host_tunnels"]([], "gpu-1", {}) == []
    assert FILTERS["tunnel_known_hosts"]([], "gw-1", installed="kept\n") == "kept\n"
