# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names of models: [host/][namespace/]model[:tag]."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


class Name:
    """A complete, valid name."""

    def __init__(self, text: str) -> None:
        """ValueError if the text is not a name."""
        text = text.partition("://")[2] or text
        parts = text.split("/")
        model, _, tag = parts[-1].partition(":")
        # A port of a host has a colon too, but stands before a slash.
        if len(parts) > 3 or (":" in parts[-1] and not tag):
            raise ValueError("invalid model name")
        self.host = parts[0] if len(parts) == 3 else DEFAULT_HOST
        self.namespace = parts[-2] if len(parts) > 1 else DEFAULT_NAMESPACE
        self.model = model
        self.tag = tag or DEFAULT_TAG
        if not _HOST.fullmatch(self.host) or not all(_PART.fullmatch(part) for part in (self.namespace, self.model, self.tag)):
            raise ValueError("invalid model name")

    @classmethod
    def of_path(cls, path: PurePosixPath) -> Name:
        host, namespace, model, tag = path.parts
        return cls(f"{host}/{namespace}/{model}:{tag}")

    @property
    def path(self) -> PurePosixPath:
        return PurePosixPath(self.host, self.namespace, self.model, self.tag)

    @property
    def full(self) -> str:
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def short(self) -> str:
        """As it is shown: without what is the default, but with the tag."""
        if self.host != DEFAULT_HOST:
            return self.full
        namespace = "" if self.namespace == DEFAULT_NAMESPACE else self.namespace + "/"
        return f"{namespace}{self.model}:{self.tag}"
