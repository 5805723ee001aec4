# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transaction on a machine of files: systemd is a fake that reads the units and environment files as they are on disk.

What a release does is the text of its program: see Machine._start.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import sqlite3
import typing as t
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ansible_collections.selfhosted.llm.plugins.module_utils import deployment, files
from ansible_collections.selfhosted.llm.plugins.module_utils.deployment import DeployError, Deployment, Spec, remove_service
from ansible_collections.selfhosted.llm.plugins.module_utils.probe import Different, Probe
from ansible_collections.selfhosted.llm.plugins.module_utils.systemd import SystemdError, UnitState, parse_environment

PORT = 4000
SECRET = "sk-the-old-secret-0123456789"
NEW_SECRET = "sk-the-new-secret-9876543210"
UNIT = """\
[Unit]
Description=App

[Service]
User={user}
EnvironmentFile={env}
ExecStart={current}/bin/app --config {config} --port ${{PORT}}
Restart=always

[Install]
WantedBy=multi-user.target
"""


class Cut(BaseException):
    """The run is killed here."""


def cut(*_args: t.Any) -> None:
    raise Cut


class Process(t.NamedTuple):
    """A start of a unit: what it read at that moment."""

    unit: str
    program: str
    config: str
    environment: dict[str, str]

    @property
    def port(self) -> int:
        return int(self.environment["PORT"])


