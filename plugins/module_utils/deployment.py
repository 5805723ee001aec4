# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deploy as a transaction: try as a candidate, swap, and put everything back where the new one does not become ready."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import socket
import sqlite3
import time
import typing as t
from urllib.parse import quote

from ansible_collections.selfhosted.llm.plugins.module_utils import files
from ansible_collections.selfhosted.llm.plugins.module_utils.probe import Patience, Probe, answer_of
from ansible_collections.selfhosted.llm.plugins.module_utils.systemd import (
    RUNTIME_UNIT_DIR,
    UNIT_DIR,
    Systemd,
    SystemdError,
    candidate_unit,
    format_environment,
    parse_environment,
    unit_value,
)

RUN_DIR = "/run"
STATE_ROOT = "/var/lib/selfhosted-llm"


class DeployError(Exception):
    """`step` is candidate, swap or ready; `journal` the end of the log; `restored` whether the old state answers again."""

    def __init__(self, step: str, message: str, journal: str = "", restored: bool | None = None) -> None:
        super().__init__(message)
        self.step = step
        self.message = message
        self.journal = journal
        self.restored = restored


class Spec(t.NamedTuple):
    """What is to be live. Paths are absolute, times in seconds."""

    name: str
    unit: str
    current: str
    release: str
    # None: must not be there.
    config: t.Mapping[str, files.Content | None]
    environment_file: str
    environment: t.Mapping[str, str]
    secrets: t.Mapping[str, str]
    candidate_environment: t.Mapping[str, str]
    candidate_dir: str
    databases: t.Sequence[str]
    address: str
    port: int
    probe: Probe
    timeout: float
    keep_releases: int

    @property
    def unit_path(self) -> str:
        return os.path.join(UNIT_DIR, f"{self.name}.service")

    @property
    def state_dir(self) -> str:
        return os.path.join(STATE_ROOT, self.name)

    def wanted(self) -> dict[str, files.Content | None]:
        """Every file that goes live, by path; None for one that goes."""
        return {
            self.unit_path: files.Content(self.unit.encode(), 0o644, 0, 0),
            self.environment_file: files.Content(format_environment({**self.environment, **self.secrets}).encode(), 0o600, 0, 0),
            **self.config,
        }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def copy_database(source: str, target: str) -> None:
    """A consistent copy of a SQLite file that may be in use, with the owner and mode of the original."""
    info = os.stat(source)
    address = f"file:{quote(source)}?mode=ro"
    with contextlib.closing(sqlite3.connect(address, uri=True)) as old, contextlib.closing(sqlite3.connect(target)) as new:
        old.backup(new)
    give(target, info.st_uid, info.st_gid, info.st_mode & 0o777)


def restore_database(copy: str, target: str) -> None:
    """Put a copy back. The logs beside the target belong to the content that goes: SQLite would play them into the copy."""
    for suffix in ("-wal", "-shm", "-journal"):
        files.remove(target + suffix)
    files.copy(copy, target)


