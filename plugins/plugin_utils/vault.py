# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What playbooks/create_vault.yml writes."""

from __future__ import annotations

import typing as t

import yaml


def vault_text(secrets: t.Mapping[str, str], text: str = "") -> str:
    """The text of a vault with these secrets at its end. What is there stays as it is, comments included.

    ValueError where it is no mapping, has one of the secrets already, or would not be read back as it was meant.
    """
    there = yaml.safe_load(text) if text.strip() else {}
    if not isinstance(there, dict):
        raise ValueError("the vault that is there is no YAML mapping of names and values")
    again = sorted(set(secrets) & set(there))
    if again:
        raise ValueError(f"the vault that is there has {', '.join(again)} already")
    added = yaml.safe_dump({str(name): str(value) for name, value in secrets.items()}, sort_keys=False, width=1000)
    before = text.rstrip("\n") + "\n" if text.strip() else ""
    # A document that was ended, or a mapping in braces, would take nothing more.
    try:
        found = yaml.safe_load(before + added)
    except yaml.YAMLError:
        found = None
    if found != {**there, **secrets}:
        raise ValueError("the vault that is there cannot be added to as text: give each of its values a line of its own, name: value")
    return before + added
