# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The environment variables `ollama serve` reads, and those of the stand-in."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

FOREVER = float(2**63 - 1) / 1e9  # Go's longest duration, in seconds: about 292 years
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DEFAULT_ORIGINS = [
    f"{scheme}://{host}{port}" for host in ("localhost", "127.0.0.1", "0.0.0.0") for port in ("", ":*") for scheme in ("http", "https")
]
_APP_ORIGINS = ["app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*"]


class DurationError(ValueError):
    """Not a Go duration; the text is Go's."""


def parse_duration(text: str) -> float:
    """Seconds of a Go duration such as 1h30m; negative ones too."""
    quoted = '"' + text + '"'
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    if rest == "0":
        return 0.0
    if not rest:
        raise DurationError(f"time: invalid duration {quoted}")
    seconds = 0.0
    while rest:
        number = re.match(r"[0-9]*\.?[0-9]*", rest)
        digits = number.group() if number else ""
        if not digits.strip("."):
            raise DurationError(f"time: invalid duration {quoted}")
        rest = rest[len(digits) :]
        unit = re.match(r"[^0-9.]+", rest)
        if not unit:
            raise DurationError(f"time: missing unit in duration {quoted}")
        if unit.group() not in _UNITS:
            raise DurationError(f'time: unknown unit "{unit.group()}" in duration {quoted}')
        seconds += float(digits) * _UNITS[unit.group()]
        rest = rest[unit.end() :]
    return sign * seconds


def keep_alive_seconds(value: Any) -> float:
    """What a request or OLLAMA_KEEP_ALIVE says; negative means for ever."""
    seconds = float(value) if isinstance(value, (int, float)) else parse_duration(str(value))
    return FOREVER if seconds < 0 else seconds


def format_duration(seconds: float) -> str:
    """As Go prints a duration: 5m0s."""
    if seconds >= FOREVER:
        return "2562047h47m16.854775807s"
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{rest:g}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def split_host(value: str) -> tuple[str, str, int]:
    """Scheme, host and port of OLLAMA_HOST."""
    scheme, separator, rest = value.partition("://")
    if not separator:
        scheme, rest = "http", value
    default = {"http": 80, "https": 443}.get(scheme, 11434) if separator else 11434
    parts = urlsplit("//" + rest)
    try:
        port = parts.port if parts.port is not None else default
    except ValueError:
        port = default
    return scheme, parts.hostname or "127.0.0.1", port


class Config:
    """The settings of one server, as Ollama would read them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.scheme, self.host, self.port = split_host(self.text("OLLAMA_HOST"))
        self.home = environ.get("HOME", "")
        self.models = Path(self.text("OLLAMA_MODELS") or Path(self.home) / ".ollama" / "models")
        self.keep_alive = self._duration("OLLAMA_KEEP_ALIVE", 300.0)
        load_timeout = self._duration("OLLAMA_LOAD_TIMEOUT", 300.0)
        self.load_timeout = load_timeout if load_timeout > 0 else FOREVER
        self.context_length = self._uint("OLLAMA_CONTEXT_LENGTH", 0)
        self.num_parallel = max(1, self._uint("OLLAMA_NUM_PARALLEL", 1))
        self.max_loaded = self._uint("OLLAMA_MAX_LOADED_MODELS", 0)
        self.max_queue = self._uint("OLLAMA_MAX_QUEUE", 512)
        self.no_prune = self.boolean("OLLAMA_NOPRUNE")
        self.no_cloud = self.boolean("OLLAMA_NO_CLOUD")
        # Run from a release archive, not from the sources.
        self.program_installed = zipfile.is_zipfile(sys.argv[0])
        extra = [origin.strip() for origin in self.text("OLLAMA_ORIGINS").split(",") if origin.strip()]
        self.origins = extra + _DEFAULT_ORIGINS + _APP_ORIGINS

    def text(self, name: str) -> str:
        return self._environ.get(name, "").strip().strip("\"'").strip()

    def boolean(self, name: str) -> bool:
        value = self.text(name)
        # Ollama takes what it cannot read for true.
        return bool(value) and value not in ("0", "f", "F", "false", "FALSE", "False")

    def _uint(self, name: str, default: int) -> int:
        value = self.text(name)
        return int(value) if value.isdigit() else default

    def _duration(self, name: str, default: float) -> float:
        value = self.text(name)
        try:
            seconds = float(value) if re.fullmatch(r"-?[0-9]+", value) else parse_duration(value) if value else default
        except DurationError:
            return default
        return FOREVER if seconds < 0 else seconds

    @property
    def loopback(self) -> bool:
        """Whether the server listens to this machine only; then it looks at Host headers."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def logged(self) -> str:
        """The map that Ollama logs as `server config`."""
        values = {
            "OLLAMA_CONTEXT_LENGTH": str(self.context_length),
            "OLLAMA_DEBUG": self.text("OLLAMA_DEBUG") or "INFO",
            "OLLAMA_FLASH_ATTENTION": str(self.boolean("OLLAMA_FLASH_ATTENTION")).lower(),
            "OLLAMA_HOST": f"{self.scheme}://{self.host}:{self.port}",
            "OLLAMA_KEEP_ALIVE": format_duration(self.keep_alive),
            "OLLAMA_KV_CACHE_TYPE": self.text("OLLAMA_KV_CACHE_TYPE"),
            "OLLAMA_LOAD_TIMEOUT": format_duration(self.load_timeout),
            "OLLAMA_MAX_LOADED_MODELS": str(self.max_loaded),
            "OLLAMA_MAX_QUEUE": str(self.max_queue),
            "OLLAMA_MODELS": str(self.models),
            "OLLAMA_NOPRUNE": str(self.no_prune).lower(),
            "OLLAMA_NO_CLOUD": str(self.no_cloud).lower(),
            "OLLAMA_NUM_PARALLEL": str(self.num_parallel),
            "OLLAMA_ORIGINS": "[" + " ".join(self.origins) + "]",
        }
        return "map[" + " ".join(f"{name}:{value}" for name, value in sorted(values.items())) + "]"


def from_environment() -> Config:
    return Config(os.environ)
