# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Spaces: repository, settings, and the stages that one goes through."""

from __future__ import annotations

import datetime
import json
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

from repository import Repository

FIRST_FILES = {".gitattributes": b"*.bin filter=lfs diff=lfs merge=lfs -text\n", "README.md": b"---\nsdk: docker\n---\n"}
# Without a builder each question about the stage is answered by the next one of these.
STAGES = ["BUILDING", "BUILDING", "APP_STARTING", "RUNNING"]
RESTART_STAGES = ["APP_STARTING", "APP_STARTING", "RUNNING"]


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class Space:
    """`builder` builds and runs the Space for real (see docker_builder.py); None only tells stages."""

    def __init__(self, name: str, folder: Path, private: bool, builder: list[str] | None) -> None:
        self.name = name
        self.private = private
        self.repository = Repository(folder)
        self.repository.commit("initial commit", FIRST_FILES, [])
        self.secrets: dict[str, dict[str, Any]] = {}
        self.variables: dict[str, dict[str, Any]] = {}
        self.stage = "NO_APP_FILE"
        self.error = ""
        self.running_sha = ""
        self.backend = ""
        self.logs: dict[str, list[tuple[str, str]]] = {"build": [], "run": []}
        # What a test asked for: the reason of a failing build, and how often the stage before a change is still told after it.
        self.fail_build = ""
        self.stale = 0
        self._old: tuple[str, str] = ("", "")
        self._upcoming: list[str] = []
        self._builder = builder
        self._lock = threading.RLock()
        self._wanted = threading.Event()
        self._build_wanted = False
        if builder:
            threading.Thread(target=self._work, daemon=True).start()

    def log(self, kind: str, line: str) -> None:
        self.logs[kind].append((now(), line))

    def start(self, build: bool) -> None:
        """After a commit (build), a restart, or a change of the settings."""
        with self._lock:
            if build:
                self.logs["build"] = []
            self._old = (self.stage, self.running_sha)
            self._build_wanted = self._build_wanted or build or self.stage in ("BUILD_ERROR", "NO_APP_FILE")
            if self._builder:
                self.stage = "BUILDING" if self._build_wanted else "APP_STARTING"
                self._wanted.set()
                return
            self._upcoming = list(STAGES if self._build_wanted else RESTART_STAGES)
            self._build_wanted = False
            self.log("build", "--> FROM an image")
            if self.fail_build:
                self.log("build", self.fail_build)
                self._upcoming = ["BUILDING", "BUILD_ERROR"]
            self.stage = self._upcoming[0]
            self.running_sha = self.repository.head()

    def runtime(self) -> dict[str, Any]:
        with self._lock:
            if self.stale > 0:
                self.stale -= 1
                stage, sha = self._old
            else:
                self.stage = self._upcoming.pop(0) if self._upcoming else self.stage
                stage, sha = self.stage, self.running_sha
            answer = {
                "stage": stage,
                "hardware": {"current": "cpu-basic", "requested": "cpu-basic"},
                "storage": None,
                "gcTimeout": 172800,
                "replicas": {"requested": 1},
            }
            if sha:
                answer["sha"] = sha
            if stage == "BUILD_ERROR":
                answer["errorMessage"] = "Job failed with exit code: 1. Reason: build error"
            return answer

    def idle(self, stage: str) -> None:
        """As when nobody asked for two days (SLEEPING), or its owner stopped it (PAUSED)."""
        with self._lock:
            self.stage, self._upcoming = stage, []
            if self._builder and self.backend:
                subprocess.run([*self._builder, "stop", self.name], check=True)
                self.backend = ""

    def _work(self) -> None:
        while True:
            self._wanted.wait()
            with self._lock:
                self._wanted.clear()
                build, self._build_wanted = self._build_wanted, False
                sha = self.repository.head()
                self.running_sha = sha
            failed = build and not self._build(sha)
            stage = "BUILD_ERROR" if failed else self._run()
            with self._lock:
                # What was asked for meanwhile comes first.
                if not self._wanted.is_set():
                    self.stage = stage

    def _build(self, sha: str) -> bool:
        self.log("build", f"===== Build Queued at {now()} / Commit SHA: {sha[:7]} =====")
        if self.fail_build:
            self.log("build", self.fail_build)
            return False
        with tempfile.TemporaryDirectory() as folder:
            self.repository.export(sha, Path(folder))
            return self._call("build", "build", folder)[0]

    def _run(self) -> str:
        with self._lock:
            self.stage = "APP_STARTING"
            values = {name: entry["value"] for name, entry in {**self.variables, **self.secrets}.items()}
        self.logs["run"] = []
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(values, file)
            file.flush()
            worked, last = self._call("run", "run", file.name)
        self.backend = last if worked else ""
        return "RUNNING" if worked else "RUNTIME_ERROR"

    def _call(self, log: str, *command: str) -> tuple[bool, str]:
        """Whether the builder succeeded, and its last line."""
        assert self._builder
        last = ""
        process = subprocess.Popen(
            [*self._builder, command[0], self.name, *command[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout
        for line in process.stdout:
            last = line.strip()
            self.log(log, last)
        return process.wait() == 0, last
