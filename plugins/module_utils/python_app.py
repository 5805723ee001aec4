# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Python versions and the environment of pip and uv, for releases of Python applications."""

from __future__ import annotations

import operator
import re
import typing as t

Version = t.Tuple[int, ...]

_OPERATORS: dict[str, t.Callable[[Version, Version], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_CLAUSE = re.compile(r"\s*(>=|<=|==|>|<)\s*(\d+(?:\.\d+)*)\s*\Z")


def parse_version(text: str) -> Version:
    """The leading numbers: "3.11.2" is (3, 11, 2). Raises ValueError where there are none."""
    match = re.match(r"\d+(?:\.\d+)*", text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a version")
    return tuple(int(part) for part in match.group(0).split("."))


def version_in_range(version: str, allowed: str) -> bool:
    """Whether "3.11" lies in a range such as ">=3.10,<3.14". Only as many parts are compared as the range names."""
    have = parse_version(version)
    for clause in filter(None, allowed.split(",")):
        match = _CLAUSE.match(clause)
        if not match:
            raise ValueError(f"{clause!r} is not a version range such as >=3.10,<3.14")
        bound = parse_version(match.group(2))
        if not _OPERATORS[match.group(1)](have[: len(bound)], bound):
            return False
    return True


def installer_environment(
    ca_bundle: str | None = None,
    index_url: str | None = None,
    find_links: str | None = None,
    proxy_url: str | None = None,
    no_proxy: str | None = None,
    python_mirror: str | None = None,
    python_dir: str | None = None,
) -> dict[str, str]:
    """The variables by which pip and uv take a CA bundle, an index, a mirror and a proxy. Unset ones are left to the host."""
    pairs = {
        "SSL_CERT_FILE": ca_bundle,
        "PIP_CERT": ca_bundle,
        "UV_DEFAULT_INDEX": index_url,
        "PIP_INDEX_URL": index_url,
        "UV_FIND_LINKS": find_links,
        "PIP_FIND_LINKS": find_links,
        "HTTP_PROXY": proxy_url,
        "HTTPS_PROXY": proxy_url,
        "NO_PROXY": no_proxy,
        "UV_PYTHON_INSTALL_MIRROR": python_mirror,
        "UV_PYTHON_INSTALL_DIR": python_dir,
    }
    return {name: value for name, value in pairs.items() if value}
