# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every filter is documented beside its file, as ansible-doc wants it, and the documentation is that of the filter."""

from __future__ import annotations

import importlib
import inspect
import re
import typing as t
from pathlib import Path

import pytest
import yaml
from jinja2.nativetypes import NativeEnvironment

FOLDER = Path(__file__).resolve().parents[4] / "plugins/filter"
PACKAGE = "ansible_collections.selfhosted.llm.plugins.filter"

FILTERS: dict[str, t.Callable[..., t.Any]] = {
    name: function
    for path in sorted(FOLDER.glob("*.py"))
    for name, function in importlib.import_module(f"{PACKAGE}.{path.stem}").FilterModule().filters().items()
}


def documentation(name: str) -> t.Any:
    return yaml.safe_load((FOLDER / f"{name}.yml").read_text(encoding="utf-8"))


def test_every_filter_has_its_file() -> None:
    assert {path.stem for path in FOLDER.glob("*.yml")} == set(FILTERS)


@pytest.mark.parametrize("name", FILTERS)
def test_documentation(name: str) -> None:
    document = documentation(name)
    assert set(document) == {"DOCUMENTATION", "EXAMPLES", "RETURN"}
    assert document["DOCUMENTATION"]["name"] == name
    assert f"selfhosted.llm.{name}" in document["EXAMPLES"]
    assert list(document["RETURN"]) == ["_value"]


@pytest.mark.parametrize("name", FILTERS)
def test_options_are_the_parameters(name: str) -> None:
    options: dict[str, t.Any] = dict(documentation(name)["DOCUMENTATION"]["options"])
    del options["_input"]
    positional = [word.strip() for word in documentation(name)["DOCUMENTATION"].get("positional", "").split(",") if word.strip()]
    parameters = list(inspect.signature(FILTERS[name]).parameters.values())[1:]
    if parameters and parameters[-1].name == "arguments":
        # The filters on llm_models share one function: what follows the hosts is handed on.
        assert positional == list(options)
        assert positional[:2] == ["groups", "urls"]
        return
    assert list(options) == [parameter.name for parameter in parameters]
    assert positional == [parameter.name for parameter in parameters if parameter.kind != parameter.KEYWORD_ONLY]
    for parameter in parameters:
        if parameter.kind != parameter.VAR_POSITIONAL:
            assert options[parameter.name].get("required", False) == (parameter.default is parameter.empty)


@pytest.mark.parametrize("name", FILTERS)
def test_examples_are_yaml_tasks(name: str) -> None:
    tasks = yaml.safe_load(documentation(name)["EXAMPLES"])
    assert all(re.match("[A-Z]", task["name"]) for task in tasks)


@pytest.mark.parametrize("name", ["model_aliases", "model_fallbacks"])
def test_examples_that_stand_for_themselves(name: str) -> None:
    text = documentation(name)["EXAMPLES"]
    (task,) = yaml.safe_load(text)
    expected = yaml.safe_load("".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#")))
    environment = NativeEnvironment()
    environment.filters[f"selfhosted.llm.{name}"] = FILTERS[name]
    assert environment.from_string(task["ansible.builtin.debug"]["msg"]).render(task.get("vars", {})) == expected
