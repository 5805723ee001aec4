# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From measurements to the tables of docs/benchmarks.md."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]

_spec = importlib.util.spec_from_file_location("bench_results", ROOT / "tests" / "bench" / "results.py")
assert _spec is not None
assert _spec.loader is not None
results = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(results)


def cells(table: str) -> list[list[str]]:
    """The rows of a table below its head."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")][2:]


def tables(text: str) -> list[list[list[str]]]:
    return [cells(block) for block in text.split("\n\n") if block.startswith("|")]


@pytest.mark.parametrize(
    ("values", "text"),
    [([2.0], "2.00"), ([1.0, 3.0, 2.0], "2.00 (1.00–3.00)"), ([12.34, 12.31], "12.3"), ([150.0, 90.0], "120 (90.0–150)")],
)
def test_spread(values: list[float], text: str) -> None:
    assert results.spread(values) == text


def test_replace_block_keeps_the_rest() -> None:
    page = "# Page\n\n<!-- BEGIN A -->\nold\n<!-- END A -->\n\ntext\n\n<!-- BEGIN B -->\nb\n<!-- END B -->\n"
    changed = results.replace_block(page, "A", "\nnew\n\n")
    assert changed == page.replace("old", "new")
    assert results.replace_block(changed, "A", "new") == changed


@pytest.mark.parametrize(
    "page", ["", "<!-- BEGIN A -->", "<!-- END A --><!-- BEGIN A -->", "<!-- BEGIN A --><!-- BEGIN A --><!-- END A -->"]
)
def test_replace_block_refuses_a_page_without_the_markers(page: str) -> None:
    with pytest.raises(ValueError, match="BEGIN A"):
        results.replace_block(page, "A", "new")


def test_page_has_the_blocks() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for name in ("DEPLOY", "GATEWAY"):
        results.replace_block(page, name, "new")


def test_reading_a_playbook_run() -> None:
    assert results.play_name("PLAY [Ollama hosts] *******************") == "Ollama hosts"
    assert results.play_name("TASK [Ping] ****") is None
    recap = [
        "PLAY RECAP *****",
        "a-host      : ok=12   changed=3    unreachable=0    failed=0",
        "b           : ok=4    changed=0    unreachable=0    failed=0",
        "changed=7",
    ]
    assert results.changed_tasks(recap) == 3


def test_durations_add_up() -> None:
    assert results.durations([("a", 1.0), ("b", 3.0), ("a", 4.0)], 10.0) == {"a": 8.0, "b": 1.0}
    assert results.durations([], 5.0) == {}


def test_window_leaves_out_both_ends() -> None:
    assert results.in_window([0.1, 0.2, 0.3, 0.4], [1.0, 3.0, 5.0, 8.0], 3.0, 8.0) == [0.2, 0.3]


def test_shares() -> None:
    assert results.shares({"a": 3, "b": 1}) == {"a": 0.75, "b": 0.25}
    assert results.shares({"a": 0}) == {"a": 0.0}


def deploy_round(scale: float, first: float = 60.0) -> dict[str, Any]:
    """`scale` is how slow the machine was in this round."""
    return {
        "first": first * scale,
        "second": [10.0 * scale, 12.0 * scale, 11.0 * scale],
        "ping": [2.0 * scale, 2.0 * scale],
        "bare": 30.0 * scale,
        "first_plays": {"Ollama hosts": 15.0 * scale, "Open WebUI": 45.0 * scale},
        "second_plays": {"Ollama hosts": 5.5 * scale, "Open WebUI": 5.5 * scale},
        "bare_steps": {"LiteLLM, start": 30.0 * scale},
        "second_changed": 0,
    }


def test_a_slower_machine_changes_no_ratio() -> None:
    assert results.deploy_tables([deploy_round(1.0), deploy_round(3.7)]) == results.deploy_tables([deploy_round(1.0)])


def test_deploy_tables() -> None:
    compared, plays, steps = tables(results.deploy_tables([deploy_round(1.0), deploy_round(2.0, first=90.0)]))
    assert compared == [
        ["first run", "37.5 (30.0–45.0)", "2.50 (2.00–3.00)", "1"],
        ["second run", "5.50", "0.37", "0.15 (0.12–0.18)"],
    ]
    assert plays == [["Ollama hosts", "25 %", "50 %"], ["Open WebUI", "75 %", "50 %"]]
    assert steps == [["LiteLLM, start", "100 %"]]


def measured(rate: float, p50: float, p99: float, *shares: float) -> dict[str, Any]:
    return {"rate": rate, "p50": p50, "p99": p99, "shares": dict(zip(("host 1", "host 2"), shares, strict=False))}


def test_balance_tables() -> None:
    rounds = [
        {"ours": measured(80.0, 0.2, 0.6, 0.8, 0.2), "theirs": measured(40.0, 0.4, 1.8, 0.5, 0.5)},
        {"ours": measured(90.0, 0.2, 0.6, 0.8, 0.2), "theirs": measured(45.0, 0.4, 1.2, 0.5, 0.5)},
    ]
    text = results.balance_tables(rounds, {"ours": "Ours", "theirs": "Theirs"}, {"host 1": 75.0, "host 2": 25.0})
    reached, against = tables(text)
    assert "host 1 (fair: 75 %)" in text
    assert reached == [["Ours", "0.85 (0.80–0.90)", "80 %", "20 %"], ["Theirs", "0.43 (0.40–0.45)", "50 %", "50 %"]]
    assert against == [["Theirs", "2.00", "0.50", "0.42 (0.33–0.50)"]]


def test_against_table_leaves_out_the_base() -> None:
    rounds = [{"direct": measured(1.0, 0.1, 0.2), "ours": measured(1.0, 0.12, 0.3)}]
    text = results.against_table(rounds, {"direct": "Direct", "ours": "Ours"}, "direct", {"p50": "p50", "p99": "p99"})
    assert cells(text) == [["Ours", "1.20", "1.50"]]


def test_keys_table() -> None:
    rounds = [
        {"first": 40.0, "second": [8.0, 6.0, 7.0], "ping": [2.0, 1.0, 3.0], "second_changed": 0},
        {"first": 20.0, "second": [10.0], "ping": [2.0], "second_changed": 1},
    ]
    text = results.keys_table(rounds)
    assert cells(text) == [
        ["first run", "15.0 (10.0–20.0)", "1"],
        ["second run", "4.25 (3.50–5.00)", "0.34 (0.17–0.50)"],
    ]
    assert text.endswith("Tasks that changed something in a second run: 1.")
