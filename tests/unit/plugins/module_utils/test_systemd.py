# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.selfhosted.llm.plugins.module_utils.systemd import (
    Systemd,
    SystemdError,
    UnitState,
    candidate_unit,
    format_environment,
    parse_environment,
    quote_argument,
    unit_value,
    without_repetitions,
)

# Environment files


VALUES = {
    "plain": "value",
    "empty": "",
    "double quotes": 'he said "hi"',
    "single quotes": "it's 'fine'",
    "dollars": "$HOME ${X} $$ 100%",
    "backticks": "`id`",
    "backslashes": "C:\\temp\\new \\",
    "spaces": "  around and  within  ",
    "tab": "a\tb",
    "comment": "# ; not a comment",
    "equals": "a=b=c",
    "unicode": "ünïcödé 漢字 😀",
    "line separators of unicode": "a\u2028b\x85c\x0bd\x1ce",
    "all at once": '\\"$`\\\\"',
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_environment_round_trip(value: str) -> None:
    # What systemd itself makes of such a file is in the molecule scenarios.
    text = format_environment({"A": value, "B": "after"})
    assert parse_environment(text) == {"A": value, "B": "after"}
    assert text.count("\n") == 2


def test_environment_text() -> None:
    assert format_environment({"B": 'a"b', "A": "$x\\`"}) == 'A="\\$x\\\\\\`"\nB="a\\"b"\n'
    assert format_environment({}) == ""


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b"])
def test_a_value_with_a_line_break_is_refused_without_showing_it(value: str) -> None:
    with pytest.raises(ValueError, match="the value of KEY has a line break") as caught:
        format_environment({"KEY": f"secret{value}"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "A=", "Ä", "A\n"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a name of an environment variable"):
        format_environment({name: "x"})


def test_parsing_passes_over_what_it_does_not_know() -> None:
    text = '# a comment\n\nA=unquoted\nB="good"\nC="open\nD="trailing" x\n  E="indented"  \n'
    assert parse_environment(text) == {"B": "good", "E": "indented"}


# Unit texts


UNIT = """\
[Unit]
Description=Gateway
After=network-online.target

[Service]
User=app
EnvironmentFile=/etc/app/app.env
ExecStart=/opt/app/current/bin/serve --config /etc/app/config.yaml --port ${PORT}
RuntimeDirectory=app
RuntimeDirectoryMode=0700
Restart=always
RestartSec=2

[Install]
WantedBy=multi-user.target
Alias=gateway.service
"""
REPLACEMENTS = {
    "/opt/app/current": "/opt/app/releases/2",
    "/etc/app/app.env": "/run/app-candidate/environment",
    "/etc/app/config.yaml": "/run/app-candidate/0-config.yaml",
}


def test_candidate_unit() -> None:
    assert candidate_unit(UNIT, REPLACEMENTS, "/run/app-candidate/work") == (
        """\
[Unit]
Description=Candidate of Gateway
After=network-online.target

[Service]
User=app
EnvironmentFile=/run/app-candidate/environment
ExecStart=/opt/app/releases/2/bin/serve --config /run/app-candidate/0-config.yaml --port ${PORT}
RuntimeDirectory=app-candidate
RuntimeDirectoryMode=0700
Restart=no
RestartSec=2

[Service]
ReadWritePaths=/run/app-candidate/work
"""
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ExecStart=/opt/app/current", "ExecStart=/new"),
        ("ExecStart=-/opt/app/current/bin/x", "ExecStart=-/new/bin/x"),
        ('ExecStart="/opt/app/current"', 'ExecStart="/new"'),
        ("PATH=/bin:/opt/app/current:/usr/bin", "PATH=/bin:/new:/usr/bin"),
        ("X=/opt/app/current /opt/app/current/y", "X=/new /new/y"),
        ("X=/opt/app/current-old/bin", "X=/opt/app/current-old/bin"),
        ("X=/opt/app/current.bak", "X=/opt/app/current.bak"),
        ("X=/opt/app/current2", "X=/opt/app/current2"),
        ("X=/srv/opt/app/current", "X=/srv/opt/app/current"),
        ("X=/opt/app", "X=/opt/app"),
    ],
)
def test_only_whole_paths_are_replaced(line: str, expected: str) -> None:
    assert candidate_unit(line, {"/opt/app/current": "/new"}, "/x").splitlines()[0] == expected


def test_the_longer_of_two_paths_wins_and_nothing_is_replaced_twice() -> None:
    replacements = {"/etc/app": "/etc/app/extra", "/etc/app/extra": "/run/x", "/run/x": "/wrong"}
    assert candidate_unit("A=/etc/app/extra B=/etc/app", replacements, "/w").splitlines()[0] == "A=/run/x B=/etc/app/extra"


def test_a_replacement_is_taken_literally() -> None:
    assert candidate_unit("A=/a", {"/a": r"/b\1\g<0>"}, "/w").splitlines()[0] == r"A=/b\1\g<0>"
    assert candidate_unit("A=/aXb", {"/a.b": "/c"}, "/w").splitlines()[0] == "A=/aXb"


def test_every_runtime_directory_gets_another_name() -> None:
    assert "\nRuntimeDirectory=a-candidate b/c-candidate\n" in candidate_unit("[Service]\nRuntimeDirectory=a b/c\n", {}, "/w")


def test_install_in_the_middle() -> None:
    text = candidate_unit("[Unit]\nA=1\n[Install]\nWantedBy=x\n\n[Service]\nB=2\n", {}, "/w")
    assert text == "[Unit]\nA=1\n[Service]\nB=2\n\n[Service]\nReadWritePaths=/w\n"


def test_unit_value() -> None:
    text = "[Service]\nUser=first\n#User=comment\nUser= second \nUserX=other\n"
    assert unit_value(text, "User") == "second"
    assert unit_value(text, "Group") is None


# systemctl and journalctl


class Runner:
    def __init__(self, *answers: tuple[int, str, str]) -> None:
        self.answers = list(answers)
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str]) -> tuple[int, str, str]:
        self.commands.append(command)
        return self.answers.pop(0) if self.answers else (0, "", "")


