# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to change for a Space to be as declared, the changes, and the wait until it runs."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets as random
import time
import typing as t

from ansible_collections.selfhosted.llm.plugins.module_utils.hf_hub import HubError, Runtime, Space

# Beginning of the description of what is ours: what others set in the Space's settings is left alone.
OURS = "Managed by Ansible (selfhosted.llm)"
_DIGEST = re.compile(re.escape(OURS) + r", digest ([0-9a-f]{16}):([0-9a-f]{64})\Z")
# A stage that was there before a change may still be told for a moment after it.
SETTLE = 30.0
# A Space in these does not serve, and is restarted: it sleeps, somebody stopped it, or an earlier build failed.
IDLE = ("SLEEPING", "PAUSED", "STOPPED", "BUILD_ERROR", "RUNTIME_ERROR", "CONFIG_ERROR")
FAILED = ("BUILD_ERROR", "RUNTIME_ERROR", "CONFIG_ERROR", "NO_APP_FILE", "DELETING", "PAUSED", "STOPPED")
# What goes into a commit must not be a secret; shorter ones may be a word of the text by chance.
SHORTEST_SECRET = 8


class HubLike(t.Protocol):
    """What is needed of hf_hub.Hub."""

    repository: str

    def check_token(self) -> str: ...
    def space(self) -> Space | None: ...
    def create(self, private: bool) -> None: ...
    def set_private(self, private: bool) -> None: ...
    def tree(self) -> dict[str, str]: ...
    def read(self, path: str, revision: str) -> str: ...
    def commit(self, message: str, files: t.Mapping[str, str], deleted: t.Sequence[str], parent: str) -> str: ...
    def secrets(self) -> dict[str, str]: ...
    def set_secret(self, name: str, value: str, description: str) -> None: ...
    def delete_secret(self, name: str) -> None: ...
    def variables(self) -> dict[str, tuple[str, str]]: ...
    def set_variable(self, name: str, value: str, description: str) -> None: ...
    def delete_variable(self, name: str) -> None: ...
    def runtime(self) -> Runtime: ...
    def restart(self) -> None: ...
    def log(self, build: bool, lines: int) -> list[str]: ...


class Declared(t.NamedTuple):
    private: bool
    files: t.Mapping[str, str]
    absent_files: t.Sequence[str]
    secrets: t.Mapping[str, str]
    variables: t.Mapping[str, str]
    digest_key: str


class Changes(t.NamedTuple):
    create: bool
    visibility: bool
    # Paths; what is in the Space's repository, "" for a new file.
    write: dict[str, str]
    delete: dict[str, str]
    set_secrets: list[str]
    delete_secrets: list[str]
    set_variables: dict[str, str]
    delete_variables: dict[str, str]
    # The stage that has to be left, "" where it runs or will be built anyway.
    wake: str

    @property
    def commit(self) -> bool:
        return bool(self.write or self.delete)

    @property
    def settings(self) -> bool:
        return bool(self.set_secrets or self.delete_secrets or self.set_variables or self.delete_variables)

    @property
    def any(self) -> bool:
        return bool(self.create or self.visibility or self.commit or self.settings or self.wake)


def blob_id(content: str) -> str:
    """Git's id of a file with this content."""
    raw = content.encode()
    return hashlib.sha1(b"blob %d\0" % len(raw) + raw, usedforsecurity=False).hexdigest()


def describe(name: str, value: str, key: str, salt: str = "") -> str:
    """The description of a secret, by which a later run knows whether its value is still this one.

    The Hub shows it to whoever may change the Space, and to those who duplicate a public one. So it is a keyed digest: without the key
    nobody can try values against it, however short they are.
    """
    salt = salt or random.token_hex(8)
    digest = hmac.new(hashlib.sha256(key.encode()).digest(), f"{salt}\0{name}\0{value}".encode(), hashlib.sha256).hexdigest()
    return f"{OURS}, digest {salt}:{digest}"


def is_same(name: str, value: str, key: str, description: str) -> bool:
    found = _DIGEST.match(description)
    return found is not None and hmac.compare_digest(describe(name, value, key, found.group(1)), description)


def leaks(declared: Declared) -> list[str]:
    """Files that have a secret in them: nothing of it may be committed."""
    values = [*(value for value in declared.secrets.values() if len(value) >= SHORTEST_SECRET)]
    texts = {**declared.files, **{f"the variable {name}": value for name, value in declared.variables.items()}}
    return sorted(path for path, content in texts.items() if any(value in content for value in values))


def compare(hub: HubLike, space: Space | None, declared: Declared) -> Changes:
    if space is None:
        return Changes(
            True, False, dict.fromkeys(declared.files, ""), {}, sorted(declared.secrets), [], dict.fromkeys(declared.variables, ""), {}, ""
        )
    tree = hub.tree()
    write = {
        path: hub.read(path, space.sha) if path in tree else ""
        for path, content in declared.files.items()
        if tree.get(path) != blob_id(content)
    }
    delete = {path: hub.read(path, space.sha) for path in declared.absent_files if path in tree and path not in declared.files}
    kept, variables = hub.secrets(), hub.variables()
    key = declared.digest_key
    changes = Changes(
        create=False,
        visibility=space.private != declared.private,
        write=write,
        delete=delete,
        set_secrets=sorted(name for name, value in declared.secrets.items() if not is_same(name, value, key, kept.get(name, ""))),
        delete_secrets=sorted(name for name, text in kept.items() if text.startswith(OURS) and name not in declared.secrets),
        set_variables={
            name: variables[name][0] if name in variables else ""
            for name, value in sorted(declared.variables.items())
            if variables.get(name) != (value, OURS)
        },
        delete_variables={
            name: value for name, (value, text) in sorted(variables.items()) if text.startswith(OURS) and name not in declared.variables
        },
        wake="",
    )
    stage = hub.runtime().stage
    return changes._replace(wake=stage) if stage in IDLE and not changes.commit else changes


