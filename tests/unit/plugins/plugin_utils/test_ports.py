# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.selfhosted.llm.plugins.plugin_utils.ports import port_list


@pytest.mark.parametrize(
    ("value", "ports"),
    [
        (8080, [8080]),
        ("8080", [8080]),
        ("8080-8083", [8080, 8081, 8082, 8083]),
        ("8080 - 8081, 8090", [8080, 8081, 8090]),
        ([8080, "8090-8091"], [8080, 8090, 8091]),
        ("8080-8080", [8080]),
    ],
)
def test_ports(value: t.Any, ports: list[int]) -> None:
    assert port_list(value) == ports


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("http", "must be a range of ports"),
        (True, "must be a range of ports"),
        ("", "must be a range of ports"),
        ("8080-", "must be a range of ports"),
        ({"from": 1}, "must be a range of ports"),
        ("8087-8080", "goes upwards"),
        ("0", "from 1 to 65535"),
        ("65530-65536", "from 1 to 65535"),
        ([], "is empty"),
        ("1-65535", "has more than 256 ports"),
        ("8080-8083,8082", "has 8082 twice"),
    ],
)
def test_what_is_no_list_of_ports(value: t.Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        port_list(value)
