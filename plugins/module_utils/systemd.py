# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd as the deploy module needs it: unit texts, environment files, and a thin wrapper of systemctl and journalctl."""

from __future__ import annotations

import re
import typing as t

UNIT_DIR = "/etc/systemd/system"
RUNTIME_UNIT_DIR = "/run/systemd/system"

RunCommand = t.Callable[[t.List[str]], t.Tuple[int, str, str]]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_ASSIGNMENT = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"\Z')


def format_environment(values: t.Mapping[str, str]) -> str:
    """The text of an EnvironmentFile=. Raises ValueError for a name or value that systemd would not read back as it is."""
    lines = []
    for name in sorted(values):
        value = str(values[name])
        if not _NAME.match(name):
            raise ValueError(f"{name!r} is not a name of an environment variable")
        if any(char in value for char in "\n\r\0"):
            raise ValueError(f"the value of {name} has a line break, which an environment file cannot carry")
        escaped = re.sub(r'(["\\`$])', r"\\\1", value)
        lines.append(f'{name}="{escaped}"')
    return "".join(line + "\n" for line in lines)


def parse_environment(text: str) -> dict[str, str]:
    """What format_environment wrote, read back. Lines of another form are passed over."""
    values = {}
    # Not splitlines(): it also breaks at characters that a value may have.
    for line in text.split("\n"):
        match = _ASSIGNMENT.match(line.strip())
        if match:
            values[match.group(1)] = re.sub(r"\\(.)", r"\1", match.group(2))
    return values


def quote_argument(argument: str) -> str:
    """An argument of a command as a unit's Exec…= line has it. Raises ValueError for one that cannot be there."""
    if any(char in argument for char in "\n\r\0"):
        raise ValueError(f"{argument!r} has a line break, which a unit cannot carry")
    escaped = re.sub(r'(["\\])', r"\\\1", argument).replace("%", "%%").replace("$", "$$")
    return escaped if escaped and not re.search(r"[\s\"'\\;]", escaped) else f'"{escaped}"'


def unit_value(unit: str, key: str) -> str | None:
    """The last value of a key in a unit's text, or None."""
    found = re.findall(rf"^{re.escape(key)}=(.*)$", unit, flags=re.MULTILINE)
    return found[-1].strip() if found else None


def _own_directories(line: t.Match[str]) -> str:
    return "RuntimeDirectory=" + " ".join(f"{name}-candidate" for name in line.group(1).split())


def candidate_unit(unit: str, replacements: t.Mapping[str, str], writable: str) -> str:
    """The unit of a candidate: the live one's text with other paths, started by nobody but the deploy and never again.

    Its runtime directory gets a name of its own: systemd removes one when any of its users stops.
    """
    # In one pass, whole paths only: what was put in is not looked at again, and no other path is hit that begins or ends alike.
    paths = "|".join(re.escape(old) for old in sorted(replacements, key=len, reverse=True))
    text = re.sub(rf"(?<![\w.])(?:{paths})(?![\w.-])", lambda match: replacements[match.group()], unit) if paths else unit
    text = re.sub(r"^Restart=.*$", "Restart=no", text, flags=re.MULTILINE)
    text = re.sub(r"^RuntimeDirectory=(.*)$", _own_directories, text, flags=re.MULTILINE)
    text = re.sub(r"^Description=(.*)$", r"Description=Candidate of \1", text, flags=re.MULTILINE)
    text = re.sub(r"^\[Install\]\n(?:(?!\[).*\n?)*", "", text, flags=re.MULTILINE)
    return text.rstrip("\n") + f"\n\n[Service]\nReadWritePaths={writable}\n"


class UnitState(t.NamedTuple):
    """What `systemctl show` says of a unit."""

    load: str
    active: str
    sub: str
    result: str
    enabled: str
    restarts: int
    queued: bool = False

    @property
    def running(self) -> bool:
        return self.active == "active"

    @property
    def ended(self) -> bool:
        """True where the unit will not come up by itself any more, or dies again and again.

        One with a job in the queue is still to come: it waits for the units that it needs.
        """
        if self.active in ("failed", "inactive"):
            return not self.queued
        return self.sub == "auto-restart" and self.restarts >= 3


# The longest run of lines that is looked for again right after itself.
_LONGEST_REPETITION = 8


def without_repetitions(lines: list[str]) -> list[str]:
    """Runs of lines that come three times or more in a row, once, with a word on how often.

    Frames of nested calls fill the end of a traceback with themselves, and push out what it is about.
    """
    kept: list[str] = []
    position = 0
    while position < len(lines):
        for size in range(1, _LONGEST_REPETITION + 1):
            block = lines[position : position + size]
            times = 1
            while len(block) == size and lines[position + times * size : position + (times + 1) * size] == block:
                times += 1
            if times > 2:
                kept += [*block, f"  [{'the line' if size == 1 else f'these {size} lines'} above: {times} times]"]
                position += times * size
                break
        else:
            kept.append(lines[position])
            position += 1
    return kept


class SystemdError(Exception):
    """A systemctl call that failed."""


class Systemd:
    """The calls to systemctl and journalctl. `run` is AnsibleModule.run_command or a fake of it."""

    def __init__(self, run: RunCommand) -> None:
        self._run = run

    def ctl(self, *args: str) -> None:
        code, out, err = self._run(["systemctl", *args])
        if code != 0:
            raise SystemdError(f"systemctl {' '.join(args)} failed: {(err or out).strip()}")

    def state(self, unit: str) -> UnitState:
        names = "LoadState,ActiveState,SubState,Result,UnitFileState,NRestarts,Job"
        code, out, err = self._run(["systemctl", "show", "--property", names, unit])
        if code != 0:
            raise SystemdError(f"systemctl show {unit} failed: {err.strip()}")
        got = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        return UnitState(
            got.get("LoadState", ""),
            got.get("ActiveState", ""),
            got.get("SubState", ""),
            got.get("Result", ""),
            got.get("UnitFileState", ""),
            int(got.get("NRestarts") or 0),
            bool(got.get("Job")),
        )

    def services(self, pattern: str) -> list[str]:
        """The services of that pattern that are to run, enabled, or that failed, sorted and without their suffix."""
        names = set()
        for what in (["list-unit-files", "--type=service"], ["list-units", "--all", "--plain", "--type=service"]):
            # Newer versions fail where nothing matches.
            _code, out, _err = self._run(["systemctl", *what, "--full", "--no-legend", f"{pattern}.service"])
            names |= {line.split()[0] for line in out.splitlines() if line.split()}
        found = []
        # Of a template there are only instances.
        for name in sorted(name for name in names if not name.endswith("@.service")):
            state = self.state(name)
            if state.enabled in ("enabled", "enabled-runtime") or state.active == "failed":
                found.append(name[: -len(".service")])
        return found

    def journal(self, unit: str, namespace: str | None = None, since: float | None = None, lines: int = 60) -> str:
        """The end of a unit's log; `since` is in seconds of the epoch."""
        command = ["journalctl", *([f"--namespace={namespace}"] if namespace else [])]
        self._run([*command, "--sync"])
        command += ["--no-pager", "--output", "cat", "--unit", unit]
        # With both, systemd 252 shows the first lines since then, not the last ones.
        command += ["--lines", str(lines)] if since is None else ["--since", f"@{int(since)}"]
        _code, out, err = self._run(command)
        return "\n".join(without_repetitions(out.strip().splitlines())[-lines:]) or err.strip() or "(the journal has nothing of it)"
