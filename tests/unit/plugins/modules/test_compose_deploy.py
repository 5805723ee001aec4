# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import shutil
import typing as t
from pathlib import Path

import pytest
from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhosted.llm.plugins.module_utils import compose
from ansible_collections.selfhosted.llm.plugins.modules import compose_deploy
from ansible_collections.selfhosted.llm.tests.unit.scripted_http import run_module

KEY = "sk-molecule-of-the-tests"
ME = f"{os.getuid()}:{os.getgid()}"
GATEWAY, MIGRATION, DATABASE = "litellm-proxy", "litellm-migrate", "litellm-db"
Result = tuple[int, str, str]


class Engine:
    """A Docker engine with Compose for one project. The compose.yaml of these tests is JSON, and says what each container does."""

    def __init__(self) -> None:
        self.containers: dict[str, dict[str, t.Any]] = {}
        self.images = {"litellm:1", "postgres:16"}
        self.networks: set[str] = set()
        self.volumes: set[str] = set()
        self.commands: list[str] = []
        self.asked: list[dict[str, str]] = []
        self.broken_database = False
        self._count = 0

    def run(self, command: list[str] | str, data: str | None = None, **_options: t.Any) -> Result:
        if isinstance(command, str):
            return self.dump(command)
        assert command[0] == "docker"
        assert KEY not in " ".join(command)
        words = command[1:]
        if words[0] == "compose":
            return self.compose(words[1:])
        handler = getattr(self, "_".join(words[:2] if words[0] in ("image", "container") else words[:1]))
        return t.cast("Result", handler(words, data))

    def ps(self, _words: list[str], _data: t.Any) -> Result:
        return 0, "\n".join(self.containers), ""

    def container_inspect(self, words: list[str], _data: t.Any) -> Result:
        found = [self.containers[name] for name in words[2:] if name in self.containers]
        raw = [
            {
                "Id": one["id"],
                "Config": {
                    "Labels": {compose._SERVICE: one["service"], compose._ONEOFF: str(one["oneoff"]), compose.REVISION: one["revision"]}
                },
                "State": {"Status": one["status"], "ExitCode": one["exit_code"], "Health": {"Status": one["health"]}},
                "RestartCount": 0,
            }
            for one in found
        ]
        return (0 if found else 1), json.dumps(raw), ""

    def image_inspect(self, words: list[str], _data: t.Any) -> Result:
        return (0 if words[2] in self.images else 1), "", ""

    def pull(self, words: list[str], _data: t.Any) -> Result:
        self.commands.append(f"pull {words[-1]}")
        if "none" in words[-1]:
            return 1, "", "manifest unknown"
        self.images.add(words[-1])
        return 0, "", ""

    def rm(self, words: list[str], _data: t.Any) -> Result:
        for name in words[1:]:
            self.containers.pop(name, None)
        return 0, "", ""

    def logs(self, words: list[str], _data: t.Any) -> Result:
        return 0, f"log of {self.containers[words[-1]]['service']}\n", f"and {KEY}\n"

    def exec(self, words: list[str], data: t.Any) -> Result:
        self.asked.append(json.loads(data))
        models = self.containers[words[2]]["models"]
        if models is None:
            return 0, json.dumps({"status": 503, "body": "no"}), ""
        return 0, json.dumps({"status": 200, "body": json.dumps({"data": [{"id": name} for name in models]})}), ""

    def dump(self, command: str) -> Result:
        dumping, _redirection, path = command.partition(" >")
        self.commands.append(" ".join(["dump", self.containers[dumping.split()[2]]["service"]]))
        Path(path).write_text("PGDMP", encoding="utf-8")
        return (1, "", "pg_dump: error: connection failed") if self.broken_database else (0, "", "")

    # Compose

    def compose(self, words: list[str]) -> Result:
        folder = Path(words[words.index("--project-directory") + 1])
        place = words.index("--file") + 2
        verb, options = words[place], words[place + 1 :]
        self.commands.append(" ".join([verb, *[option for option in options if not option.startswith("--") or option == "--no-deps"]]))
        try:
            services = json.loads((folder / "compose.yaml").read_text(encoding="utf-8"))
        except ValueError:
            return 1, "", "yaml: line 1: did not find expected key"
        if verb == "config":
            return 0, "\n".join(service.get("image", "litellm:1") for service in services.values()), ""
        if verb == "up":
            return self.up(services, options)
        if verb == "run":
            return self.run_once(services, options)
        for one in self.containers.values():
            one["status"] = "exited"
        if verb == "down":
            self.containers.clear()
            self.networks.clear()
        return 0, "", ""

    def up(self, services: dict[str, t.Any], options: list[str]) -> Result:
        self.networks.add("network")
        self.volumes.add("volume")
        names = [options[-1]] if "--no-deps" in options else list(services)
        for name in names:
            self.containers = {key: one for key, one in self.containers.items() if one["service"] != name}
            if services[name].get("cannot_start"):
                return 1, "", "port is already allocated"
            one = self.start(name, services[name])
            if name == MIGRATION:
                one.update(status="exited", exit_code=services[name].get("exit_code", 0))
        return 0, "", ""

    def start(self, name: str, service: dict[str, t.Any], oneoff: bool = False, key: str = "") -> dict[str, t.Any]:
        self._count += 1
        one = {
            "id": key or f"id{self._count}",
            "service": name,
            "oneoff": oneoff,
            "revision": service["revision"],
            "status": "exited" if service.get("ends") else "running",
            "exit_code": 3 if service.get("ends") else 0,
            "health": "healthy",
            "models": service.get("models", ["tiny"]),
        }
        self.containers[one["id"]] = one
        return one

    def run_once(self, services: dict[str, t.Any], options: list[str]) -> Result:
        name = options[-1]
        if name == MIGRATION:
            return services[name].get("exit_code", 0), "", "the migration speaks"
        candidate = {**services[name], **services[name].get("candidate", {})}
        self.start(name, candidate, oneoff=True, key=options[options.index("--name") + 1])
        return 0, "", ""


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    fake = Engine()
    monkeypatch.setattr(AnsibleModule, "run_command", lambda _self, command, **options: fake.run(command, **options))
    monkeypatch.setattr(shutil, "which", lambda _name: "/usr/bin/docker")
    monkeypatch.setattr(compose.time, "sleep", lambda _seconds: None)
    return fake


