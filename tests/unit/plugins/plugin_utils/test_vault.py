# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
import yaml

from ansible_collections.selfhosted.llm.plugins.plugin_utils.vault import vault_text


@pytest.mark.parametrize("text", ["", "\n", "---\n# kept\na: one\n", "a: one", "---\na: 'x: y'  # why\n\n\n"])
def test_what_is_there_stays_and_the_rest_comes(text: str) -> None:
    found = vault_text({"vault_b": "sk-1: #'\"{", "vault_c": "yes"}, text)
    assert found.startswith(text.rstrip("\n"))
    assert yaml.safe_load(found) == {**(yaml.safe_load(text) or {}), "vault_b": "sk-1: #'\"{", "vault_c": "yes"}
    assert found.endswith("\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n", "no YAML mapping"),
        ("vault_b: one\n", "has vault_b already"),
        ("{a: one}\n", "a line of its own"),
        ("a: one\n...\n", "a line of its own"),
    ],
)
def test_a_vault_that_would_not_be_read_back_is_not_made(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        vault_text({"vault_b": "two"}, text)
