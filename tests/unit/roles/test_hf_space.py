# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[3] / "roles"


def defaults(role: str) -> Any:
    return yaml.safe_load((ROLES / role / "defaults" / "main.yml").read_text(encoding="utf-8"))


def test_a_space_runs_the_release_that_gateways_run() -> None:
    """Its configuration and its handler were tried with that one."""
    assert defaults("hf_space")["hf_space_version"] == "v" + defaults("litellm_proxy")["litellm_proxy_version"]
