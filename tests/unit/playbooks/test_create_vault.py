# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import stat
from pathlib import Path

import yaml

from ansible_collections.selfhosted.llm.tests.unit.playbooks.commands import ROOT, run


def create(folder: Path, **variables: str) -> str:
    return run(folder, "ansible-playbook", str(ROOT / "playbooks/create_vault.yml"), "-e", "llm_inventory=mine", **variables)


def read(folder: Path) -> str:
    return run(folder, "ansible-vault", "view", "--vault-password-file", "mine/.vault-password", "mine/group_vars/all/vault.yml")


def test_a_second_run_adds_what_is_missing_and_keeps_the_rest(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    vault = tmp_path / "mine/group_vars/all/vault.yml"
    create(tmp_path)
    first = read(tmp_path)
    assert stat.S_IMODE(vault.stat().st_mode) == 0o600
    assert "which now has also vault_hf_token" in create(tmp_path, HF_TOKEN="hf_of-this-test")
    second = read(tmp_path)
    assert second.startswith(first)
    assert yaml.safe_load(second) == {**yaml.safe_load(first), "vault_hf_token": "hf_of-this-test"}
    # What was there before can be had back.
    (kept,) = vault.parent.glob("vault.yml.*~")
    assert kept.read_text().startswith("$ANSIBLE_VAULT")
    assert "changed=0" in create(tmp_path)
    assert read(tmp_path) == second
