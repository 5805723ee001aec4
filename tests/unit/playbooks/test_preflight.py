# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.selfhosted.llm.tests.unit.playbooks.commands import ROOT, run


@pytest.mark.parametrize("playbook", ["preflight", "site"])
def test_an_inventory_without_hosts_is_refused(tmp_path: Path, playbook: str) -> None:
    """Plays that match no host succeed, which would be taken for a service in order."""
    said = run(tmp_path, "ansible-playbook", "-i", "no-such-folder", str(ROOT / f"playbooks/{playbook}.yml"), code=2)
    assert "The group litellm has no hosts." in said
    assert "llm_models must be a list with at least one model." in said