class Case:
    """Deploys of one project."""

    def __init__(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self._capsys, self.folder = capsys, folder

    def deploy(
        self,
        config: str = "one",
        check: bool = False,
        services: dict[str, dict[str, t.Any]] | None = None,
        salt: str = "",
        **options: t.Any,
    ) -> dict[str, t.Any]:
        wanted = {name: {"revision": "r1"} for name in (GATEWAY, MIGRATION, DATABASE)}
        wanted[GATEWAY]["revision"] = f"r-{config}"
        for name, more in (services or {}).items():
            wanted[name] = {**wanted[name], **more}
        files = [
            {"path": "compose.yaml", "content": json.dumps(wanted), "owner": ME, "mode": "0600"},
            {"path": "gateway/config.yaml", "content": config, "owner": ME},
            {"path": "secrets/litellm.json", "owner": ME, "mode": "0400"},
        ]
        return self.call(
            files=files,
            secrets={"secrets/litellm.json": json.dumps({"KEY": KEY, "OTHER": config, **({"LITELLM_SALT_KEY": salt} if salt else {})})},
            revisions={name: service["revision"] for name, service in wanted.items()},
            probe={"token": KEY, "models": ["tiny"], "timeout": 0},
            hide=[KEY],
            check=check,
            **options,
        )

    def call(self, check: bool = False, **options: t.Any) -> dict[str, t.Any]:
        return run_module(self._capsys, compose_deploy.main, {"project": "llm", "directory": str(self.folder), **options}, check)

    def read(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")


@pytest.fixture
def case(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, engine: Engine) -> Case:
    monkeypatch.setattr(compose_deploy.files, "write", write_as_me(compose_deploy.files.write))
    return Case(capsys, tmp_path / "project")


def write_as_me(write: t.Callable[..., None]) -> t.Callable[..., None]:
    """The record of a deploy is root's, whom a test need not be."""
    return lambda path, content: write(path, content._replace(uid=os.getuid(), gid=os.getgid()))


def test_first_deploy(case: Case, engine: Engine) -> None:
    result = case.deploy()
    assert result["changed"]
    assert engine.commands == ["config", "up"]
    assert sorted(one["service"] for one in engine.containers.values()) == [DATABASE, MIGRATION, GATEWAY]
    assert sorted(result["stale"]) == [DATABASE, MIGRATION, GATEWAY]
    assert case.folder.stat().st_mode & 0o777 == 0o700
    assert (case.folder / "secrets/litellm.json").stat().st_mode & 0o777 == 0o400
    assert sorted(entry.name for entry in case.folder.iterdir()) == ["compose.yaml", "gateway", "secrets"]
    assert engine.asked[-1] == {"url": "http://127.0.0.1:4000/v1/models", "token": KEY}


def test_second_run_changes_nothing(case: Case, engine: Engine) -> None:
    case.deploy()
    engine.commands.clear()
    result = case.deploy()
    assert (result["changed"], result["diff"], result["stale"]) == (False, [], [])
    assert engine.commands == []


def test_check_mode_changes_nothing(case: Case, engine: Engine) -> None:
    result = case.deploy(check=True)
    assert result["changed"]
    assert not case.folder.exists()
    assert engine.commands == []


def test_diff_hides_secrets(case: Case, engine: Engine) -> None:
    case.deploy()
    result = case.deploy("two", check=True)
    assert KEY not in json.dumps(result)
    secret = next(entry for entry in result["diff"] if entry["after_header"].endswith("litellm.json"))
    assert secret["after"] == "KEY=(hidden)\nOTHER=(hidden, changed)\n"
    config = next(entry for entry in result["diff"] if entry["after_header"].endswith("config.yaml"))
    assert (config["before"], config["after"]) == ("one", "two")


def test_another_salt_key_is_refused(case: Case, engine: Engine) -> None:
    case.deploy()
    case.deploy(salt="sk-salt-first")
    engine.commands.clear()
    for check in (True, False):
        result = case.deploy("two", salt="sk-salt-second", check=check)
        assert result["msg"].startswith("litellm_proxy_salt_key is not the one that this database was written with")
        assert "sk-salt" not in json.dumps(result)
    assert engine.commands == []
    assert case.read("gateway/config.yaml") == "one"
    assert case.deploy("two", salt="sk-salt-second", salt_key_change=True)["changed"]
    assert case.deploy("two", salt="sk-salt-second")["changed"] is False


def test_a_change_is_tried_first_and_touches_only_the_gateway(case: Case, engine: Engine) -> None:
    case.deploy()
    database = next(one["id"] for one in engine.containers.values() if one["service"] == DATABASE)
    engine.commands.clear()
    result = case.deploy("two")
    assert engine.commands == ["config", f"run --no-deps llm-candidate {GATEWAY}", f"up --no-deps {GATEWAY}"]
    assert result["candidate_seconds"] >= 0
    assert database in engine.containers
    assert case.read("gateway/config.yaml") == "two"
    assert not [one for one in engine.containers.values() if one["oneoff"]]


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ({"ends": True}, "the process ended"),
        ({"models": ["other"]}, "models missing: tiny; models not declared: other"),
        ({"models": None}, "answered 503"),
    ],
)
def test_a_candidate_is_refused(case: Case, engine: Engine, behaviour: dict[str, t.Any], words: str) -> None:
    case.deploy()
    before = dict(engine.containers)
    result = case.deploy("two", services={GATEWAY: {"candidate": behaviour}})
    assert result["failed"]
    assert result["failed_step"] == "candidate"
    assert words in result["msg"]
    assert "Nothing was changed" in result["msg"]
    assert f"log of {GATEWAY}" in result["log"]
    assert KEY not in json.dumps(result)
    assert "restored" not in result
    assert engine.containers == before
    assert case.read("gateway/config.yaml") == "one"
    assert not (case.folder / ".candidate").exists()


