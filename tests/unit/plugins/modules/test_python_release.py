# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds with a fake of the commands, which makes the folders that the real ones make."""

from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.selfhosted.llm.plugins.modules import python_release
from ansible_collections.selfhosted.llm.tests.unit.scripted_http import run_module

Results = dict[str, t.Any]
Run = t.Callable[..., Results]


class Commands:
    """What was run. `fails` is the beginning of a command that fails."""

    def __init__(self) -> None:
        self.run: list[str] = []
        self.environments: list[dict[str, str]] = []
        self.python = "3.11.2"
        self.fails: str | None = None

    def __call__(self, command: list[str], environ_update: dict[str, str] | None = None, cwd: str = "") -> t.Any:
        text = " ".join(command)
        self.run.append(text)
        self.environments.append(environ_update or {})
        assert cwd == "/"
        if self.fails and self.fails in text:
            return 1, "", f"{'x' * 9000} the end of it\n"
        if "venv" in command:
            folder = Path(command[-1], "bin")
            folder.mkdir(parents=True, exist_ok=True)
            for name in ("python", "uv"):
                (folder / name).touch()
        return 0, f"{self.python}\n" if "platform" in text else "", ""


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    fake = Commands()
    monkeypatch.setattr(python_release.AnsibleModule, "run_command", fake)
    monkeypatch.setattr(os, "umask", lambda _mask: 0)
    return fake


@pytest.fixture
def run(tmp_path: Path, commands: Commands, capsys: pytest.CaptureFixture[str]) -> Run:
    (tmp_path / "lock.txt").write_text("app==1 --hash=sha256:0\n")
    (tmp_path / "uv.txt").write_text("uv==1 --hash=sha256:0\n")

    def call(check_mode: bool = False, **changes: t.Any) -> Results:
        options = {
            "path": str(tmp_path / "releases/1"),
            "requirements": str(tmp_path / "lock.txt"),
            "python_range": ">=3.10,<3.14",
            "python_variable": "litellm_proxy_python",
            "uv_requirements": str(tmp_path / "uv.txt"),
            "uv_dir": str(tmp_path / "uv"),
        }
        return run_module(capsys, python_release.main, {**options, **changes}, check_mode)

    return call


def test_a_first_build(run: Run, commands: Commands, tmp_path: Path) -> None:
    result = run()
    assert (result["changed"], result["path"], result["python"]) == (True, str(tmp_path / "releases/1"), "3.11.2")
    assert result["seconds"] >= 0
    uv, release = tmp_path / "uv", tmp_path / "releases/1"
    install = f"{uv}/bin/uv pip install --quiet --compile-bytecode --python {release}/bin/python"
    assert commands.run == [
        "/usr/bin/python3 -c import platform; print(platform.python_version())",
        f"/usr/bin/python3 -m venv --clear {uv}",
        f"{uv}/bin/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes --requirement {tmp_path}/uv.txt",
        f"{uv}/bin/uv venv --quiet --python /usr/bin/python3 {release}",
        f"{install} --no-deps --require-hashes --requirement {tmp_path}/lock.txt",
        f"{release}/bin/python -c import platform; print(platform.python_version())",
    ]
    stamp = json.loads((release / "release.json").read_text())
    assert (stamp["python"], stamp["packages"]) == ("3.11.2", [])


def test_a_complete_release_is_not_touched(run: Run, commands: Commands) -> None:
    run()
    commands.run.clear()
    for check_mode in (False, True):
        result = run(check_mode)
        assert (result["changed"], result["build_needed"]) == (False, False)
    assert commands.run == []


def test_check_mode_builds_nothing(run: Run, commands: Commands, tmp_path: Path) -> None:
    result = run(check_mode=True)
    assert (result["changed"], result["build_needed"]) == (True, True)
    assert commands.run == []
    assert not (tmp_path / "releases").exists()


