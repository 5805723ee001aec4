# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible's programs, run as a user does, without what the environment says of Ansible or of the Hub."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent


def run(folder: Path, program: str, *arguments: str, code: int = 0, **variables: str) -> str:
    """What it prints, where it ends with this exit code."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "ANSIBLE_"))}
    env.update(PWD=str(folder), ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".collections"), **variables)
    result = subprocess.run([str(BIN / program), *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout + result.stderr
