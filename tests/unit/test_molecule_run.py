# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""scripts/molecule-run does not take Molecule's word for it."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "molecule-run"

_loader = SourceFileLoader("molecule_run", str(SCRIPT))
_spec = importlib.util.spec_from_loader("molecule_run", _loader)
assert _spec is not None
molecule_run = importlib.util.module_from_spec(_spec)
# dataclasses look their module up there
sys.modules["molecule_run"] = molecule_run
_loader.exec_module(molecule_run)

CONFIG = {"platforms": [{"name": "node-1"}], "provisioner": {"env": {"MOLECULE_RUN_ALONE": "true"}}}

GREEN = """\
INFO     [thing > create] Executing
localhost                  : ok=5    changed=2    unreachable=0    failed=0
INFO     [thing > create] Executed: Successful
INFO     [thing > converge] Executing
node-1                     : ok=4    changed=3    unreachable=0    failed=0    skipped=0
INFO     [thing > converge] Executed: Successful
INFO     [thing > verify] Executing
========================= 12 passed in 2.65s ==========================
INFO     [thing > verify] Executed: Successful
"""


def judged(log: str, code: int) -> Any:
    scenario = molecule_run.Scenario("thing", CONFIG)
    molecule_run.judge(scenario, log.splitlines(keepends=True), code)
    return scenario


def test_green_is_green() -> None:
    scenario = judged(GREEN, 0)
    assert scenario.problems == []
    assert scenario.tests == 12
    assert scenario.alone


def test_one_that_runs_by_name_is_left_out_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, env in (("usual", ""), ("special", "{MOLECULE_RUN_BY_NAME: needs a GPU}")):
        folder = tmp_path / "molecule" / name
        folder.mkdir(parents=True)
        (folder / "molecule.yml").write_text(f"platforms: [{{name: {name}-1}}]\nprovisioner: {{env: {env or '{}'}}}\n")
    monkeypatch.setattr(molecule_run, "ROOT", tmp_path)
    monkeypatch.setattr(molecule_run, "LOGS", tmp_path / "logs")
    ran: list[str] = []
    monkeypatch.setattr(molecule_run, "run", lambda scenario, *_: ran.append(scenario.name))
    monkeypatch.setattr(molecule_run.sys, "argv", ["molecule-run"])
    assert molecule_run.main() == 0
    assert ran == ["usual"]
    said = capsys.readouterr().out
    assert "special: skipped, it runs by name only: needs a GPU" in said
    assert said.splitlines()[-1] == "1 passed, 0 failed, 1 skipped"
    monkeypatch.setattr(molecule_run.sys, "argv", ["molecule-run", "special"])
    assert molecule_run.main() == 0
    assert ran == ["usual", "special"]


def test_tests_that_measure_wait_until_nothing_else_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A molecule of shell: it notes when its tests begin and end, and begins them as molecule/conftest.py does."""
    fake = tmp_path / "bin" / "molecule"
    fake.parent.mkdir()
    fake.write_text(f"""#!/bin/sh
name=$3
say() {{ echo "INFO     [$name > $1] $2"; }}
say converge Executing
echo "$name-1 : ok=4 changed=3"
say converge "Executed: Successful"
say verify Executing
[ -z "$MOLECULE_TURN" ] || flock "$MOLECULE_TURN" true
echo "$name begins" >> {tmp_path}/noted
sleep 0.2
echo "$name ends" >> {tmp_path}/noted
echo "=== 1 passed in 0.1s ==="
say verify "Executed: Successful"
""")
    fake.chmod(0o755)
    for name, alone in (("first", True), ("second", False), ("third", True), ("fourth", False)):
        folder = tmp_path / "molecule" / name / "tests"
        folder.mkdir(parents=True)
        (folder / "test_it.py").touch()
        env = "{MOLECULE_RUN_ALONE: 'true'}" if alone else "{}"
        (folder.parent / "molecule.yml").write_text(f"platforms: [{{name: {name}-1}}]\nprovisioner: {{env: {env}}}\n")
    monkeypatch.setattr(molecule_run, "ROOT", tmp_path)
    monkeypatch.setattr(molecule_run, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(molecule_run.sys, "executable", str(fake.with_name("python")))
    monkeypatch.setattr(molecule_run.sys, "argv", ["molecule-run"])
    assert molecule_run.main() == 0
    noted = (tmp_path / "noted").read_text().split("\n")
    assert {line.split()[0] for line in noted[:4]} == {"second", "fourth"}
    assert sorted(noted[4:8:2]) == ["first begins", "third begins"]
    assert [line.replace("begins", "ends") for line in noted[4:8:2]] == noted[5:8:2]


@pytest.mark.parametrize(
    ("before", "after", "code", "problem"),
    [
        ("node-1   ", "other    ", 0, "converge touched none of the machines"),
        ("ok=4 ", "ok=0 ", 0, "converge touched none of the machines"),
        ("12 passed", "no tests ran", 0, "no test ran"),
        ("converge] Executed: Successful", "converge] Executed: Failed", 2, "converge failed"),
        ("", "", 3, "molecule exited with 3"),
    ],
)
def test_what_is_not(before: str, after: str, code: int, problem: str) -> None:
    assert judged(GREEN.replace(before, after), code).problems == [problem]


def test_a_scenario_needs_platforms_and_tests() -> None:
    scenario = molecule_run.Scenario("there-is-no-such", {})
    molecule_run.preflight(scenario)
    assert scenario.problems == ["declares no platforms", "has no tests/test_*.py"]


def test_only_the_step_that_failed_is_shown() -> None:
    log = GREEN.replace("verify] Executed: Successful", "verify] Executed: Failed") + "INFO     [thing > destroy] Executing\n"
    assert molecule_run.failing_part(log.splitlines(keepends=True)) == [
        "INFO     [thing > verify] Executing",
        "========================= 12 passed in 2.65s ==========================",
        "INFO     [thing > verify] Executed: Failed",
    ]


def test_the_summary_has_what_the_failed_step_said() -> None:
    task = [
        "TASK [a]",
        "[ERROR]: Task failed: Action failed: 1 of 139 checks failed",
        "load: too slow",
        "Origin: /x.yml:1:1",
        "",
        "fatal: [localhost]:",
    ]
    assert molecule_run.reasons(["[ERROR]: Task failed: one that was rescued", "Origin: /y.yml:1:1", *task]) == task[1:3]
    tests = ["E  assert 0 == 1", "FAILED tests/test_clients.py::test_a_port[docker://n] - AssertionError", "= 1 failed, 79 passed ="]
    assert molecule_run.reasons(tests) == [tests[1]]
    assert molecule_run.reasons(["CRITICAL something else"]) == []
