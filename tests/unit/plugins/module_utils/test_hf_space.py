# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What changes, in which order, and the wait, against a Hub that writes down what it is told."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.selfhosted.llm.plugins.module_utils import hf_space
from ansible_collections.selfhosted.llm.plugins.module_utils.hf_hub import HubError, Runtime, Space, runtime_of

KEY = "sk-key-of-the-digests"
DECLARED = hf_space.Declared(True, {"Dockerfile": "FROM a\n"}, ["custom_auth.py"], {"MASTER": "sk-top-secret"}, {"LOG": "1"}, KEY)


class FakeHub:
    repository = "somebody/gateway"

    def __init__(self, stages: t.Sequence[Runtime] = (), private: bool = True) -> None:
        self.there: Space | None = Space(private, "old", "https://a.hf.space")
        self.files = {"Dockerfile": "FROM a\n"}
        self.kept = {"MASTER": hf_space.describe("MASTER", "sk-top-secret", KEY)}
        self.values = {"LOG": ("1", hf_space.OURS)}
        self.stages = list(stages) or [Runtime("RUNNING", "", "")]
        self.told: list[tuple[str, ...]] = []

    def check_token(self) -> str:
        return "somebody"

    def space(self) -> Space | None:
        return self.there

    def create(self, private: bool) -> None:
        self.told.append(("create", str(private)))
        self.there = Space(private, "first", "https://a.hf.space")

    def set_private(self, private: bool) -> None:
        self.told.append(("private", str(private)))

    def tree(self) -> dict[str, str]:
        return {path: hf_space.blob_id(content) for path, content in self.files.items()}

    def read(self, path: str, revision: str) -> str:
        assert revision == "old"
        return self.files[path]

    def commit(self, message: str, files: t.Mapping[str, str], deleted: t.Sequence[str], parent: str) -> str:
        self.told.append(("commit", parent, *files, *(f"-{path}" for path in deleted)))
        return "new"

    def secrets(self) -> dict[str, str]:
        return self.kept

    def set_secret(self, name: str, value: str, description: str) -> None:
        assert value not in description
        self.told.append(("secret", name, value))

    def delete_secret(self, name: str) -> None:
        self.told.append(("no secret", name))

    def variables(self) -> dict[str, tuple[str, str]]:
        return self.values

    def set_variable(self, name: str, value: str, description: str) -> None:
        self.told.append(("variable", name, value))

    def delete_variable(self, name: str) -> None:
        self.told.append(("no variable", name))

    def runtime(self) -> Runtime:
        return self.stages.pop(0) if len(self.stages) > 1 else self.stages[0]

    def restart(self) -> None:
        self.told.append(("restart",))

    def log(self, build: bool, lines: int) -> list[str]:
        return ["build log" if build else "run log"][:lines]


def deploy(hub: FakeHub, declared: hf_space.Declared = DECLARED) -> tuple[hf_space.Changes, str]:
    changes = hf_space.compare(hub, hub.space(), declared)
    return changes, hf_space.apply(hub, hub.space(), declared, changes, "message")


