# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""For the testinfra tests of every scenario: they wait for their turn, and a failing test shows what its machine has to say."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

LINES = 60


def pytest_sessionstart() -> None:
    """Tests that measure wait until scripts/molecule-run, which holds this lock, has ended all else."""
    turn = os.environ.get("MOLECULE_TURN")
    if turn:
        with Path(turn).open() as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    host: Any = getattr(item, "funcargs", {}).get("host")
    if report.when == "call" and report.failed and host is not None:
        for title, command in (
            ("failed units", "systemctl --failed --no-legend --plain"),
            (f"end of the journal (last {LINES} lines)", f"journalctl --no-pager --output short-iso --lines {LINES}"),
        ):
            try:
                text = host.run(command).stdout
            except Exception as error:  # the machine may be what is broken
                text = f"could not be read: {error}"
            report.sections.append((title, text or "none"))
    return report
