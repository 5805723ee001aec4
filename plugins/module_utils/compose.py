# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Compose project as a transaction: try the gateway as a candidate, swap, and put everything back where that does not become ready."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import time
import typing as t

from ansible_collections.selfhosted.llm.plugins.module_utils import files
from ansible_collections.selfhosted.llm.plugins.module_utils.probe import Different, Patience, model_difference

REVISION = "selfhosted-llm.revision"
_PROJECT = "com.docker.compose.project"
_SERVICE = "com.docker.compose.service"
_ONEOFF = "com.docker.compose.oneoff"
_LINES = "60"
# Folders whose files all belong to the project.
FOLDERS = ("gateway", "secrets")

# Runs in the container: a published port may be elsewhere or nowhere, and what another process answers there would count.
_ASK = """\
import json, sys, urllib.error, urllib.request
ask = json.load(sys.stdin)
request = urllib.request.Request(ask["url"], headers={"Authorization": "Bearer " + ask["token"]})
try:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as answer:
        print(json.dumps({"status": answer.status, "body": answer.read().decode()}))
except urllib.error.HTTPError as error:
    print(json.dumps({"status": error.code, "body": error.read().decode(errors="replace")[:300]}))
except OSError as error:
    print(json.dumps({"status": 0, "body": str(error)}))
"""

# As role and project call user and database.
_DUMP = ("pg_dump", "--username=litellm", "--format=custom", "litellm")

Run = t.Callable[..., t.Tuple[int, str, str]]


class ComposeError(Exception):
    """`step` is config, image, migration, candidate, ready or docker; `log` a container's end; `restored` whether the old state runs."""

    def __init__(self, step: str, message: str, log: str = "", restored: bool | None = None) -> None:
        super().__init__(message)
        self.step, self.message, self.log, self.restored = step, message, log, restored


class Container(t.NamedTuple):
    id: str
    service: str
    oneoff: bool
    revision: str
    status: str
    health: str
    exit_code: int
    restarts: int

    @property
    def running(self) -> bool:
        return self.status == "running"

    @classmethod
    def of(cls, raw: t.Mapping[str, t.Any]) -> Container:
        labels, state = raw["Config"].get("Labels") or {}, raw["State"]
        return cls(
            raw["Id"],
            labels.get(_SERVICE, ""),
            labels.get(_ONEOFF) == "True",
            labels.get(REVISION, ""),
            state["Status"],
            (state.get("Health") or {}).get("Status", ""),
            state.get("ExitCode", 0),
            raw.get("RestartCount", 0),
        )


class Probe(t.NamedTuple):
    """A GET in the container, whose answer must list exactly these models."""

    url: str
    token: str
    models: t.Sequence[str]
    timeout: float


class Backup(t.NamedTuple):
    """Where dumps of the project's own database go, and how many stay."""

    service: str
    folder: str
    keep: int


class Wanted(t.NamedTuple):
    """The project as it should be. `migration` is the service that ends; the paths of `content` are below the folder."""

    content: t.Mapping[str, files.Content]
    revisions: t.Mapping[str, str]
    service: str
    migration: str
    probe: Probe
    backup: Backup | None = None


