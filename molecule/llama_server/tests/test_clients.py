# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a gateway and a stranger reach from their own hosts."""

from __future__ import annotations

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://llama-gateway"]


@pytest.mark.parametrize("port", [8080, 8081, 8090])
def test_who_gets_an_answer(host: Host, port: int) -> None:
    probe = f"curl -s --max-time 3 http://llama-gpu:{port}/health"
    assert host.check_output(probe) == '{"status":"ok"}'
    # 28: no answer in time.
    assert Host.get_host("docker://llama-stranger").run(probe).rc == 28
