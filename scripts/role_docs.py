#!/usr/bin/env python3
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the variable tables of the roles' READMEs from their meta/argument_specs.yml.

A README has the table between the lines `<!-- BEGIN VARIABLES -->` and `<!-- END VARIABLES -->`.
With --check nothing is written, and the exit code says whether a README is out of date.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "<!-- BEGIN VARIABLES -->"
END = "<!-- END VARIABLES -->"
NOTE = "<!-- Generated from meta/argument_specs.yml by `make docs`. -->"
# Longer defaults would make the column wider than the explanation.
LONGEST_DEFAULT = 72

COLLECTION_DEFAULT = re.compile(r"^\{\{ (?P<name>\w+) \| default\((?P<literal>.*)\) \}\}$")

Spec = dict[str, Any]


class RoleError(Exception):
    """Something about a role that its author has to change."""


def load(path: Path) -> Any:
    if not path.exists():
        raise RoleError(f"{path}: missing")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def entry_points(role: Path) -> dict[str, Spec]:
    """The argument specs of a role, `main` first."""
    specs: dict[str, Spec] = load(role / "meta" / "argument_specs.yml")["argument_specs"]
    return dict(sorted(specs.items(), key=lambda item: (item[0] != "main", item[0])))


def options(role: Path) -> dict[str, Spec]:
    """Every variable of a role, over all of its entry points."""
    found: dict[str, Spec] = {}
    for spec in entry_points(role).values():
        for name, option in (spec.get("options") or {}).items():
            found.setdefault(name, option)
    return found


def collection_default(value: Any) -> tuple[str, Any] | None:
    """`{{ llm_proxy_url | default('') }}` as (llm_proxy_url, ""); None for any other value."""
    match = COLLECTION_DEFAULT.match(value) if isinstance(value, str) else None
    return (match["name"], ast.literal_eval(match["literal"])) if match else None


# --- rendering ----------------------------------------------------------------------------------


MARKED = re.compile(r"\b[CVOEMPR]\(((?:[^()\\]|\\.|\([^()]*\))*)\)")


def markup(text: str) -> str:
    """Ansible's documentation markup as Markdown that is safe inside a table."""
    text = MARKED.sub(lambda match: "`" + re.sub(r"\\(.)", r"\1", match[1]) + "`", text)
    text = re.sub(r"\bB\(([^)]*)\)", r"**\1**", text)
    text = re.sub(r"\bI\(([^)]*)\)", r"*\1*", text)
    text = re.sub(r"\bL\(([^,)]*), *([^)]*)\)", r"[\1](\2)", text)
    text = re.sub(r"\bU\(([^)]*)\)", r"<\1>", text)
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|")


def sentences(description: str | list[str]) -> str:
    return " ".join(markup(part) for part in ([description] if isinstance(description, str) else description))


def kind(option: Spec) -> str:
    name = str(option.get("type", "str"))
    return f"list of {option['elements']}" if name == "list" and "elements" in option else name


def code(value: Any) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    if len(text) > LONGEST_DEFAULT:
        return "see [defaults](defaults/main.yml)"
    return "`" + text.replace("|", "\\|") + "`"


def default(name: str, option: Spec, defaults: Spec) -> str:
    if option.get("required"):
        return "**required**"
    inherited = collection_default(defaults.get(name))
    if inherited:
        return f"`{inherited[0]}`, else {code(inherited[1])}"
    if name in defaults and not (isinstance(defaults[name], str) and "{{" in defaults[name]):
        return code(defaults[name])
    return code(option["default"]) if option.get("default") is not None else ""


def rows(specs: dict[str, Spec], defaults: Spec, prefix: str = "") -> list[str]:
    """A row for each option, each followed by the rows of the options nested in it."""
    lines = []
    for name, option in specs.items():
        text = sentences(option.get("description", ""))
        if "choices" in option:
            text += " One of " + ", ".join(f"`{choice}`" for choice in option["choices"]) + "."
        if option.get("no_log"):
            text += " Secret."
        shown = default(name, option, defaults if not prefix else {})
        lines.append(f"| `{prefix}{name}` | {kind(option)} | {shown} | {text} |")
        if option.get("options"):
            inner = f"{prefix}{name}[]." if option.get("type") == "list" else f"{prefix}{name}."
            lines += rows(option["options"], defaults, inner)
    return lines


def table(specs: dict[str, Spec], defaults: Spec) -> list[str]:
    return ["| Variable | Type | Default | Meaning |", "| --- | --- | --- | --- |", *rows(specs, defaults)]


def render(role: Path) -> str:
    """What belongs between the two marks, with the marks."""
    defaults_file = role / "defaults" / "main.yml"
    defaults = (load(defaults_file) or {}) if defaults_file.exists() else {}
    lines = [BEGIN, NOTE]
    shown: set[str] = set()
    for name, spec in entry_points(role).items():
        new = {key: option for key, option in (spec.get("options") or {}).items() if key not in shown}
        shown |= set(new)
        if name != "main":
            lines += ["", f"### Entry point `{name}`", "", markup(spec.get("short_description", "")).rstrip(".") + "."]
        if new:
            lines += ["", *table(new, defaults)]
    return "\n".join([*lines, "", END])


# --- files --------------------------------------------------------------------------------------


def updated(role: Path) -> tuple[Path, str, str]:
    """README of a role: its path, its text, and the text it should have."""
    readme = role / "README.md"
    if not readme.exists():
        raise RoleError(f"{readme}: missing; it needs the lines {BEGIN} and {END}")
    text = readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        raise RoleError(f"{readme}: has no {BEGIN} followed by {END}")
    return readme, text, before + render(role) + after


def drift(role: Path) -> list[str]:
    """Where defaults/main.yml and the argument specs of a role say different things."""
    defaults_file = role / "defaults" / "main.yml"
    defaults = (load(defaults_file) or {}) if defaults_file.exists() else {}
    specs = options(role)
    prefix = role.name + "_"
    found = [f"{name}: is in defaults but not in the specs" for name in defaults if name not in specs]
    for name, option in specs.items():
        if not name.startswith(prefix):
            found.append(f"{name}: does not start with {prefix}")
        if option.get("required"):
            if name in defaults:
                found.append(f"{name}: is required, so it has no place in defaults")
            continue
        if name not in defaults:
            found.append(f"{name}: is in the specs but not in defaults")
            continue
        if option.get("default") == defaults[name] and type(option.get("default")) is type(defaults[name]):
            continue
        inherited = collection_default(defaults[name])
        value = inherited[1] if inherited else defaults[name]
        if isinstance(value, str) and "{{" in value:
            # An expression: the specs describe it, or say nothing.
            continue
        if option.get("default") != value or type(option.get("default")) is not type(value):
            found.append(f"{name}: default is {value!r} in defaults and {option.get('default')!r} in the specs")
    return found


def roles() -> list[Path]:
    return sorted(path.parent.parent for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a README is out of date")
    args = parser.parse_args()
    code_ = 0
    for role in roles():
        try:
            readme, old, new = updated(role)
        except RoleError as error:
            print(error)
            code_ = 1
            continue
        if old == new:
            continue
        if args.check:
            print(f"{readme}: out of date, run `make docs`")
            code_ = 1
        else:
            readme.write_text(new, encoding="utf-8")
            print(f"{readme}: written")
    return code_


if __name__ == "__main__":
    sys.exit(main())