def test_a_failure_after_the_swap_is_put_back(case: Case, engine: Engine) -> None:
    case.deploy()
    broken = {"models": None, "candidate": {"models": ["tiny"]}}
    result = case.deploy("two", services={GATEWAY: broken})
    assert result["failed_step"] == "ready"
    assert result["restored"] is True
    assert "The old state was put back and runs" in result["msg"]
    assert case.read("gateway/config.yaml") == "one"
    assert [one["revision"] for one in engine.containers.values() if one["service"] == GATEWAY] == ["r-one"]
    assert not (case.folder / ".before-deploy").exists()
    assert case.deploy()["changed"] is False


def test_a_port_that_is_taken(case: Case, engine: Engine) -> None:
    case.deploy()
    result = case.deploy("two", services={GATEWAY: {"cannot_start": True}})
    assert "port is already allocated" in result["msg"]
    assert result["restored"] is True


def test_a_first_deploy_that_fails_leaves_nothing_but_the_volume(case: Case, engine: Engine) -> None:
    result = case.deploy(services={GATEWAY: {"ends": True}})
    assert result["failed_step"] == "ready"
    assert result["restored"] is True
    assert not case.folder.exists()
    assert engine.containers == {}
    assert (engine.networks, engine.volumes) == (set(), {"volume"})


def test_a_release_is_migrated_before_its_candidate(case: Case, engine: Engine) -> None:
    case.deploy()
    engine.commands.clear()
    case.deploy("two", services={MIGRATION: {"revision": "r2"}})
    assert engine.commands == ["config", f"run --no-deps {MIGRATION}", f"run --no-deps llm-candidate {GATEWAY}", "up"]