def test_git_ids() -> None:
    assert hf_space.blob_id("hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_a_digest_needs_the_key_and_is_of_one_secret() -> None:
    text = hf_space.describe("A", "value", KEY)
    assert hf_space.is_same("A", "value", KEY, text)
    for name, value, key in (("B", "value", KEY), ("A", "other", KEY), ("A", "value", "another")):
        assert not hf_space.is_same(name, value, key, text)
    assert not hf_space.is_same("A", "value", KEY, "somebody's own words")
    assert text != hf_space.describe("A", "value", KEY), "salted"


def test_nothing_to_do() -> None:
    hub = FakeHub()
    changes, sha = deploy(hub)
    assert not changes.any
    assert hub.told == []
    assert sha == "old"


def test_a_new_space_has_its_secrets_before_its_files() -> None:
    hub = FakeHub()
    hub.there = None
    changes, sha = deploy(hub)
    assert changes.any
    assert hub.told == [
        ("create", "True"),
        ("secret", "MASTER", "sk-top-secret"),
        ("variable", "LOG", "1"),
        ("commit", "first", "Dockerfile"),
    ]
    assert sha == "new"


def test_one_commit_for_all_that_differs() -> None:
    hub = FakeHub()
    hub.files = {"Dockerfile": "FROM old\n", "custom_auth.py": "x", "notes.txt": "somebody's own"}
    changes, _sha = deploy(hub)
    assert hub.told == [("commit", "old", "Dockerfile", "-custom_auth.py")]
    assert {path["before_header"]: path["before"] for path in hf_space.difference(changes, DECLARED)} == {
        "Dockerfile": "FROM old\n",
        "custom_auth.py": "x",
    }


def test_changed_settings_restart_it_once() -> None:
    hub = FakeHub()
    hub.kept = {"MASTER": hf_space.OURS + ", digest 00:11", "GONE": hf_space.describe("GONE", "x", KEY), "THEIRS": "not ours"}
    hub.values = {"LOG": ("2", hf_space.OURS), "OLD": ("x", hf_space.OURS), "THEIRS": ("x", "")}
    changes, _sha = deploy(hub)
    assert hub.told == [
        ("no secret", "GONE"),
        ("no variable", "OLD"),
        ("secret", "MASTER", "sk-top-secret"),
        ("variable", "LOG", "1"),
        ("restart",),
    ]
    (shown,) = hf_space.difference(changes, DECLARED)
    assert "sk-top-secret" not in str(shown)
    assert shown["after"].splitlines() == ["secret MASTER: a new value, which is not shown", "variable LOG: 1"]
    assert shown["before"].splitlines() == ["secret GONE", "variable LOG: 2", "variable OLD: x"]


@pytest.mark.parametrize("stage", hf_space.IDLE)
def test_what_does_not_serve_is_restarted(stage: str) -> None:
    hub = FakeHub([Runtime(stage, "old", "")])
    changes, _sha = deploy(hub)
    assert changes.any
    assert hub.told == [("restart",)]


def test_a_commit_wakes_it_as_well() -> None:
    hub = FakeHub([Runtime("SLEEPING", "old", "")])
    hub.files = {}
    deploy(hub)
    assert hub.told == [("commit", "old", "Dockerfile")]


@pytest.mark.parametrize(("private", "position"), [(True, 0), (False, -1)])
def test_it_is_public_only_with_what_is_declared(private: bool, position: int) -> None:
    hub = FakeHub(private=not private)
    hub.files = {}
    deploy(hub, DECLARED._replace(private=private))
    assert hub.told[position] == ("private", str(private))
    assert len(hub.told) == 2


def test_leaks() -> None:
    leaking = DECLARED._replace(files={"config.yaml": "key: sk-top-secret"}, variables={"OTHER": "x sk-top-secret x"})
    assert hf_space.leaks(leaking) == ["config.yaml", "the variable OTHER"]
    assert hf_space.leaks(DECLARED._replace(secrets={"USER": "FROM"})) == [], "short words may be in any text"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def wait(stages: list[Runtime], sha: str = "new", changed: bool = True, timeout: float = 100) -> tuple[str, float]:
    clock = Clock()
    waiter = hf_space.Waiter(FakeHub(stages), timeout, 5, 40, clock, clock.sleep)
    return waiter.run(sha, changed), clock.now


def stage(name: str, sha: str = "", error: str = "") -> Runtime:
    return Runtime(name, sha, error)


def test_it_waits_for_its_own_commit() -> None:
    stale = [stage("RUNNING", "old"), stage("BUILD_ERROR", "old")]
    assert wait([*stale, stage("BUILDING", "new"), stage("APP_STARTING", "new"), stage("RUNNING", "new")]) == ("RUNNING", 20)


def test_without_a_commit_in_the_answer_it_waits_for_a_start() -> None:
    assert wait([stage("RUNNING"), stage("RUNNING_BUILDING"), stage("RUNNING")])[1] == 10
    assert wait([stage("BUILD_ERROR"), stage("BUILDING"), stage("RUNNING")])[1] == 10


def test_a_start_that_nobody_saw() -> None:
    assert wait([stage("RUNNING", "new")])[1] == hf_space.SETTLE


def test_nothing_changed() -> None:
    assert wait([stage("RUNNING", "new")], changed=False)[1] == 0


@pytest.mark.parametrize(
    ("name", "log"), [("BUILD_ERROR", "build log"), ("CONFIG_ERROR", "build log"), ("RUNTIME_ERROR", "run log"), ("PAUSED", "run log")]
)
def test_a_failure_shows_the_log_that_says_why(name: str, log: str) -> None:
    with pytest.raises(HubError, match=rf"stage {name} \(no space left\).*\n{log}$"):
        wait([stage("BUILDING", "new"), stage(name, "new", "no space left")])


def test_it_does_not_wait_for_ever() -> None:
    with pytest.raises(HubError, match=r"still in the stage BUILDING after 100 s \(hf_space_build_timeout\).*\nbuild log"):
        wait([stage("BUILDING", "new")])


def test_runtime_of_an_answer() -> None:
    assert runtime_of({"stage": "RUNNING"}) == Runtime("RUNNING", "", "")
    assert runtime_of({"stage": "BUILD_ERROR", "sha": "a", "errorMessage": "b"}) == Runtime("BUILD_ERROR", "a", "b")