def test_ctl() -> None:
    run = Runner((0, "", ""), (1, "", "Unit x.service not found.\n"), (1, "on stdout", ""))
    systemd = Systemd(run)
    systemd.ctl("restart", "--no-block", "x.service")
    assert run.commands == [["systemctl", "restart", "--no-block", "x.service"]]
    with pytest.raises(SystemdError, match=r"systemctl start x.service failed: Unit x.service not found.\Z"):
        systemd.ctl("start", "x.service")
    with pytest.raises(SystemdError, match="on stdout"):
        systemd.ctl("daemon-reload")


def state_of(output: str, code: int = 0) -> UnitState:
    return Systemd(Runner((code, output, "the error"))).state("x.service")


def test_state() -> None:
    output = "Result=success\nNRestarts=2\nLoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nJob=\n"
    assert state_of(output) == UnitState("loaded", "active", "running", "success", "enabled", 2, False)
    assert state_of("Result=success\nLoadState=not-found\nActiveState=inactive\nSubState=dead\nJob=\n").load == "not-found"
    assert state_of("NRestarts=\n").restarts == 0
    with pytest.raises(SystemdError, match=r"systemctl show x.service failed: the error"):
        state_of("", code=1)


@pytest.mark.parametrize(
    ("active", "sub", "restarts", "queued", "running", "ended"),
    [
        ("active", "running", 0, False, True, False),
        ("activating", "start", 0, False, False, False),
        ("activating", "auto-restart", 1, False, False, False),
        ("activating", "auto-restart", 3, False, False, True),
        ("active", "running", 9, False, True, False),
        ("deactivating", "stop-sigterm", 0, False, False, False),
        ("failed", "failed", 0, False, False, True),
        ("inactive", "dead", 0, False, False, True),
        # A start job waits for another unit: systemd calls that inactive.
        ("inactive", "dead", 0, True, False, False),
    ],
)
def test_running_and_ended(active: str, sub: str, restarts: int, queued: bool, running: bool, ended: bool) -> None:
    state = state_of(f"ActiveState={active}\nSubState={sub}\nNRestarts={restarts}\nJob={'4711' if queued else ''}\n")
    assert (state.running, state.ended) == (running, ended)


def test_journal() -> None:
    run = Runner((0, "", ""), (0, "last words\n\n", ""))
    assert Systemd(run).journal("x.service", since=1700000000.9) == "last words"
    assert run.commands[0] == ["journalctl", "--sync"]
    command = " ".join(run.commands[1])
    assert "--unit x.service" in command
    assert "--since @1700000000" in command
    # systemd 252 would show the first lines.
    assert "--lines" not in command


def test_the_end_of_a_long_journal() -> None:
    long = "".join(f"{number}\n" for number in range(100))
    assert Systemd(Runner((0, "", ""), (0, long, ""))).journal("x.service", since=0, lines=3) == "97\n98\n99"
    run = Runner((0, "", ""), (0, "last words\n", ""))
    Systemd(run).journal("x.service")
    assert "--lines 60" in " ".join(run.commands[1])


def test_repetitions_take_no_place() -> None:
    nested = ["cause", *["call", "  frame"] * 7, "error", "again", "again"]
    assert without_repetitions(nested) == ["cause", "call", "  frame", "  [these 2 lines above: 7 times]", "error", "again", "again"]
    assert without_repetitions(["a"] * 4) == ["a", "  [the line above: 4 times]"]
    assert without_repetitions([]) == []
    long = "".join(f"{line}\n" for line in nested)
    shown = Systemd(Runner((0, "", ""), (0, long, ""))).journal("x.service", since=0, lines=7)
    assert shown.splitlines()[0] == "cause"


@pytest.mark.parametrize(("answer", "expected"), [((1, "", "no access\n"), "no access"), ((0, "", ""), "(the journal has nothing of it)")])
def test_journal_without_lines(answer: t.Any, expected: str) -> None:
    assert Systemd(Runner((0, "", ""), answer)).journal("x.service") == expected


def test_journal_of_a_namespace() -> None:
    run = Runner()
    Systemd(run).journal("x.service", namespace="llm")
    assert [command[:2] for command in run.commands] == [["journalctl", "--namespace=llm"]] * 2


# Commands


@pytest.mark.parametrize(
    ("argument", "quoted"),
    [
        ("--ctx-size", "--ctx-size"),
        ("", '""'),
        ("two words", '"two words"'),
        ("it's", '"it\'s"'),
        ('{"a": 1}', '"{\\"a\\": 1}"'),
        ("C:\\x", '"C:\\\\x"'),
        ("100%", "100%%"),
        ("$HOME", "$$HOME"),
        (";", '";"'),
    ],
)
def test_an_argument_of_a_unit(argument: str, quoted: str) -> None:
    assert quote_argument(argument) == quoted


def test_an_argument_that_no_unit_can_carry() -> None:
    with pytest.raises(ValueError, match="line break"):
        quote_argument("a\nb")