class Project:
    def __init__(self, run: Run, name: str, folder: str) -> None:
        self._run, self.name, self.folder = run, name, folder
        self.compose_file = os.path.join(folder, "compose.yaml")
        self.stage = os.path.join(folder, ".candidate")
        self.record = os.path.join(folder, ".before-deploy")
        self.candidate = f"{name}-candidate"
        self._sleep, self._now = time.sleep, time.monotonic

    # Docker

    def docker(self, *args: str, what: str = "") -> str:
        code, out, err = self._run(["docker", *args])
        if code != 0:
            raise ComposeError("docker", f"docker {what or ' '.join(args[:2])}: {(err or out).strip()[-2000:]}")
        return out

    def _inspect(self, *ids: str) -> list[Container]:
        code, out, _err = self._run(["docker", "container", "inspect", *ids])
        # One that has gone meanwhile is missing in the list.
        return [Container.of(raw) for raw in json.loads(out or "[]")] if out.strip() or code == 0 else []

    def containers(self) -> dict[str, Container]:
        """By service. What ran once for a deploy is not among them."""
        ids = self.docker("ps", "--all", "--quiet", "--filter", f"label={_PROJECT}={self.name}").split()
        return {found.service: found for found in (self._inspect(*ids) if ids else []) if not found.oneoff}

    def compose(self, folder: str, *args: str) -> str:
        place = ("--project-directory", folder, "--file", os.path.join(folder, "compose.yaml"))
        return self.docker("compose", "--ansi", "never", "--project-name", self.name, *place, *args, what=f"compose {args[0]}")

    def logs(self, container: str) -> str:
        code, out, err = self._run(["docker", "logs", "--tail", _LINES, container])
        return f"{out}{err}".strip() if code == 0 else ""

    # What is there, and what should be

    def before(self) -> dict[str, files.Content | None]:
        """The files of the project, also those that are not wanted any more."""
        paths = [self.compose_file]
        for name in FOLDERS:
            folder = os.path.join(self.folder, name)
            paths += [os.path.join(folder, entry) for entry in (sorted(os.listdir(folder)) if os.path.isdir(folder) else [])]
        return {path: files.read(path) for path in paths}

    def after(self, wanted: Wanted) -> dict[str, files.Content | None]:
        """The files as they should be: None for one that goes."""
        return {**dict.fromkeys(self.before()), **{os.path.join(self.folder, path): content for path, content in wanted.content.items()}}

    def changed_files(self, wanted: Wanted) -> list[str]:
        return [path for path, content in self.after(wanted).items() if files.read(path) != content]

    def stale(self, wanted: Wanted, there: t.Mapping[str, Container]) -> list[str]:
        """The services whose containers are missing, not of this declaration, or not as they should be."""
        found = []
        for service, revision in wanted.revisions.items():
            container = there.get(service)
            if container is None or container.revision != revision:
                found.append(service)
            elif service == wanted.migration:
                if container.running or container.exit_code != 0:
                    found.append(service)
            elif not container.running or container.health == "unhealthy":
                found.append(service)
        return found

    @property
    def interrupted(self) -> bool:
        return os.path.exists(self.record)

    # Carrying it out

    def deploy(self, wanted: Wanted) -> dict[str, t.Any]:
        """Make it live. Returns what was done; raises ComposeError with the old state in place."""
        there = self.containers()
        stale = self.stale(wanted, there)
        live = there.get(wanted.service)
        done: dict[str, t.Any] = {}
        self._clear_stage()
        try:
            self._write(self.stage, {os.path.join(self.stage, path): content for path, content in wanted.content.items()})
            self._check()
            database = there.get(wanted.backup.service) if wanted.backup else None
            if wanted.backup and wanted.migration in stale and database and database.running:
                done["dump"] = self._dump(database, wanted.backup)
            others = [name for name in wanted.revisions if name not in (wanted.service, wanted.migration)]
            if live and live.running and wanted.service in stale and all(name in there and there[name].running for name in others):
                if wanted.migration in stale:
                    self._migrate(wanted.migration)
                done["candidate_seconds"] = self._try_candidate(wanted)
        finally:
            self._clear_stage()
        alone = set(stale) == {wanted.service} and set(there) <= set(wanted.revisions)
        done["ready_seconds"] = self._swap(wanted, ["--no-deps", wanted.service] if alone else ["--remove-orphans"])
        return done

    def _write(self, folder: str, contents: t.Mapping[str, files.Content | None]) -> None:
        """The containers' users open their files by mounts: nobody else has a way into the folder."""
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.chmod(folder, 0o700)
        for path, content in contents.items():
            if content is None:
                files.remove(path)
            else:
                files.write(path, content)

    def _check(self) -> None:
        try:
            images = self.compose(self.stage, "config", "--images").split()
        except ComposeError as exc:
            raise ComposeError("config", f"the new compose.yaml was refused, and nothing was changed: {exc.message}") from exc
        for image in sorted(set(images)):
            if self._run(["docker", "image", "inspect", image])[0] == 0:
                continue
            try:
                self.docker("pull", "--quiet", image)
            except ComposeError as exc:
                raise ComposeError(
                    "image",
                    f"{image} is not on this host and cannot be pulled, and nothing was changed: {exc.message}. Name a mirror of it.",
                ) from exc

    def _dump(self, database: Container, backup: Backup) -> str:
        """A migration has no way back but this. Returns its path."""
        os.makedirs(backup.folder, mode=0o700, exist_ok=True)
        path = os.path.join(backup.folder, time.strftime("%Y%m%dT%H%M%S.dump"))
        partial = path + ".partial"
        files.write(partial, files.Content(b"", 0o600, os.getuid(), os.getgid()))
        command = shlex.join(["docker", "exec", database.id, *_DUMP])
        code, _out, err = self._run(f"{command} >{shlex.quote(partial)}", use_unsafe_shell=True)
        if code != 0:
            files.remove(partial)
            raise ComposeError("migration", f"the database could not be dumped, and nothing was changed: {err.strip()[-500:]}")
        os.replace(partial, path)
        dumps = sorted(name for name in os.listdir(backup.folder) if name.endswith(".dump"))
        for name in dumps[: -backup.keep]:
            files.remove(os.path.join(backup.folder, name))
        return path

    def _migrate(self, service: str) -> None:
        """The new release's migrations, while the old one serves. Its candidate needs them."""
        code, out, err = self._run(self._stage_run("--rm", service))
        if code != 0:
            raise ComposeError(
                "migration", "the database could not be migrated. The running gateway was not touched.", f"{out}{err}"[-6000:]
            )

    def _stage_run(self, *args: str) -> list[str]:
        place = ("--project-directory", self.stage, "--file", os.path.join(self.stage, "compose.yaml"))
        return ["docker", "compose", "--ansi", "never", "--project-name", self.name, *place, "run", "--no-deps", "--no-TTY", *args]

    def _try_candidate(self, wanted: Wanted) -> float:
        started = self._now()
        code, out, err = self._run(self._stage_run("--detach", "--name", self.candidate, wanted.service))
        wrong = (err or out).strip() if code != 0 else self._wait(self.candidate, wanted.probe)
        if wrong:
            raise ComposeError(
                "candidate",
                f"the candidate of {wanted.service} was refused: {wrong.rstrip('.')}. "
                "Nothing was changed, the running gateway was not touched.",
                self.logs(self.candidate),
            )
        return round(self._now() - started, 1)

    def _clear_stage(self) -> None:
        """Also clears what a run that was cut off left behind."""
        self._run(["docker", "rm", "--force", "--volumes", self.candidate])
        shutil.rmtree(self.stage, ignore_errors=True)
        with contextlib.suppress(OSError):
            # One that a first deploy had made for it alone.
            os.rmdir(self.folder)

    def _wait(self, container: str, probe: Probe) -> str | None:
        """None as soon as it answers as it should, else what was wrong when there was no use in waiting any longer."""
        patience = Patience(probe.timeout, self._now())
        while True:
            state = next(iter(self._inspect(container)), None)
            if state is None:
                return "the container has gone"
            if state.status in ("exited", "dead", "removing") or state.restarts:
                return f"the process ended (exit code {state.exit_code})"
            wrong = self._ask(container, probe)
            if wrong is None:
                return None
            over = patience.end(wrong, self._now())
            if over:
                return over
            self._sleep(1)

    def _ask(self, container: str, probe: Probe) -> str | None:
        data = json.dumps({"url": probe.url, "token": probe.token})
        code, out, err = self._run(["docker", "exec", "--interactive", container, "python3", "-c", _ASK], data=data)
        try:
            answer = json.loads(out)
            if answer["status"] != 200:
                return f"{probe.url} answered {answer['status'] or 'nothing'}: {answer['body']}"
            wrong = model_difference(probe.models, json.loads(answer["body"]))
            return Different(wrong) if wrong else None
        except (ValueError, KeyError, TypeError):
            return f"{probe.url} could not be asked: {(err or out).strip()[-300:] or code}"

    def _swap(self, wanted: Wanted, up: list[str]) -> float:
        present = files.Snapshot.take({**self.before(), **self.after(wanted)}, [])
        content = files.read(self.record)
        # Of a run that was cut off it is the state that it started from, not the half-written one.
        before = files.Snapshot({**present.files, **files.Snapshot.load(content.data).files}, {}) if content else present
        self._write(self.folder, {self.record: files.Content(before.dump(), 0o600, 0, 0)})
        started = self._now()
        try:
            self._write(self.folder, self.after(wanted))
            wrong, log = self._up(wanted, up)
        except (OSError, ComposeError) as exc:
            wrong, log = str(exc), ""
        if wrong:
            restored, sentence = self._put_back(before, wanted, up)
            raise ComposeError("ready", f"{wanted.service} did not become ready: {wrong.rstrip('.')}. {sentence}", log, restored)
        files.remove(self.record)
        return round(self._now() - started, 1)

    def _up(self, wanted: Wanted, options: list[str]) -> tuple[str | None, str]:
        """What is wrong, with the end of the log of the container at fault, or None."""
        try:
            self.compose(self.folder, "up", "--detach", *options)
        except ComposeError as exc:
            return exc.message, self._log_at_fault(wanted)
        container = self.containers().get(wanted.service)
        if container is None:
            return "its container is not there", ""
        wrong = self._wait(container.id, wanted.probe)
        return wrong, self.logs(container.id) if wrong else ""

    def _log_at_fault(self, wanted: Wanted) -> str:
        """Of the service that others waited for in vain, else of the gateway."""
        there = self.containers()
        for name, container in there.items():
            failed = container.exit_code != 0 if not container.running else container.health == "unhealthy"
            if name != wanted.service and failed:
                return f"{name}:\n{self.logs(container.id)}"
        return self.logs(there[wanted.service].id) if wanted.service in there else ""

    def _put_back(self, before: files.Snapshot, wanted: Wanted, up: list[str]) -> tuple[bool, str]:
        """Returns whether the old state runs again, and a sentence that says so."""
        first = before.files.get(self.compose_file) is None
        try:
            if first:
                self.compose(self.folder, "down", "--remove-orphans")
            before.restore()
            files.remove(self.record)
            if first:
                self._remove_folder()
                return True, "It is new, and nothing of it was left but the volume of its database."
            self.compose(self.folder, "up", "--detach", *up)
        except (OSError, ComposeError) as exc:
            return False, f"Putting the old state back failed as well: {exc}"
        # The old one may have other models than the probe knows: it must be healthy.
        deadline = self._now() + wanted.probe.timeout
        while True:
            container = self.containers().get(wanted.service)
            if container and container.running and container.health in ("healthy", ""):
                return True, "The old state was put back and runs."
            if container is None or not container.running or container.restarts or self._now() >= deadline:
                return False, "The old state was put back, but it does not run either."
            self._sleep(1)

    def _remove_folder(self) -> None:
        for path in (self.compose_file, self.record):
            files.remove(path)
        for name in (*FOLDERS, os.path.basename(self.stage)):
            shutil.rmtree(os.path.join(self.folder, name), ignore_errors=True)
        with contextlib.suppress(OSError):
            os.rmdir(self.folder)
