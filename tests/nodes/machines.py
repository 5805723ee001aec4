# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of a scenario do with its machines, beside what testinfra does with the one that it asks."""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def node(name: str, command: str, timeout: float = 90) -> str:
    """What a command of the shell writes there. One that fails, fails the test."""
    result = subprocess.run(["docker", "exec", name, "sh", "-c", command], capture_output=True, text=True, timeout=timeout)
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout


@functools.cache
def address(name: str) -> str:
    return node(name, "hostname -i").strip()


def wait_until(condition: t.Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.3)
    pytest.fail(f"{what} did not happen within {seconds} s")


def play(playbook: str, *arguments: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
    """One of playbooks/, on the machines of the scenario."""
    # The folder, as Molecule takes it: beside the file there are the groups that are empty.
    inventory = Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent
    command = ["ansible-playbook", "--inventory", str(inventory), str(ROOT / "playbooks" / playbook), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=ROOT)


def load_module(path: str) -> t.Any:
    """A file of this repository, by its path there."""
    name = Path(path).stem
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look for their module there.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
