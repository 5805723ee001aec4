# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.selfhosted.llm.plugins.plugin_utils.variables import problems

SPECS = Path(__file__).resolve().parents[4] / "roles/litellm_proxy/meta/argument_specs.yml"

OPTIONS: dict[str, t.Any] = {
    "my_role_workers": {"type": "int", "default": 1, "description": "x"},
    "my_role_mode": {"type": "str", "choices": ["a", "b"]},
    "my_role_secrets": {"type": "dict", "no_log": True},
    "my_role_name": {"type": "str", "required": True},
}


def test_nothing_wrong() -> None:
    assert problems({"my_role_workers": "2", "my_role_mode": "a", "my_role_secrets": {"A": "b"}}, OPTIONS) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"my_role_wokers": 2}, "my_role_wokers is no variable of the role. Did you mean my_role_workers?"),
        ({"my_role_zzzzzzzzzzzz": 2}, "my_role_zzzzzzzzzzzz is no variable of the role. Its README lists those it has."),
        ({"my_role_workers": "many"}, "argument 'my_role_workers' is of type str and we were unable to convert to int"),
        ({"my_role_mode": "c"}, "value of my_role_mode must be one of: a, b, got: c"),
        ({"my_role_name": ["a"]}, "my_role_name must be a string, not a list"),
        ({"my_role_name": {"a": 1}}, "my_role_name must be a string, not a mapping"),
        ({"my_role_secrets": ["hunter2"]}, "my_role_secrets must be of type dict"),
    ],
)
def test_a_mistake(values: dict[str, t.Any], expected: str) -> None:
    (found,) = problems(values, OPTIONS)
    assert found.startswith(expected)
    assert "hunter2" not in found


def test_all_mistakes_at_once() -> None:
    assert len(problems({"my_role_wokers": 2, "my_role_workers": "x", "my_role_mode": "c"}, OPTIONS)) == 3


def test_the_defaults_of_a_role_are_sound() -> None:
    defaults = yaml.safe_load((SPECS.parents[1] / "defaults/main.yml").read_text())
    plain = {name: value for name, value in defaults.items() if not (isinstance(value, str) and "{{" in value)}
    assert problems(plain, yaml.safe_load(SPECS.read_text())["argument_specs"]["main"]["options"]) == []