def apply(hub: HubLike, space: Space | None, declared: Declared, changes: Changes, message: str) -> str:
    """Make the changes. Returns the commit that is to run.

    Secrets and variables come before the commit: what is built from it finds them.
    """
    if changes.create:
        hub.create(declared.private)
    elif changes.visibility and declared.private:
        # Nobody is to see what comes next; and before a Space is made public, what is in it is put right.
        hub.set_private(True)
    for name in changes.delete_secrets:
        hub.delete_secret(name)
    for name in changes.delete_variables:
        hub.delete_variable(name)
    for name in changes.set_secrets:
        hub.set_secret(name, declared.secrets[name], describe(name, declared.secrets[name], declared.digest_key))
    for name in changes.set_variables:
        hub.set_variable(name, declared.variables[name], OURS)
    current = hub.space() if changes.create else space
    sha = current.sha if current else ""
    if changes.commit:
        sha = hub.commit(message, {path: declared.files[path] for path in changes.write}, sorted(changes.delete), sha)
    elif changes.wake or changes.settings:
        # The Hub restarts it after a change of the settings, too, but only at some time after it has said that it runs.
        hub.restart()
    if changes.visibility and not declared.private:
        hub.set_private(False)
    return sha


class Waiter:
    """Asks for the stage until the Space runs. `changed`: whether there was something that makes it start anew."""

    def __init__(
        self,
        hub: HubLike,
        timeout: float,
        interval: float,
        log_lines: int,
        clock: t.Callable[[], float] = time.monotonic,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self._hub = hub
        self._timeout = timeout
        self._interval = interval
        self._log_lines = log_lines
        self._clock = clock
        self._sleep = sleep

    def run(self, sha: str, changed: bool) -> str:
        """The stage, which is RUNNING. Raises HubError, with the end of the log, where it will not be."""
        started = self._clock()
        moved = not changed
        while True:
            now = self._hub.runtime()
            current = self._is_current(now, sha, moved or self._clock() - started >= SETTLE)
            if now.stage not in (*FAILED, "RUNNING"):
                moved = True
            elif current and now.stage == "RUNNING":
                return now.stage
            elif current:
                raise self._failure(now)
            if self._clock() - started >= self._timeout:
                raise self._too_late(now)
            self._sleep(self._interval)

    @staticmethod
    def _is_current(now: Runtime, sha: str, settled: bool) -> bool:
        """Whether the stage is about what was published, not about what ran before."""
        if now.sha and sha and now.sha != sha:
            return False
        return settled

    def _log(self, build: bool) -> str:
        lines = self._hub.log(build, self._log_lines)
        return "\n".join([f"The end of the log of the {'build' if build else 'container'}:", *lines]) if lines else "Its log is empty."

    def _failure(self, now: Runtime) -> HubError:
        build = now.stage in ("BUILD_ERROR", "CONFIG_ERROR", "NO_APP_FILE")
        reason = f" ({now.error})" if now.error else ""
        return HubError(f"the Space {self._hub.repository} is in the stage {now.stage}{reason}. {self._log(build)}")

    def _too_late(self, now: Runtime) -> HubError:
        build = "BUILDING" in now.stage
        return HubError(
            f"the Space {self._hub.repository} was still in the stage {now.stage} after {self._timeout:g} s "
            f"(hf_space_build_timeout). {self._log(build)}"
        )


def _settings_before(changes: Changes, declared: Declared) -> list[str]:
    return [
        *(["public" if declared.private else "private"] if changes.visibility else []),
        *([f"stage {changes.wake}"] if changes.wake else []),
        *(f"secret {name}" for name in changes.delete_secrets),
        *(f"variable {name}: {value}" for name, value in {**changes.set_variables, **changes.delete_variables}.items() if value),
    ]


def _settings_after(changes: Changes, declared: Declared) -> list[str]:
    return [
        *(["a Space"] if changes.create else []),
        *(["private" if declared.private else "public"] if changes.create or changes.visibility else []),
        *(["stage RUNNING"] if changes.wake else []),
        *(f"secret {name}: a new value, which is not shown" for name in changes.set_secrets),
        *(f"variable {name}: {declared.variables[name]}" for name in changes.set_variables),
    ]


def difference(changes: Changes, declared: Declared) -> list[dict[str, str]]:
    """Ansible's diff: files, values of variables, names of secrets."""
    found = []
    for path, before in {**changes.write, **changes.delete}.items():
        after = declared.files[path] if path in changes.write else ""
        found.append({"before_header": path, "after_header": path, "before": before, "after": after})
    old, new = _settings_before(changes, declared), _settings_after(changes, declared)
    if old or new:
        where = "settings of the Space"
        text = {"before": "".join(f"{line}\n" for line in old), "after": "".join(f"{line}\n" for line in new)}
        found.append({"before_header": where, "after_header": where, **text})
    return found


__all__ = ["Changes", "Declared", "HubError", "Waiter", "apply", "compare", "difference", "leaks"]
