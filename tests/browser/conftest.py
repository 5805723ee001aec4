# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real browser against a running Open WebUI.

OPEN_WEBUI_URL, OPEN_WEBUI_EMAIL, and OPEN_WEBUI_PASSWORD or OPEN_WEBUI_PASSWORD_FILE say which one and who signs in.
OPEN_WEBUI_MODEL is the model to chat with. SCREENSHOTS is a folder for pictures (default reports/browser), CHROMIUM the browser's program.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

PROGRAMS = ("chromium", "google-chrome", "chromium-browser")
# Root may not use the sandbox; the rest keeps a browser without a screen and without the internet quiet.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@dataclass(frozen=True)
class Site:
    """Where to go and who signs in."""

    url: str
    email: str
    password: str
    model: str


@pytest.fixture(scope="session")
def site() -> Site:
    names = ("OPEN_WEBUI_URL", "OPEN_WEBUI_EMAIL", "OPEN_WEBUI_MODEL")
    missing = [name for name in names if not os.environ.get(name)]
    password_file = os.environ.get("OPEN_WEBUI_PASSWORD_FILE")
    password = Path(password_file).read_text(encoding="utf-8").strip() if password_file else os.environ.get("OPEN_WEBUI_PASSWORD", "")
    if not password:
        missing.append("OPEN_WEBUI_PASSWORD")
    if missing:
        pytest.skip(f"needs a running Open WebUI: set {', '.join(missing)}")
    url, email, model = (os.environ[name] for name in names)
    return Site(url.rstrip("/"), email, password, model)


@pytest.fixture(scope="session")
def screenshots() -> Path:
    folder = Path(os.environ.get("SCREENSHOTS", "reports/browser"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if not program:
        pytest.fail(f"no browser: install one of {', '.join(PROGRAMS)}, or set CHROMIUM")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield running
        running.close()
