# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random
import string

import pytest

from ansible_collections.selfhosted.llm.plugins.plugin_utils.secrets import weakness

GOOD = "sk-Zq7wR2mT9xLb4vNc8hYd3kGf6pSj"


@pytest.mark.parametrize("secret", [GOOD, "correct horse battery staple".replace(" ", "-"), "3f9a1c7e5b2d8046f1e3a9c7"])
def test_good(secret: str) -> None:
    assert weakness(secret) == ""


def test_random_ones_are_good() -> None:
    source = random.Random(7)
    for _attempt in range(200):
        assert weakness("sk-" + "".join(source.choices(string.ascii_letters + string.digits, k=32))) == ""
        assert weakness(f"{source.getrandbits(128):032x}", 32) == ""


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("", "it is empty"),
        (None, "it is empty"),
        (12345678901234567890123, "it is empty"),
        ("sk-1234", "it has 7 characters, fewer than 20"),
        (GOOD[:19], "it has 19 characters, fewer than 20"),
        (f" {GOOD}", "it contains white space"),
        (f"{GOOD}\n", "it contains white space"),
        (GOOD[:9] + " " + GOOD[9:], "it contains white space"),
        ("sk-1234567890abcdefghijkl", "it looks like a placeholder from a tutorial"),
        ("please-CHANGE_ME-soon-enough", "it looks like a placeholder from a tutorial"),
        ("sk-your-master-key-goes-here", "it looks like a placeholder from a tutorial"),
        ("<put-the-key-in-here-please>", "it looks like a placeholder from a tutorial"),
        ("${LITELLM_MASTER_KEY_OF_ENV}", "it looks like a placeholder from a tutorial"),
        ("my-secret-key-for-the-gateway", "it looks like a placeholder from a tutorial"),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "it repeats few characters"),
        ("abababababababababababab", "it repeats few characters"),
    ],
)
def test_weak(secret: object, why: str) -> None:
    assert weakness(secret) == why


def test_minimum() -> None:
    assert weakness("Tr0ub4dor&3x", 12) == ""
    assert weakness("Tr0ub4dor&3", 12) == "it has 11 characters, fewer than 12"
    assert weakness(GOOD, 32) == f"it has {len(GOOD)} characters, fewer than 32"