def test_the_database_is_dumped_before_it_is_migrated(case: Case, engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "dumps"
    backup = {"folder": str(folder), "keep": 2}
    case.deploy(backup=backup)
    assert not folder.exists()
    for name in ("20250101T000000.dump", "20250102T000000.dump"):
        folder.mkdir(exist_ok=True)
        (folder / name).touch()
    engine.commands.clear()
    result = case.deploy("two", services={MIGRATION: {"revision": "r2"}}, backup=backup)
    assert engine.commands[:3] == ["config", f"dump {DATABASE}", f"run --no-deps {MIGRATION}"]
    assert Path(result["dump"]).stat().st_mode & 0o777 == 0o600
    assert sorted(entry.name for entry in folder.iterdir()) == ["20250102T000000.dump", Path(result["dump"]).name]


def test_without_a_dump_there_is_no_migration(case: Case, engine: Engine, tmp_path: Path) -> None:
    case.deploy()
    engine.broken_database = True
    result = case.deploy("two", services={MIGRATION: {"revision": "r2"}}, backup={"folder": str(tmp_path / "dumps")})
    assert result["failed_step"] == "migration"
    assert "connection failed" in result["msg"]
    assert list((tmp_path / "dumps").iterdir()) == []
    assert case.read("gateway/config.yaml") == "one"


def test_a_migration_that_fails_changes_nothing(case: Case, engine: Engine) -> None:
    case.deploy()
    result = case.deploy("two", services={MIGRATION: {"revision": "r2", "exit_code": 1}})
    assert result["failed_step"] == "migration"
    assert "the migration speaks" in result["msg"]
    assert case.read("gateway/config.yaml") == "one"


def test_a_compose_file_is_refused(case: Case, engine: Engine) -> None:
    case.deploy()
    result = case.call(
        files=[{"path": "compose.yaml", "content": "{", "owner": ME}],
        revisions={GATEWAY: "x"},
        probe={"token": KEY, "models": []},
    )
    assert result["failed_step"] == "config"
    assert "did not find expected key" in result["msg"]
    assert json.loads(case.read("compose.yaml"))


def test_images_that_are_missing_are_pulled(case: Case, engine: Engine) -> None:
    case.deploy(services={DATABASE: {"image": "postgres:17"}})
    assert "pull postgres:17" in engine.commands
    result = case.deploy("two", services={GATEWAY: {"image": "none:1"}})
    assert result["failed_step"] == "image"
    assert "none:1 is not on this host and cannot be pulled" in result["msg"]
    assert case.read("gateway/config.yaml") == "one"


@pytest.mark.parametrize(
    ("service", "state"), [(DATABASE, {"status": "exited"}), (GATEWAY, {"health": "unhealthy"}), (MIGRATION, {"exit_code": 1})]
)
def test_what_does_not_run_is_started(case: Case, engine: Engine, service: str, state: dict[str, t.Any]) -> None:
    case.deploy()
    next(one for one in engine.containers.values() if one["service"] == service).update(state)
    assert case.deploy(check=True)["stale"] == [service]
    assert case.deploy()["changed"]
    assert case.deploy()["changed"] is False


def test_a_service_that_is_not_wanted_any_more(case: Case, engine: Engine) -> None:
    case.deploy()
    engine.start("redis", {"revision": "r1"})
    assert case.deploy(check=True)["changed"]


def test_files_that_are_not_wanted_any_more_go(case: Case, engine: Engine) -> None:
    case.deploy()
    extra = case.folder / "gateway/custom_auth.py"
    extra.write_text("pass", encoding="utf-8")
    assert case.deploy()["changed"]
    assert not extra.exists()


def test_a_run_that_was_cut_off_returns_to_where_it_began(case: Case, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    case.deploy()

    def cut_off(*_: t.Any) -> t.NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(compose.Project, "_up", cut_off)
        with pytest.raises(KeyboardInterrupt):
            case.deploy("two")
    assert case.read("gateway/config.yaml") == "two"
    result = case.deploy("three", services={GATEWAY: {"models": None, "candidate": {"models": ["tiny"]}}})
    assert result["restored"] is True
    assert case.read("gateway/config.yaml") == "one"


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ({"path": "../x", "content": ""}, "must be compose.yaml"),
        ({"path": "secrets/x", "content": ""}, "must be in secrets"),
        ({"path": "secrets/x"}, "must be in secrets"),
        ({"path": "gateway/x"}, "must be in content"),
        ({"path": "gateway/x", "content": "", "owner": "root"}, "owner must be uid:gid"),
        ({"path": "gateway/x", "content": "", "mode": "rw"}, "mode octal"),
        ({"path": "gateway/x", "content": ""}, "files has no compose.yaml"),
    ],
)
def test_options_are_checked(case: Case, file: dict[str, str], words: str) -> None:
    result = case.call(files=[file], revisions={GATEWAY: "r"}, probe={"token": KEY, "models": []})
    assert result["failed"]
    assert words in result["msg"]


def test_without_docker(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert "docker was not found" in case.deploy()["msg"]