def test_uv_is_installed_once(run: Run, commands: Commands, tmp_path: Path) -> None:
    run()
    commands.run.clear()
    run(path=str(tmp_path / "releases/2"))
    assert not any("venv --clear" in command for command in commands.run)
    (tmp_path / "uv.txt").write_text("uv==2 --hash=sha256:0\n")
    run(path=str(tmp_path / "releases/3"))
    assert any("venv --clear" in command for command in commands.run)


@pytest.mark.parametrize("what", ["stamp", "program"])
def test_a_uv_that_is_incomplete_is_installed_again(run: Run, commands: Commands, tmp_path: Path, what: str) -> None:
    run()
    commands.run.clear()
    if what == "stamp":
        (tmp_path / "uv/release.json").write_text("{")
    else:
        (tmp_path / "uv/bin/uv").unlink()
    assert run(path=str(tmp_path / "releases/2"))["changed"]
    assert any("venv --clear" in command for command in commands.run)


@pytest.mark.parametrize("what", ["release.json", "bin/python"])
def test_an_incomplete_release_is_built_anew(run: Run, tmp_path: Path, what: str) -> None:
    run()
    release = tmp_path / "releases/1"
    (release / what).unlink()
    (release / "leftover").touch()
    assert run(check_mode=True)["build_needed"]
    assert run()["changed"]
    assert (release / what).exists()
    assert not (release / "leftover").exists()


def test_a_failed_build_is_not_complete(run: Run, commands: Commands, tmp_path: Path) -> None:
    commands.fails = "pip install --quiet --compile-bytecode"
    result = run()
    assert result["failed"]
    assert result["msg"].startswith("uv failed: x")
    assert result["msg"].endswith("the end of it")
    assert len(result["msg"]) < 4100
    assert "--require-hashes" in result["command"]
    assert not (tmp_path / "releases/1/release.json").exists()
    commands.fails = None
    assert run()["changed"]


def test_further_packages(run: Run, commands: Commands, tmp_path: Path) -> None:
    run(packages=["torch==2.9", "x @ https://wheels/x.whl"])
    install = next(command for command in commands.run if "torch" in command)
    assert install.endswith(f"--python {tmp_path}/releases/1/bin/python --no-deps torch==2.9 x @ https://wheels/x.whl")
    assert commands.run.index(install) > next(
        i for i, command in enumerate(commands.run) if "--requirement" in command and "uv pip" in command
    )


def test_another_python(run: Run, commands: Commands) -> None:
    commands.python = "3.12.4"
    assert run(python="3.12")["python"] == "3.12.4"
    assert any("uv venv --quiet --python 3.12 " in command for command in commands.run)
    # The distribution's does not matter then.
    assert not commands.run[0].startswith("/usr/bin/python3 -c")


@pytest.mark.parametrize(
    ("have", "options", "words"),
    [
        ("3.9.2", {}, "this host's python3 is 3.9.2, the application runs on Python >=3.10,<3.14. Set litellm_proxy_python to a version"),
        ("3.11.2", {"python": "3.14"}, "litellm_proxy_python is 3.14, the application runs on Python >=3.10,<3.14"),
        ("3.11.2", {"python": "latest"}, "litellm_proxy_python: 'latest' is not a version"),
    ],
)
def test_a_python_that_does_not_do(run: Run, commands: Commands, tmp_path: Path, have: str, options: Results, words: str) -> None:
    commands.python = have
    result = run(**options)
    assert result["failed"]
    assert words in result["msg"]
    assert not (tmp_path / "uv").exists()


def test_the_environment_of_the_installers(run: Run, commands: Commands) -> None:
    run(
        ca_bundle="/ca.pem",
        index_url="https://index/simple",
        proxy_url="http://proxy:3128",
        no_proxy="localhost",
        python_mirror="https://m",
    )
    for environment in commands.environments:
        assert environment["SSL_CERT_FILE"] == environment["PIP_CERT"] == "/ca.pem"
        assert environment["UV_DEFAULT_INDEX"] == environment["PIP_INDEX_URL"] == "https://index/simple"
        assert environment["HTTPS_PROXY"] == "http://proxy:3128"
        assert environment["UV_PYTHON_INSTALL_DIR"] == "/opt/selfhosted-llm/python"
