# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What LiteLLM's authentication handlers import from it, where it is not installed: each test says which parts it needs."""

from __future__ import annotations

import importlib.util
import sys
import types
import typing as t
from pathlib import Path

import pytest


class ProxyException(Exception):  # noqa: N818 - LiteLLM's name
    def __init__(self, message: str, type: str, param: str | None, code: int, openai_code: str | None = None) -> None:  # noqa: A002
        super().__init__(message)
        self.message, self.type, self.param, self.code, self.openai_code = message, type, param, str(code), openai_code

    def to_dict(self) -> dict[str, t.Any]:
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}


def make_module(name: str, **content: t.Any) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(content)
    return module


def install(monkeypatch: pytest.MonkeyPatch, modules: t.Iterable[types.ModuleType]) -> None:
    """Until the end of the test they can be imported."""
    for module in modules:
        monkeypatch.setitem(sys.modules, module.__name__, module)


def load_file(name: str, path: Path) -> t.Any:
    """A file as LiteLLM loads it: without an entry in sys.modules."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
