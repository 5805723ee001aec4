# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.selfhosted.llm.plugins.plugin_utils.deferred import Deferred

# In a process of its own: here everything has been loaded by other tests.
LOOK_FOR_A_FILTER = """
import sys
from ansible.plugins.loader import filter_loader, init_plugin_loader
init_plugin_loader([])
assert filter_loader.get("selfhosted.llm.weakness").j2_function("short")
names = [name.partition(".llm.plugins.")[2].split(".") for name in sys.modules]
print(*sorted(parts[1] for parts in names if parts[0] in ("plugin_utils", "module_utils") and parts[1:]))
"""


def test_a_filter_loads_nothing_but_its_own_code() -> None:
    result = subprocess.run([sys.executable, "-c", LOOK_FOR_A_FILTER], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.split() == ["deferred", "secrets"]


def test_a_call_is_handed_on() -> None:
    assert Deferred("plugin_utils.ports.port_list")("8000-8002") == [8000, 8001, 8002]
    assert list(inspect.signature(Deferred("plugin_utils.hf_space.docker_words")).parameters) == ["values"]


def test_a_mistake_is_said_in_ansibles_way() -> None:
    with pytest.raises(AnsibleFilterError, match="more than one line"):
        Deferred("plugin_utils.hf_space.docker_words")({"A": "b\nc"})
