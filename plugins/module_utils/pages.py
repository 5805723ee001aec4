# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Open WebUI must answer to who opens its pages."""

from __future__ import annotations

import typing as t

from ansible_collections.selfhosted.llm.plugins.module_utils.http import BACKEND, PROTOCOL

# What each path tells, as the name of a check.
PATHS = {"/health": "is well", "/": "the page opens"}


def page_problem(path: str, status: int, content_type: str, answer: t.Any) -> tuple[str, str] | None:
    """Layer and words of what is wrong with an answer, or None. `answer` is its JSON, if it is any."""
    if status != 200:
        return BACKEND, f"answered {status}"
    if path == "/" and "text/html" not in content_type:
        return PROTOCOL, f"answered with {content_type or 'no content type'} instead of a page"
    if path != "/" and not (isinstance(answer, dict) and answer.get("status") is True):
        return PROTOCOL, "does not say that it is well"
    return None
