# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Specs, defaults and READMEs of the roles say the same; and the script that writes the READMEs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "role_docs.py"

_spec = importlib.util.spec_from_file_location("role_docs", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
role_docs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(role_docs)

ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_and_specs_agree(role: Path) -> None:
    assert role_docs.drift(role) == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_readme_is_up_to_date(role: Path) -> None:
    _readme, old, new = role_docs.updated(role)
    assert old == new, "run `make docs`"


def write_role(folder: Path, options: dict[str, Any], defaults: dict[str, Any]) -> Path:
    role = folder / "thing"
    (role / "meta").mkdir(parents=True)
    (role / "defaults").mkdir()
    specs = {"argument_specs": {"main": {"short_description": "Do it", "options": options}}}
    (role / "meta" / "argument_specs.yml").write_text(yaml.safe_dump(specs, sort_keys=False), encoding="utf-8")
    (role / "defaults" / "main.yml").write_text(yaml.safe_dump(defaults), encoding="utf-8")
    (role / "README.md").write_text(f"# Thing\n\n{role_docs.BEGIN}\nold\n{role_docs.END}\n\nEnd.\n", encoding="utf-8")
    return role


def test_table_with_nested_options(tmp_path: Path) -> None:
    role = write_role(
        tmp_path,
        {
            "thing_key": {"type": "str", "required": True, "no_log": True, "description": "The key, as C(sk-a|b)."},
            "thing_mode": {"type": "str", "choices": ["a", "b"], "default": "a", "description": ["How.", "See O(thing_key)."]},
            "thing_list": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "description": "Items.",
                "options": {"name": {"type": "str", "required": True, "description": "Its name."}},
            },
            "thing_proxy": {"type": "str", "default": "", "description": "Proxy."},
        },
        {"thing_mode": "a", "thing_list": [], "thing_proxy": "{{ llm_proxy_url | default('') }}"},
    )
    assert role_docs.drift(role) == []
    readme, old, new = role_docs.updated(role)
    assert readme == role / "README.md"
    assert old != new
    assert new.startswith("# Thing\n\n<!-- BEGIN VARIABLES -->\n")
    assert new.endswith("<!-- END VARIABLES -->\n\nEnd.\n")
    assert [line for line in new.splitlines() if line.startswith("| `")] == [
        "| `thing_key` | str | **required** | The key, as `sk-a\\|b`. Secret. |",
        "| `thing_mode` | str | `a` | How. See `thing_key`. One of `a`, `b`. |",
        "| `thing_list` | list of dict | `[]` | Items. |",
        "| `thing_list[].name` | str | **required** | Its name. |",
        '| `thing_proxy` | str | `llm_proxy_url`, else `""` | Proxy. |',
    ]


def test_generating_twice_changes_nothing(tmp_path: Path) -> None:
    role = write_role(tmp_path, {"thing_x": {"type": "int", "default": 1, "description": "X."}}, {"thing_x": 1})
    readme, _old, new = role_docs.updated(role)
    readme.write_text(new, encoding="utf-8")
    _readme, old, again = role_docs.updated(role)
    assert old == again


@pytest.mark.parametrize(
    ("options", "defaults", "problem"),
    [
        ({}, {"thing_x": 1}, "thing_x: is in defaults but not in the specs"),
        ({"thing_x": {"default": 1}}, {}, "thing_x: is in the specs but not in defaults"),
        ({"thing_x": {"default": 1}}, {"thing_x": 2}, "thing_x: default is 2 in defaults and 1 in the specs"),
        ({"thing_x": {"default": 1}}, {"thing_x": True}, "thing_x: default is True in defaults and 1 in the specs"),
        ({"thing_x": {"required": True}}, {"thing_x": ""}, "thing_x: is required, so it has no place in defaults"),
        ({"other": {"default": ""}}, {"other": ""}, "other: does not start with thing_"),
        (
            {"thing_x": {"default": "a"}},
            {"thing_x": "{{ llm_x | default('b') }}"},
            "thing_x: default is 'b' in defaults and 'a' in the specs",
        ),
    ],
)
def test_drift_is_found(tmp_path: Path, options: dict[str, Any], defaults: dict[str, Any], problem: str) -> None:
    assert role_docs.drift(write_role(tmp_path, options, defaults)) == [problem]


def test_readme_without_marks_is_an_error(tmp_path: Path) -> None:
    role = write_role(tmp_path, {}, {})
    (role / "README.md").write_text("# Thing\n", encoding="utf-8")
    with pytest.raises(role_docs.RoleError, match="BEGIN VARIABLES"):
        role_docs.updated(role)


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("V(>=3.10,<3.14)", "`>=3.10,<3.14`"),
        ("C(f(x\\)) and V(a\\)b)", "`f(x)` and `a)b`"),
        ("L(text, https://example.org/) or U(https://example.org/)", "[text](https://example.org/) or <https://example.org/>"),
        ("B(bold) I(it)", "**bold** *it*"),
        ("two\n  lines", "two lines"),
    ],
)
def test_markup(text: str, markdown: str) -> None:
    assert role_docs.markup(text) == markdown
