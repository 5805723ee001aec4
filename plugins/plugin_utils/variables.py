# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of a role against its argument specs, in a line for each mistake."""

from __future__ import annotations

import difflib
import typing as t

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

Mapping = t.Mapping[str, t.Any]


def unknown(names: t.Iterable[str], known: t.Sequence[str]) -> list[str]:
    """Variables that the role does not have: nobody would notice that a misspelt one does nothing."""
    found = []
    for name in sorted(set(names) - set(known)):
        close = difflib.get_close_matches(name, known, 1, 0.75)
        remedy = f"Did you mean {close[0]}?" if close else "Its README lists those it has."
        found.append(f"{name} is no variable of the role. {remedy}")
    return found


def _plain(value: t.Any) -> t.Any:
    """The value without what Ansible attaches to each part of it: the validator would copy that too, which takes seconds for models."""
    if isinstance(value, t.Mapping):
        return {_plain(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def mistyped(values: Mapping, options: Mapping) -> list[str]:
    """What the specs say against the values, without the values of secrets."""
    # One at a time: the validator reports only the first of some kinds of mistake.
    found = []
    for name, option in sorted(options.items()):
        if name not in values:
            continue
        if option.get("type", "str") in ("str", "path") and isinstance(values[name], (t.Mapping, list)):
            # The validator would make a string of it.
            found.append(f"{name} must be a string, not a {'mapping' if isinstance(values[name], t.Mapping) else 'list'}")
            continue
        spec = {key: value for key, value in option.items() if key not in ("description", "required", "no_log")}
        result = ArgumentSpecValidator({name: spec}).validate({name: _plain(values[name])})
        for message in result.error_messages:
            if option.get("no_log"):
                message = f"{name} must be of type {option.get('type', 'str')}"
            found.append(message if name in message else f"{name}: {message}")
    return found


def problems(values: Mapping, options: Mapping) -> list[str]:
    return unknown(values, sorted(options)) + mistyped(values, options)
