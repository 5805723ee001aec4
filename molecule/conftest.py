# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""For the testinfra tests of every scenario: a failing test shows what its machine has to say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

LINES = 60


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