def give(path: str, uid: int, gid: int, mode: int) -> None:
    """Hand a file or folder to an account, but never what a link in its place points to: the account may write beside it."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fchown(handle, uid, gid)
        os.fchmod(handle, mode)
    finally:
        os.close(handle)


def visible_environment(text: str, plain: t.Container[str]) -> list[str]:
    """An environment file for a diff: values only of settings that are declared as no secret."""
    return [f"{name}={value if name in plain else '(hidden)'}\n" for name, value in sorted(parse_environment(text).items())]


class Deployment:
    """One run. `systemd` carries out, `probe` tells None or what is wrong, `sleep` and `now` are time's."""

    def __init__(
        self,
        spec: Spec,
        systemd: Systemd,
        probe: t.Callable[[Probe, str], str | None] = answer_of,
        sleep: t.Callable[[float], None] = time.sleep,
        now: t.Callable[[], float] = time.monotonic,
    ) -> None:
        names = [os.path.basename(path) for path in spec.databases]
        if len(set(names)) < len(names):
            raise ValueError(f"databases: two of {', '.join(spec.databases)} have the same name, and their copies lie in one folder")
        self.spec = spec
        self.systemd = systemd
        self._probe = probe
        self._sleep = sleep
        self._now = now
        self.wanted = spec.wanted()
        self.live_unit = f"{spec.name}.service"
        self.candidate_name = f"{spec.name}-candidate.service"
        self.live_url = f"http://{f'[{spec.address}]' if ':' in spec.address else spec.address}:{spec.port}"
        self._swap_record = os.path.join(spec.state_dir, "swap.json")
        self._namespace = unit_value(spec.unit, "LogNamespace")
        self._plain = frozenset(spec.environment) - frozenset(spec.secrets)
        self._began = time.time()

    # What would change

    def changed_files(self) -> list[str]:
        return [path for path, content in self.wanted.items() if files.read(path) != content]

    def release_changes(self) -> bool:
        return files.link_target(self.spec.current) != self.spec.release

    def interrupted(self) -> bool:
        """True where an earlier run ended between the start of its swap and its success."""
        return os.path.exists(self._swap_record)

    def diff(self) -> list[dict[str, str]]:
        entries = []
        for path in self.changed_files():
            old, new = files.read(path), self.wanted[path]
            if path == self.spec.environment_file and new:
                entries.append(self._environment_diff(old, new))
                continue
            entry = {
                "before_header": path,
                "after_header": path,
                "before": old.data.decode("utf-8", "replace") if old else "",
                "after": new.data.decode("utf-8", "replace") if new else "",
            }
            if old and new and old.data == new.data:
                entry["before"], entry["after"] = (f"mode {c.mode:04o}, owner {c.uid}:{c.gid}\n" for c in (old, new))
            entries.append(entry)
        if self.release_changes():
            before = files.link_target(self.spec.current)
            entries.append(
                {
                    "before_header": self.spec.current,
                    "after_header": self.spec.current,
                    "before": f"{before}\n" if before else "",
                    "after": f"{self.spec.release}\n",
                }
            )
        return entries

    def _environment_diff(self, old: files.Content | None, new: files.Content) -> dict[str, str]:
        before_text, after_text = old.data.decode("utf-8", "replace") if old else "", new.data.decode()
        before_values, after_values = parse_environment(before_text), parse_environment(after_text)
        after = [
            line.replace("=(hidden)", "=(hidden, changed)")
            if name in before_values and before_values[name] != after_values[name] and name not in self._plain
            else line
            for name, line in zip(sorted(after_values), visible_environment(after_text, self._plain))
        ]
        path = self.spec.environment_file
        return {
            "before_header": path,
            "after_header": path,
            "before": "".join(visible_environment(before_text, self._plain)),
            "after": "".join(after),
        }

    # Carrying it out

    def run(self) -> dict[str, t.Any]:
        """Make it live. Returns what was done; raises DeployError with the old state in place."""
        if not (self.changed_files() or self.release_changes() or self.interrupted()):
            return self._keep_alive()
        done: dict[str, t.Any] = {"changed": True}
        if files.read(self.spec.unit_path) is not None:
            done["candidate_seconds"] = self._try_candidate()
        done["ready_seconds"], previous = self._swap()
        # With the same release there is nothing new to make room for, and the one to roll back to is not known here.
        done["removed_releases"] = [] if previous == self.spec.release else self._prune(previous)
        return done

    def _keep_alive(self) -> dict[str, t.Any]:
        """Nothing to change: start or restart only what does not run or does not answer."""
        state = self.systemd.state(self.live_unit)
        if state.running and state.enabled == "enabled" and self._probe(self.spec.probe, self.live_url) is None:
            return {"changed": False}
        self.systemd.ctl("daemon-reload")
        self.systemd.ctl("enable", self.live_unit)
        if not state.running or self._wait(self.live_unit, self.live_url):
            self._restart()
        started = self._now()
        wrong = self._wait(self.live_unit, self.live_url)
        if wrong:
            raise DeployError(
                "ready", f"{self.live_unit} has nothing to change and does not answer: {wrong}", self._journal(self.live_unit)
            )
        return {"changed": True, "ready_seconds": round(self._now() - started, 1)}

    def _restart(self) -> None:
        """Returns when the new process runs: while the old one is still stopping, it would answer the probe."""
        self.systemd.ctl("restart", self.live_unit)

    def _wait(self, unit: str, url: str) -> str | None:
        """None as soon as it answers as it should, else what was wrong when there was no use in waiting any longer."""
        patience = Patience(self.spec.timeout, self._now())
        while True:
            state = self.systemd.state(unit)
            if state.ended:
                return f"the process ended ({state.result or state.active})"
            wrong = self._probe(self.spec.probe, url)
            if wrong is None:
                return None
            over = patience.end(wrong, self._now())
            if over:
                return over
            self._sleep(0.25)

    def _journal(self, unit: str) -> str:
        return self.systemd.journal(unit, self._namespace, self._began)

    # The candidate

    def _try_candidate(self) -> float:
        stage = os.path.join(RUN_DIR, f"{self.spec.name}-candidate")
        unit_path = os.path.join(RUNTIME_UNIT_DIR, self.candidate_name)
        self._clear_candidate(stage, unit_path)
        started = self._now()
        try:
            wrong = self._boot_candidate(stage, unit_path)
            if wrong:
                raise DeployError(
                    "candidate",
                    f"the candidate of {self.live_unit} was refused: {wrong.rstrip('.')}. "
                    "Nothing was changed, the running service was not touched.",
                    self._journal(self.candidate_name),
                )
        finally:
            self._clear_candidate(stage, unit_path)
        return round(self._now() - started, 1)

    def _boot_candidate(self, stage: str, unit_path: str) -> str | None:
        """None as soon as it answers, else what is wrong."""
        port = free_port()
        try:
            self._stage_candidate(stage, unit_path, port)
            self.systemd.ctl("daemon-reload")
            self.systemd.ctl("start", "--no-block", self.candidate_name)
            return self._wait(self.candidate_name, f"http://127.0.0.1:{port}")
        except (KeyError, OSError, SystemdError, sqlite3.Error) as exc:
            return str(exc) or type(exc).__name__

    def _stage_candidate(self, stage: str, unit_path: str, port: int) -> None:
        spec = self.spec
        owner = pwd.getpwuid(files.user_id(unit_value(spec.unit, "User") or "root"))
        os.makedirs(stage, mode=0o711)
        os.chmod(stage, 0o711)  # noqa: S103 - the service's user opens its files in there, by name
        os.makedirs(os.path.dirname(spec.candidate_dir), exist_ok=True)
        os.mkdir(spec.candidate_dir, mode=0o700)
        for database in spec.databases:
            if os.path.exists(database):
                copy_database(database, os.path.join(spec.candidate_dir, os.path.basename(database)))
        give(spec.candidate_dir, owner.pw_uid, owner.pw_gid, 0o700)
        replacements = {spec.current: spec.release, spec.environment_file: os.path.join(stage, "environment")}
        folders: dict[str, str] = {}
        for path, content in spec.config.items():
            # Files that lie beside each other do so here too: the service may look for one beside the other.
            folder = folders.setdefault(os.path.dirname(path), os.path.join(stage, str(len(folders))))
            os.makedirs(folder, mode=0o711, exist_ok=True)
            replacements[path] = os.path.join(folder, os.path.basename(path))
            if content is not None:
                files.write(replacements[path], content)
        values = {**spec.environment, **spec.secrets}
        for name, value in spec.candidate_environment.items():
            values[name] = value.replace("{port}", str(port)).replace("{dir}", spec.candidate_dir)
        files.write(replacements[spec.environment_file], files.Content(format_environment(values).encode(), 0o600, 0, 0))
        text = candidate_unit(spec.unit, replacements, spec.candidate_dir)
        files.write(unit_path, files.Content(text.encode(), 0o644, 0, 0))

    def _clear_candidate(self, stage: str, unit_path: str) -> None:
        """Also clears what a run that was cut off left behind."""
        known = os.path.exists(unit_path)
        if known:
            self._try_ctl("stop", self.candidate_name)
            self._try_ctl("reset-failed", self.candidate_name)
            files.remove(unit_path)
        for folder in (self.spec.candidate_dir, stage):
            shutil.rmtree(folder, ignore_errors=True)
        if known:
            self._try_ctl("daemon-reload")

    def _try_ctl(self, *args: str) -> None:
        with contextlib.suppress(SystemdError):
            self.systemd.ctl(*args)

    # The swap

    def _swap(self) -> tuple[float, str | None]:
        """Returns the seconds until it answered, and the release that was live before."""
        spec = self.spec
        self._began = time.time()
        os.makedirs(spec.state_dir, mode=0o700, exist_ok=True)
        before, copies = self._last_good()
        self._record(before, copies)
        started = self._now()
        try:
            if self.release_changes():
                self._copy_databases(copies)
                self._record(before, copies)
            for path, content in self.wanted.items():
                if content is None:
                    files.remove(path)
                else:
                    files.write(path, content)
            files.point_link(spec.current, spec.release)
            self.systemd.ctl("daemon-reload")
            self.systemd.ctl("enable", self.live_unit)
            self._restart()
            self._record(before, copies, restarted=True)
            wrong = self._wait(self.live_unit, self.live_url)
        except (OSError, SystemdError, sqlite3.Error) as exc:
            wrong = str(exc) or type(exc).__name__
        if wrong:
            journal = self._journal(self.live_unit)
            restored = self._put_back(before, copies)
            raise DeployError("ready", f"{self.live_unit} did not become ready: {wrong.rstrip('.')}. {restored[1]}", journal, restored[0])
        os.replace(self._swap_record, os.path.join(spec.state_dir, "previous.json"))
        return round(self._now() - started, 1), before.links[spec.current]

    def _record(self, before: files.Snapshot, copies: t.Mapping[str, str], restarted: bool = False) -> None:
        """What a later run has to know if this one is cut off."""
        record = {**json.loads(before.dump()), "copies": copies, "restarted": restarted}
        files.write(self._swap_record, files.Content(json.dumps(record).encode(), 0o600, 0, 0))

    def _last_good(self) -> tuple[files.Snapshot, dict[str, str]]:
        """The state to return to, and the copies of its databases.

        Of an interrupted swap it is the one it started from, not the half-written one. But where that swap only was not seen to its end,
        and its service runs, people may have worked with it since: their data is worth more than the copies.
        """
        present = files.Snapshot.take(self.wanted, [self.spec.current])
        content = files.read(self._swap_record)
        if content is None:
            return present, {}
        record = json.loads(content.data)
        if record["restarted"]:
            state = self.systemd.state(self.live_unit)
            if state.running and state.restarts == 0:
                return present, {}
        before = files.Snapshot.load(content.data)
        return files.Snapshot({**present.files, **before.files}, {**present.links, **before.links}), record["copies"]

    def _copy_databases(self, copies: dict[str, str]) -> None:
        """Copies taken while nothing writes: a new release may migrate them in a way the old one cannot read."""
        present = [path for path in self.spec.databases if path not in copies and os.path.exists(path)]
        # A first install can find the data of an earlier one.
        if present and self.systemd.state(self.live_unit).load != "not-found":
            self.systemd.ctl("stop", self.live_unit)
        for path in present:
            copy = os.path.join(self.spec.state_dir, os.path.basename(path))
            files.remove(copy)
            copy_database(path, copy)
            copies[path] = copy

    def _put_back(self, before: files.Snapshot, copies: t.Mapping[str, str]) -> tuple[bool, str]:
        """Returns whether the old state answers again, and a sentence that says so."""
        first = before.files.get(self.spec.unit_path) is None
        self._try_ctl("stop", self.live_unit)
        if first:
            self._try_ctl("disable", self.live_unit)
        try:
            before.restore()
            for path, copy in copies.items():
                restore_database(copy, path)
            files.remove(self._swap_record)
            self.systemd.ctl("daemon-reload")
            self._try_ctl("reset-failed", self.live_unit)
            if first:
                return True, "Nothing was installed before, and nothing of it was left."
            self._restart()
        except (OSError, SystemdError) as exc:
            return False, f"Putting the old state back failed as well: {exc}"
        wrong = self._wait_process()
        if wrong:
            return False, f"The old state was put back, but it does not run either: {wrong}"
        return True, "The old state was put back and runs."

    def _wait_process(self) -> str | None:
        """The old one may have another port and other models than the probe knows: it must run and keep running for a while."""
        for _attempt in range(12):
            self._sleep(0.25)
            state = self.systemd.state(self.live_unit)
            if state.ended or state.sub == "auto-restart":
                return state.result or state.active
        return None

    def _prune(self, previous: str | None) -> list[str]:
        """Remove releases until `keep_releases` are left: the live one, the one before it, then the newest."""
        with os.scandir(os.path.dirname(self.spec.release)) as entries:
            releases = [entry for entry in entries if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")]
        others = [entry for entry in releases if entry.path != self.spec.release]
        others.sort(key=lambda entry: (entry.path == previous, entry.stat().st_mtime), reverse=True)
        surplus = [entry.path for entry in others[max(self.spec.keep_releases - 1, 0) :]]
        for path in surplus:
            shutil.rmtree(path)
        return surplus


def remove_service(spec_name: str, paths: t.Iterable[str], systemd: Systemd) -> list[str]:
    """Stop a service and remove its unit and the given files and links. Returns what was removed."""
    unit = f"{spec_name}.service"
    removed = []
    if systemd.state(unit).load != "not-found":
        with contextlib.suppress(SystemdError):
            systemd.ctl("disable", "--now", unit)
    for path in (os.path.join(UNIT_DIR, unit), *paths):
        if files.remove(path):
            removed.append(path)
    state_dir = os.path.join(STATE_ROOT, spec_name)
    if os.path.isdir(state_dir):
        shutil.rmtree(state_dir)
        removed.append(state_dir)
    if removed:
        systemd.ctl("daemon-reload")
    return removed