class Machine:
    """systemd, the service manager, and the services' answers."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unit_dir, self.runtime_unit_dir = root / "etc/systemd/system", root / "run/systemd/system"
        self.calls: list[str] = []
        self.loaded: dict[str, str] = {}
        self.processes: dict[str, Process] = {}
        self.failed: dict[str, str] = {}
        self.enabled: set[str] = set()
        self.restarts = 0
        self.started: list[Process] = []
        self.refuse: tuple[str, ...] = ()
        self.clock = 0.0

    def ctl(self, *args: str) -> None:
        call = " ".join(args)
        self.calls.append(call)
        if call in self.refuse:
            raise SystemdError(f"systemctl {call} failed: refused")
        verb, unit = args[0], args[-1]
        if verb == "daemon-reload":
            self.loaded = {
                path.name: path.read_text() for folder in (self.unit_dir, self.runtime_unit_dir) for path in folder.glob("*.service")
            }
        elif verb == "enable":
            self.enabled.add(unit)
        elif verb == "disable":
            self.enabled.discard(unit)
            if "--now" in args:
                self.processes.pop(unit, None)
        elif verb == "stop":
            if unit not in self.loaded:
                raise SystemdError(f"Unit {unit} not loaded.")
            self.processes.pop(unit, None)
        elif verb == "reset-failed":
            self.failed.pop(unit, None)
        elif verb in ("start", "restart"):
            self._start(unit)
        else:
            raise AssertionError(f"unexpected: systemctl {call}")

    def _start(self, unit: str) -> None:
        if unit not in self.loaded:
            raise SystemdError(f"Unit {unit} not found.")
        text = self.loaded[unit]
        environment_file, command = (re.search(rf"^{key}=(.*)$", text, re.MULTILINE) for key in ("EnvironmentFile", "ExecStart"))
        assert environment_file
        assert command
        program, _, config, *_rest = command[1].split()
        environment = parse_environment(Path(environment_file[1]).read_text())
        process = Process(unit, Path(program).read_text(), Path(config).read_text(), environment)
        self.started.append(process)
        self.failed.pop(unit, None)
        if "migrates" in process.program:
            with contextlib.closing(sqlite3.connect(environment["DATABASE"])) as database, database:
                database.execute("UPDATE chats SET text = text || ', migrated'")
        live = process.port == PORT
        if "crashes" in process.program or ("crashes when live" in process.config and live):
            self.processes.pop(unit, None)
            self.failed[unit] = "exit-code"
        else:
            self.processes[unit] = process

    def state(self, unit: str) -> UnitState:
        load = "loaded" if unit in self.loaded or (self.unit_dir / unit).exists() else "not-found"
        enabled = "enabled" if unit in self.enabled else "disabled"
        if unit in self.processes:
            return UnitState(load, "active", "running", "success", enabled, self.restarts)
        if unit in self.failed:
            return UnitState(load, "failed", "failed", self.failed[unit], enabled, self.restarts)
        return UnitState(load, "inactive", "dead", "success", enabled, self.restarts)

    def journal(self, unit: str, namespace: str | None = None, since: float | None = None, lines: int = 60) -> str:
        return f"journal of {unit}"

    def probe(self, _probe: Probe, url: str) -> str | None:
        for process in self.processes.values():
            if process.port == urlsplit(url).port:
                return "it is not healthy" if "sick" in process.program else None
        return "connection refused"

    def sleep(self, seconds: float) -> None:
        self.clock += seconds

    def touched(self, unit: str) -> list[str]:
        return [call for call in self.calls if call.endswith(" " + unit)]


@pytest.fixture(autouse=True)
def ordinary_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who runs the tests may not be root: then every file counts as root's."""
    if os.geteuid() != 0:
        read = files.read
        monkeypatch.setattr(os, "fchown", lambda *_args: None)
        monkeypatch.setattr(files, "read", lambda path: (found := read(path)) and found._replace(uid=0, gid=0))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    for folder in (made.unit_dir, made.runtime_unit_dir, tmp_path / "state", tmp_path / "data"):
        folder.mkdir(parents=True)
    monkeypatch.setattr(deployment, "UNIT_DIR", str(made.unit_dir))
    monkeypatch.setattr(deployment, "RUNTIME_UNIT_DIR", str(made.runtime_unit_dir))
    monkeypatch.setattr(deployment, "RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(deployment, "STATE_ROOT", str(tmp_path / "state"))
    return made


def release(machine: Machine, name: str, program: str = "works", age: int = 0) -> str:
    folder = machine.root / "opt/app/releases" / name
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/app").write_text(program)
    os.utime(folder, (1_700_000_000 - age, 1_700_000_000 - age))
    return str(folder)


def make_spec(machine: Machine, release_path: str, config: str = "setting: 1\n", secret: str = SECRET, **changes: t.Any) -> Spec:
    root = machine.root
    paths = {"env": f"{root}/etc/app/app.env", "current": f"{root}/opt/app/current", "config": f"{root}/etc/app/config.yaml"}
    spec = Spec(
        name="app",
        unit=UNIT.format(user=pwd.getpwuid(os.geteuid()).pw_name, **paths),
        current=paths["current"],
        release=release_path,
        config={paths["config"]: files.Content(config.encode(), 0o640, 0, 0)},
        environment_file=paths["env"],
        environment={"HOST": "0.0.0.0", "PORT": str(PORT), "DATABASE": f"{root}/data/app.db"},
        secrets={"KEY": secret},
        candidate_environment={"HOST": "127.0.0.1", "PORT": "{port}", "DATABASE": "{dir}/app.db"},
        candidate_dir=f"{root}/run/app-candidate/work",
        databases=[],
        address="127.0.0.1",
        port=PORT,
        probe=Probe("/health"),
        timeout=10,
        keep_releases=2,
    )
    return spec._replace(**changes)


def deploy(machine: Machine, spec: Spec) -> dict[str, t.Any]:
    machine.calls.clear()
    return Deployment(spec, t.cast("t.Any", machine), machine.probe, machine.sleep, lambda: machine.clock).run()


def refused(machine: Machine, spec: Spec) -> DeployError:
    with pytest.raises(DeployError) as caught:
        deploy(machine, spec)
    return caught.value


def tree(root: Path, *without: str) -> dict[str, t.Any]:
    """Every file and link below a folder with its content, to see that nothing changed."""
    found: dict[str, t.Any] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if not name.startswith(without or ("\0",)):
            if path.is_symlink():
                found[name] = os.readlink(path)
            elif path.is_file():
                found[name] = (path.read_bytes(), path.stat().st_mode)
    return found


def make_database(machine: Machine, text: str = "hello") -> str:
    path = str(machine.root / "data/app.db")
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE chats (text TEXT)")
        database.execute("INSERT INTO chats VALUES (?)", (text,))
    return path


def chats(path: str) -> list[str]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return [row[0] for row in database.execute("SELECT text FROM chats")]


@pytest.fixture
def live(machine: Machine) -> Spec:
    """Release one, deployed and running."""
    spec = make_spec(machine, release(machine, "1", age=1000))
    deploy(machine, spec)
    machine.started.clear()
    return spec


# The first deploy


def test_first_install(machine: Machine) -> None:
    spec = make_spec(machine, release(machine, "1"))
    result = deploy(machine, spec)
    assert result["changed"]
    assert "candidate_seconds" not in result
    assert machine.calls == ["daemon-reload", "enable app.service", "restart app.service"]
    assert os.readlink(spec.current) == spec.release
    assert Path(spec.unit_path).read_text() == spec.unit
    assert parse_environment(Path(spec.environment_file).read_text()) == {**spec.environment, **spec.secrets}
    assert os.stat(spec.environment_file).st_mode & 0o777 == 0o600
    assert os.stat(next(iter(spec.config))).st_mode & 0o777 == 0o640
    assert machine.processes["app.service"].config == "setting: 1\n"


def test_first_install_that_fails_leaves_nothing(machine: Machine) -> None:
    spec = make_spec(machine, release(machine, "1", "crashes"))
    before = tree(machine.root)
    error = refused(machine, spec)
    assert (error.step, error.restored, error.journal) == ("ready", True, "journal of app.service")
    assert "the process ended (exit-code)" in error.message
    assert "nothing of it was left" in error.message
    assert tree(machine.root) == before
    assert machine.enabled == set()
    assert machine.processes == {}


def test_first_install_that_is_tried_again(machine: Machine) -> None:
    refused(machine, make_spec(machine, release(machine, "1", "sick")))
    assert deploy(machine, make_spec(machine, release(machine, "2")))["changed"]
    assert machine.probe(Probe("/"), f"http://x:{PORT}") is None


def test_first_install_that_finds_the_data_of_an_earlier_one(machine: Machine) -> None:
    database = make_database(machine)
    bad = make_spec(machine, release(machine, "1", "migrates"), config="crashes when live\n", databases=[database])
    assert "the process ended" in refused(machine, bad).message
    assert chats(database) == ["hello"]
    good = make_spec(machine, release(machine, "2", "migrates"), databases=[database])
    assert deploy(machine, good)["changed"]
    assert chats(database) == ["hello, migrated"]


# Nothing to change


def test_nothing_to_change(machine: Machine, live: Spec) -> None:
    before = tree(machine.root)
    assert deploy(machine, live) == {"changed": False}
    assert machine.calls == []
    assert tree(machine.root) == before


def test_a_stopped_service_is_started(machine: Machine, live: Spec) -> None:
    machine.ctl("stop", "app.service")
    assert deploy(machine, live)["changed"]
    assert "restart app.service" in machine.calls
    assert deploy(machine, live) == {"changed": False}


def test_a_service_that_is_not_enabled_is_enabled_without_a_restart(machine: Machine, live: Spec) -> None:
    machine.ctl("disable", "app.service")
    assert deploy(machine, live)["changed"]
    assert machine.touched("app.service") == ["enable app.service"]


def test_a_service_that_hangs_is_restarted_when_its_time_is_over(machine: Machine, live: Spec) -> None:
    machine.processes["app.service"] = machine.processes["app.service"]._replace(program="sick")
    started = machine.clock
    assert deploy(machine, live)["changed"]
    assert machine.clock - started >= live.timeout
    assert machine.processes["app.service"].program == "works"


def test_a_service_that_cannot_be_revived_fails(machine: Machine, live: Spec) -> None:
    machine.ctl("stop", "app.service")
    (Path(live.release) / "bin/app").write_text("sick")
    error = refused(machine, live)
    assert (error.step, error.restored) == ("ready", None)
    assert "nothing to change and does not answer: not ready after 10 s: it is not healthy" in error.message


# The candidate


def test_update(machine: Machine, live: Spec) -> None:
    spec = make_spec(machine, release(machine, "2", "works better"), config="setting: 2\n", secret=NEW_SECRET)
    result = deploy(machine, spec)
    candidate, new = machine.started
    assert (candidate.unit, new.unit) == ("app-candidate.service", "app.service")
    for process in (candidate, new):
        assert (process.program, process.config, process.environment["KEY"]) == ("works better", "setting: 2\n", NEW_SECRET)
    assert candidate.environment["HOST"] == "127.0.0.1"
    assert candidate.port not in (PORT, 0)
    assert candidate.environment["DATABASE"] == f"{spec.candidate_dir}/app.db"
    assert new.environment == {**spec.environment, "KEY": NEW_SECRET}
    assert os.readlink(spec.current) == spec.release
    assert {"changed", "candidate_seconds", "ready_seconds", "removed_releases"} == set(result)
    assert deploy(machine, spec) == {"changed": False}


def test_the_candidate_ends_before_the_swap_begins(machine: Machine, live: Spec) -> None:
    deploy(machine, make_spec(machine, release(machine, "2")))
    stopped = machine.calls.index("stop app-candidate.service")
    assert stopped < machine.calls.index("restart app.service")
    assert list(machine.runtime_unit_dir.iterdir()) == []
    assert not (machine.root / "run/app-candidate").exists()
    assert "app-candidate.service" not in machine.loaded


def test_the_stage_is_closed_to_others(machine: Machine, live: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def look(_probe: Probe, url: str) -> str | None:
        if urlsplit(url).port != PORT:
            stage = machine.root / "run/app-candidate"
            seen.update({str(path.relative_to(stage)): path.stat().st_mode & 0o777 for path in [stage, *stage.rglob("*")]})
        return None

    monkeypatch.setattr(machine, "probe", look)
    deploy(machine, make_spec(machine, live.release, secret=NEW_SECRET))
    assert seen == {".": 0o711, "environment": 0o600, "0": 0o711, "0/config.yaml": 0o640, "work": 0o700}


BROKEN = {
    "crashes": {"program": "crashes"},
    "never answers": {"program": "sick"},
    "unknown user": {"unit": "[Service]\nUser=no-such-user\n"},
    "does not name its paths": {"unit": "[Service]\nEnvironmentFile=/nonexistent/env\nExecStart=/nonexistent/x --config /nonexistent/y\n"},
}


@pytest.mark.parametrize("why", BROKEN)
def test_a_refused_candidate_leaves_everything_as_it_was(machine: Machine, live: Spec, why: str) -> None:
    changes: dict[str, t.Any] = {**BROKEN[why]}
    path = release(machine, "2", changes.pop("program", "works"))
    before, process = tree(machine.root), machine.processes["app.service"]
    spec = make_spec(machine, path, config="setting: 2\n", secret=NEW_SECRET, **changes)
    error = refused(machine, spec)
    assert (error.step, error.restored, error.journal) == ("candidate", None, "journal of app-candidate.service")
    assert "the running service was not touched" in error.message
    assert tree(machine.root) == before
    assert machine.processes == {"app.service": process}
    assert machine.touched("app.service") == []
    assert not any(NEW_SECRET.encode() in content[0] for content in tree(machine.root).values() if isinstance(content, tuple))
    assert list((machine.root / "run").iterdir()) == [machine.root / "run/systemd"]


def test_what_is_wrong_with_a_candidate_is_said(machine: Machine, live: Spec) -> None:
    assert "not ready after 10 s: it is not healthy" in refused(machine, make_spec(machine, release(machine, "2", "sick"))).message
    assert "the process ended (exit-code)" in refused(machine, make_spec(machine, release(machine, "3", "crashes"))).message
    machine.refuse = ("start --no-block app-candidate.service",)
    assert "failed: refused" in refused(machine, make_spec(machine, release(machine, "4"))).message


def test_a_candidate_is_cleared_when_the_run_is_cut_off(machine: Machine, live: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(machine.root)
    monkeypatch.setattr(machine, "probe", cut)
    with pytest.raises(Cut):
        deploy(machine, make_spec(machine, live.release, secret=NEW_SECRET))
    assert tree(machine.root) == before
    assert set(machine.processes) == {"app.service"}


def test_what_a_killed_run_left_of_its_candidate_is_cleared_first(machine: Machine, live: Spec) -> None:
    stage = machine.root / "run/app-candidate/work"
    stage.mkdir(parents=True)
    (stage / "old-scratch").touch()
    (machine.runtime_unit_dir / "app-candidate.service").write_text("[Service]\n")
    deploy(machine, make_spec(machine, release(machine, "2")))
    assert machine.calls[0] == "stop app-candidate.service"
    assert not stage.exists()


def test_a_stage_is_cleared_even_where_systemd_refuses(machine: Machine, live: Spec) -> None:
    machine.refuse = ("stop app-candidate.service", "reset-failed app-candidate.service")
    error = refused(machine, make_spec(machine, release(machine, "2", "sick"), secret=NEW_SECRET))
    assert error.step == "candidate"
    assert not (machine.root / "run/app-candidate").exists()


def test_a_link_in_place_of_the_scratch_folder_is_not_followed(machine: Machine, live: Spec) -> None:
    """Its parent may belong to the service's user, who must not get root to hand over another folder."""
    scratch, target = machine.root / "data/.candidate", machine.root / "etc"
    scratch.symlink_to(target)
    mode = target.stat().st_mode
    spec = make_spec(machine, release(machine, "2"), candidate_dir=str(scratch))
    assert "File exists" in refused(machine, spec).message
    assert target.stat().st_mode == mode
    assert next(iter(spec.config)) in map(str, target.rglob("*"))


def test_config_files_of_the_same_name_are_staged_apart(machine: Machine, live: Spec) -> None:
    first, second = f"{machine.root}/etc/app/config.yaml", f"{machine.root}/etc/other/config.yaml"
    config = {first: files.Content(b"first", 0o644, 0, 0), second: files.Content(b"second", 0o644, 0, 0)}
    deploy(machine, live._replace(config=config))
    assert [process.config for process in machine.started] == ["first", "first"]


def test_config_files_that_lie_beside_each_other_do_so_in_the_stage(machine: Machine, live: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {**live.config, f"{machine.root}/etc/app/handler.py": files.Content(b"beside", 0o640, 0, 0)}
    found = []

    def look(_probe: Probe, url: str) -> str | None:
        found.extend(path.read_text() for path in (machine.root / "run/app-candidate/0").glob("handler.py"))
        return None

    monkeypatch.setattr(machine, "probe", look)
    deploy(machine, live._replace(config=config))
    assert found == ["beside"]


def test_a_file_that_must_not_be_there_goes_with_the_deploy_and_comes_back_with_it(machine: Machine, live: Spec) -> None:
    handler = machine.root / "etc/app/handler.py"
    handler.write_text("old")
    spec = live._replace(config={**live.config, str(handler): None})
    broken = make_spec(machine, live.release, config="crashes when live\n")
    refused(machine, broken._replace(config={**broken.config, str(handler): None}))
    assert handler.read_text() == "old"
    (entry,) = Deployment(spec, t.cast("t.Any", machine)).diff()
    assert (entry["before_header"], entry["before"], entry["after"]) == (str(handler), "old", "")
    assert deploy(machine, spec)["changed"]
    assert not handler.exists()
    assert deploy(machine, spec) == {"changed": False}


# The swap


def test_a_failed_swap_puts_everything_back(machine: Machine, live: Spec) -> None:
    database = make_database(machine)
    path = release(machine, "2", "migrates")
    before = tree(machine.root, "state", "data")
    spec = make_spec(
        machine,
        path,
        config="crashes when live\n",
        secret=NEW_SECRET,
        databases=[database],
        unit=live.unit.replace("Description=App", "Description=New App"),
    )
    error = refused(machine, spec)
    assert (error.step, error.restored, error.journal) == ("ready", True, "journal of app.service")
    assert error.message == "app.service did not become ready: the process ended (exit-code). The old state was put back and runs."
    assert tree(machine.root, "state", "data") == before
    assert chats(database) == ["hello"]
    candidate, new, old = machine.started
    assert (candidate.unit, new.program, old.program) == ("app-candidate.service", "migrates", "works")
    assert machine.processes == {"app.service": old}
    assert old.environment["KEY"] == SECRET
    assert not Deployment(spec, t.cast("t.Any", machine)).interrupted()


def test_a_database_is_put_back_while_nothing_runs(machine: Machine, live: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[set[str]] = []
    restore = deployment.restore_database
    monkeypatch.setattr(deployment, "restore_database", lambda copy, path: (running.append(set(machine.processes)), restore(copy, path)))
    monkeypatch.setattr(machine, "probe", lambda _wanted, url: "sick" if urlsplit(url).port == PORT else None)
    refused(machine, make_spec(machine, release(machine, "2"), databases=[make_database(machine)]))
    assert running == [set()]


def test_files_that_were_not_there_before_go_again(machine: Machine, live: Spec) -> None:
    extra = f"{machine.root}/etc/app/extra.yaml"
    config = {**live.config, extra: files.Content(b"crashes when live", 0o644, 0, 0)}
    path = release(machine, "2")
    unit = live.unit.replace("/etc/app/config.yaml", "/etc/app/extra.yaml")
    assert refused(machine, live._replace(config=config, release=path, unit=unit)).restored
    assert not os.path.exists(extra)
    assert Path(live.unit_path).read_text() == live.unit


def test_the_candidate_works_on_copies_of_the_databases(machine: Machine, live: Spec) -> None:
    database = make_database(machine)
    refused(machine, make_spec(machine, release(machine, "2", "migrates, sick"), databases=[database]))
    assert machine.started[0].environment["DATABASE"] != database
    assert chats(database) == ["hello"]


def test_a_database_is_copied_while_nothing_writes(machine: Machine, live: Spec) -> None:
    database = make_database(machine)
    deploy(machine, make_spec(machine, release(machine, "2", "migrates"), databases=[database]))
    assert machine.touched("app.service")[0] == "stop app.service"
    assert chats(database) == ["hello, migrated"]
    assert chats(f"{machine.root}/state/app/app.db") == ["hello"]


def test_with_the_same_release_a_database_is_left_alone(machine: Machine, live: Spec) -> None:
    database = make_database(machine)
    spec = make_spec(machine, live.release, config="crashes when live\n", databases=[database])
    error = refused(machine, spec)
    assert error.restored
    assert not os.path.exists(f"{machine.root}/state/app/app.db")
    assert "stop app.service" not in machine.calls[: machine.calls.index("restart app.service")]


def test_a_database_that_is_not_there_yet(machine: Machine, live: Spec) -> None:
    spec = make_spec(machine, release(machine, "2"), databases=[f"{machine.root}/data/app.db"])
    assert deploy(machine, spec)["changed"]
    assert "stop app.service" not in machine.calls


def test_databases_of_the_same_name_are_refused(machine: Machine, live: Spec) -> None:
    spec = live._replace(databases=["/a/app.db", "/b/app.db"])
    with pytest.raises(ValueError, match=r"databases: two of /a/app\.db, /b/app\.db have the same name"):
        Deployment(spec, t.cast("t.Any", machine))


def test_systemd_that_refuses_the_new_unit_is_a_failed_swap(machine: Machine, live: Spec) -> None:
    machine.refuse = ("enable app.service",)
    error = refused(machine, make_spec(machine, release(machine, "2")))
    assert error.restored
    assert "enable app.service failed: refused" in error.message
    assert os.readlink(live.current) == live.release


def test_an_error_without_words_is_still_one(machine: Machine, live: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: t.Any) -> None:
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(files, "point_link", fail)
        patch.setattr(files.Snapshot, "restore", lambda _self: None)
        error = refused(machine, make_spec(machine, release(machine, "2")))
    assert "did not become ready: OSError" in error.message


def test_an_old_state_that_does_not_run_either(machine: Machine, live: Spec) -> None:
    (Path(live.release) / "bin/app").write_text("crashes")
    error = refused(machine, make_spec(machine, release(machine, "2"), config="crashes when live\n"))
    assert error.restored is False
    assert "The old state was put back, but it does not run either: exit-code" in error.message
    assert os.readlink(live.current) == live.release


def test_an_old_state_that_cannot_be_put_back_stays_recorded(machine: Machine, live: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: files.Snapshot) -> None:
        raise OSError(28, "No space left on device")

    spec = make_spec(machine, release(machine, "2"), config="crashes when live\n")
    with monkeypatch.context() as patch:
        patch.setattr(files.Snapshot, "restore", fail)
        error = refused(machine, spec)
    assert error.restored is False
    assert "the process ended (exit-code)" in error.message
    assert "No space left on device" in error.message
    assert Deployment(spec, t.cast("t.Any", machine)).interrupted()
    assert refused(machine, spec).restored
    assert Path(next(iter(live.config))).read_text() == "setting: 1\n"


# A run that is cut off


MOMENTS = ["copy", "files", "restart", "wait"]


def cut_off(machine: Machine, spec: Spec, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """Kill a run in the middle of its swap."""
    with monkeypatch.context() as patch:
        if moment == "copy":
            patch.setattr(Deployment, "_copy_databases", cut)
        elif moment == "files":
            patch.setattr(files, "point_link", cut)
        elif moment == "restart":
            start = machine._start
            patch.setattr(machine, "_start", lambda unit: (start(unit), unit == "app.service" and cut()))
        else:
            probe = machine.probe
            patch.setattr(machine, "probe", lambda wanted, url: cut() if urlsplit(url).port == PORT else probe(wanted, url))
        with pytest.raises(Cut):
            deploy(machine, spec)
    assert Deployment(spec, t.cast("t.Any", machine)).interrupted()
    machine.started.clear()


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupted_swap_is_completed_by_the_same_deploy(
    machine: Machine, live: Spec, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    spec = make_spec(machine, release(machine, "2", "migrates"), secret=NEW_SECRET, databases=[make_database(machine)])
    cut_off(machine, spec, monkeypatch, moment)
    assert deploy(machine, spec)["changed"]
    assert os.readlink(spec.current) == spec.release
    assert deploy(machine, spec) == {"changed": False}


@pytest.mark.parametrize("moment", MOMENTS)
def test_after_an_interrupted_swap_the_state_before_it_is_returned_to(
    machine: Machine, live: Spec, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The half-written state, or one that was started and died, is nobody's last good one. That includes the migrated database."""
    database = make_database(machine)
    second = make_spec(machine, release(machine, "2", "migrates"), secret=NEW_SECRET, databases=[database])
    third = make_spec(machine, release(machine, "3", "migrates"), config="crashes when live\n", secret=NEW_SECRET, databases=[database])
    before = tree(machine.root, "state", "data")
    cut_off(machine, second, monkeypatch, moment)
    assert chats(database) == ["hello, migrated" if moment in ("restart", "wait") else "hello"]
    if moment == "wait":
        machine.ctl("stop", "app.service")
    error = refused(machine, third)
    assert error.restored
    assert tree(machine.root, "state", "data") == before
    assert chats(database) == ["hello"]
    assert machine.processes["app.service"].environment["KEY"] == SECRET


def test_after_an_interrupted_change_of_settings_too(machine: Machine, live: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(machine.root, "state")
    cut_off(machine, make_spec(machine, live.release, config="setting: 2\n"), monkeypatch, "files")
    assert refused(machine, make_spec(machine, live.release, config="crashes when live\n")).restored
    assert tree(machine.root, "state") == before


def test_after_an_interrupted_swap_files_that_it_did_not_know_go_too(machine: Machine, live: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(machine, make_spec(machine, live.release, config="setting: 2\n"), monkeypatch, "files")
    extra = f"{machine.root}/etc/app/extra.yaml"
    config = {path: content._replace(data=b"crashes when live") for path, content in live.config.items()}
    assert refused(machine, live._replace(config={**config, extra: files.Content(b"", 0o644, 0, 0)})).restored
    assert not os.path.exists(extra)


def test_a_swap_that_only_was_not_seen_to_its_end_is_built_on(machine: Machine, live: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone pressed Ctrl-C, the service came up all the same, people worked with it: their data must survive the next failure."""
    database = make_database(machine)
    second = make_spec(machine, release(machine, "2", "migrates"), databases=[database])
    cut_off(machine, second, monkeypatch, "wait")
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO chats VALUES ('a week of work')")
    error = refused(machine, make_spec(machine, release(machine, "3"), config="crashes when live\n", databases=[database]))
    assert error.restored
    assert os.readlink(live.current) == second.release
    assert any("a week of work" in chat for chat in chats(database))


def test_a_swap_whose_service_dies_again_and_again_is_not_built_on(machine: Machine, live: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(machine, make_spec(machine, release(machine, "2")), monkeypatch, "wait")
    machine.restarts = 7
    refused(machine, make_spec(machine, release(machine, "3"), config="crashes when live\n"))
    assert os.readlink(live.current) == live.release


# Old releases


def left(machine: Machine) -> set[str]:
    return {path.name for path in (machine.root / "opt/app/releases").iterdir()}


def test_prune_keeps_the_newest(machine: Machine, live: Spec) -> None:
    for age in range(4):
        release(machine, f"old-{age}", age=2000 + age)
    new = release(machine, "2")
    result = deploy(machine, make_spec(machine, new, keep_releases=3))
    assert left(machine) == {"2", "1", "old-0"}
    assert sorted(Path(path).name for path in result["removed_releases"]) == ["old-1", "old-2", "old-3"]


def test_prune_keeps_the_release_to_roll_back_to(machine: Machine, live: Spec) -> None:
    """A release that was built later, and refused, does not take its place."""
    sick = release(machine, "2-sick", "sick", age=500)
    refused(machine, make_spec(machine, sick))
    deploy(machine, make_spec(machine, release(machine, "3")))
    assert left(machine) == {"1", "3"}


def test_a_new_setting_prunes_nothing(machine: Machine, live: Spec) -> None:
    release(machine, "0", age=9000)
    release(machine, "2-built-for-later")
    assert deploy(machine, make_spec(machine, live.release, secret=NEW_SECRET))["removed_releases"] == []
    assert left(machine) == {"0", "1", "2-built-for-later"}


def test_prune_of_all_others(machine: Machine, live: Spec) -> None:
    deploy(machine, make_spec(machine, release(machine, "2"), keep_releases=1))
    assert left(machine) == {"2"}


def test_prune_passes_over_what_is_no_release(machine: Machine, live: Spec) -> None:
    folder = machine.root / "opt/app/releases"
    (folder / ".building").mkdir()
    (folder / "notes.txt").touch()
    (folder / "link").symlink_to(machine.root / "etc")
    deploy(machine, make_spec(machine, release(machine, "2"), keep_releases=1))
    assert left(machine) == {"2", ".building", "notes.txt", "link"}
    assert (machine.root / "etc").is_dir()


def test_a_failed_deploy_prunes_nothing(machine: Machine, live: Spec) -> None:
    for age in range(3):
        release(machine, f"old-{age}", age=2000 + age)
    refused(machine, make_spec(machine, release(machine, "2"), config="crashes when live\n"))
    assert left(machine) == {"1", "2", "old-0", "old-1", "old-2"}


# Diffs


def diff_of(machine: Machine, spec: Spec) -> list[dict[str, str]]:
    return Deployment(spec, t.cast("t.Any", machine)).diff()


def test_diff_of_nothing(machine: Machine, live: Spec) -> None:
    assert diff_of(machine, live) == []


def test_diff_of_a_first_install(machine: Machine) -> None:
    spec = make_spec(machine, "/opt/app/releases/1")
    by_path = {entry["after_header"]: entry for entry in diff_of(machine, spec)}
    assert set(by_path) == {spec.unit_path, spec.environment_file, *spec.config, spec.current}
    assert all(entry["before"] == "" for entry in by_path.values())
    assert by_path[spec.unit_path]["after"] == spec.unit
    assert by_path[spec.current]["after"] == "/opt/app/releases/1\n"
    assert 'PORT="' not in by_path[spec.environment_file]["after"]
    assert "PORT=4000\n" in by_path[spec.environment_file]["after"]


def test_diff_never_shows_secrets(machine: Machine, live: Spec) -> None:
    spec = live._replace(
        environment={**live.environment, "PORT": "4001", "BOTH": "plain"},
        secrets={"KEY": NEW_SECRET, "ADDED": "another-secret", "BOTH": "secret-after-all"},
    )
    (entry,) = diff_of(machine, spec)
    for secret in (SECRET, NEW_SECRET, "another-secret", "secret-after-all"):
        assert secret not in str(entry)
    assert "KEY=(hidden)\n" in entry["before"]
    assert "KEY=(hidden, changed)\n" in entry["after"]
    assert "ADDED=(hidden)\n" in entry["after"]
    assert "BOTH=(hidden)\n" in entry["after"]
    assert "PORT=4000\n" in entry["before"]
    assert "PORT=4001\n" in entry["after"]


def test_diff_of_a_removed_secret(machine: Machine, live: Spec) -> None:
    (entry,) = diff_of(machine, live._replace(secrets={}))
    assert SECRET not in str(entry)
    assert "KEY=(hidden)\n" in entry["before"]
    assert "KEY" not in entry["after"]


def test_a_plain_value_that_looks_hidden_is_shown_as_it_is(machine: Machine, live: Spec) -> None:
    (entry,) = diff_of(machine, live._replace(environment={**live.environment, "HOST": "=(hidden)"}))
    assert "HOST==(hidden)\n" in entry["after"]


def test_diff_of_permissions(machine: Machine, live: Spec) -> None:
    path = next(iter(live.config))
    os.chmod(path, 0o600)
    (entry,) = diff_of(machine, live)
    assert entry["before"].startswith("mode 0600, owner")
    assert entry["after"].startswith("mode 0640, owner")


def test_diff_of_a_release(machine: Machine, live: Spec) -> None:
    (entry,) = diff_of(machine, live._replace(release="/opt/app/releases/2"))
    assert (entry["before"], entry["after"]) == (f"{live.release}\n", "/opt/app/releases/2\n")


def test_a_folder_in_place_of_the_link_is_refused(machine: Machine) -> None:
    spec = make_spec(machine, release(machine, "1"))
    Path(spec.current).mkdir(parents=True)
    with pytest.raises(ValueError, match=r"current is there and is not a symbolic link: move it away"):
        diff_of(machine, spec)


# Waiting


class Script:
    """A systemd whose only unit goes through the given states, one for each look."""

    def __init__(self, *states: UnitState) -> None:
        self.states = list(states)

    def state(self, _unit: str) -> UnitState:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]


UP = UnitState("loaded", "active", "running", "success", "enabled", 0)
QUEUED = UnitState("loaded", "inactive", "dead", "success", "enabled", 0, queued=True)
AGAIN = UnitState("loaded", "activating", "auto-restart", "exit-code", "enabled", 1)


def wait(machine: Machine, answers: t.Iterable[str | None], *states: UnitState) -> str | None:
    script = iter(answers)
    waiting = Deployment(
        make_spec(machine, "/x"), t.cast("t.Any", Script(*states)), lambda *_: next(script), machine.sleep, lambda: machine.clock
    )
    return waiting._wait("app.service", "http://x")


def test_wait_until_it_answers(machine: Machine) -> None:
    assert wait(machine, ["refused", "503", None], UP) is None
    assert machine.clock == 0.5


def test_wait_for_a_unit_that_waits_for_others(machine: Machine) -> None:
    assert wait(machine, ["refused", "refused", None], QUEUED, QUEUED, UP) is None


def test_wait_forgives_a_first_crash_but_not_the_third(machine: Machine) -> None:
    assert wait(machine, ["refused", None], AGAIN, UP) is None
    assert wait(machine, ["refused"] * 9, AGAIN, AGAIN, AGAIN._replace(restarts=3)) == "the process ended (exit-code)"


def test_wait_ends(machine: Machine) -> None:
    assert wait(machine, ["refused"] * 99, UP) == "not ready after 10 s: refused"
    assert machine.clock == 10


def test_wait_ends_sooner_where_the_answer_is_another_one(machine: Machine) -> None:
    fewer = Different("models missing: a")
    # Ten seconds without a break, of the time that it has.
    answers = ["refused"] * 8 + [fewer] * 30 + ["503"] + [fewer] * 30 + [Different("models missing: b")] * 99
    spec = make_spec(machine, "/x")._replace(timeout=60)
    script = iter(answers)
    waiting = Deployment(spec, t.cast("t.Any", Script(UP)), lambda *_: next(script), machine.sleep, lambda: machine.clock)
    assert waiting._wait("app.service", "http://x") == "the same answer for 10 s: models missing: b"
    assert machine.clock == 0.25 * (8 + 30 + 1 + 30) + 10


@pytest.mark.parametrize(("address", "url"), [("127.0.0.1", "http://127.0.0.1:4000"), ("fd00::1", "http://[fd00::1]:4000")])
def test_live_url(machine: Machine, address: str, url: str) -> None:
    assert Deployment(make_spec(machine, "/x", address=address), t.cast("t.Any", machine)).live_url == url


# SQLite


def test_copy_of_a_database_in_use(tmp_path: Path) -> None:
    source, target = str(tmp_path / "a db?#%.db"), str(tmp_path / "copy.db")
    with contextlib.closing(sqlite3.connect(source)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE chats (text TEXT)")
        database.execute("INSERT INTO chats VALUES ('in the log')")
        database.commit()
        os.chmod(source, 0o640)
        deployment.copy_database(source, target)
        assert chats(target) == ["in the log"]
    assert os.stat(target).st_mode & 0o777 == 0o640


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_restore_removes_the_logs_of_what_goes(tmp_path: Path, suffix: str) -> None:
    copy, target = tmp_path / "copy.db", tmp_path / "live.db"
    copy.write_bytes(b"good")
    copy.chmod(0o640)
    target.write_bytes(b"bad")
    log = tmp_path / f"live.db{suffix}"
    log.write_bytes(b"would be played into it")
    deployment.restore_database(str(copy), str(target))
    assert target.read_bytes() == b"good"
    assert target.stat().st_mode & 0o777 == 0o640
    assert not log.exists()


def test_give_does_not_follow_links(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.touch(mode=0o600)
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(OSError):
        deployment.give(str(tmp_path / "link"), os.getuid(), os.getgid(), 0o777)
    assert target.stat().st_mode & 0o777 == 0o600


# Removal


def test_remove_service(machine: Machine, live: Spec) -> None:
    machine.calls.clear()
    paths = [live.environment_file, live.current, *live.config]
    removed = remove_service("app", [*paths, "/nonexistent/file"], t.cast("t.Any", machine))
    assert removed == [live.unit_path, *paths, f"{machine.root}/state/app"]
    assert machine.calls == ["disable --now app.service", "daemon-reload"]
    assert machine.processes == {}
    assert not any(os.path.lexists(path) for path in removed)
    assert os.path.isdir(live.release)


def test_remove_what_is_not_there(machine: Machine) -> None:
    assert remove_service("app", [], t.cast("t.Any", machine)) == []
    assert machine.calls == []
