# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.selfhosted.llm.plugins.module_utils.python_app import installer_environment, parse_version, version_in_range


@pytest.mark.parametrize(
    ("text", "version"), [("3.11.2", (3, 11, 2)), ("3", (3,)), (" 3.13.0rc1 ", (3, 13, 0)), ("3.12+deb", (3, 12)), ("3.9", (3, 9))]
)
def test_parse_version(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize("text", ["", "python3.11", "v3", "."])
def test_not_a_version(text: str) -> None:
    with pytest.raises(ValueError, match="is not a version"):
        parse_version(text)


@pytest.mark.parametrize(
    ("version", "allowed", "expected"),
    [
        ("3.11", ">=3.10,<3.14", True),
        ("3.10", ">=3.10,<3.14", True),
        ("3.13.7", ">=3.10,<3.14", True),
        ("3.14", ">=3.10,<3.14", False),
        ("3.14.0", ">=3.10,<3.14", False),
        ("3.9.20", ">=3.10,<3.14", False),
        # Numbers, not text.
        ("3.9", ">=3.10", False),
        ("3.100", ">=3.10", True),
        ("3.12.1", "==3.12", True),
        ("3.12", "<=3.12", True),
        ("3.12.9", "<=3.12", True),
        ("3.12", ">3.12", False),
        ("3.13", ">3.12", True),
        ("3.11.1", ">=3.11.2", False),
        ("2.7", "", True),
        ("3.12", " >= 3.10 , < 3.13 ", True),
    ],
)
def test_version_in_range(version: str, allowed: str, expected: bool) -> None:
    assert version_in_range(version, allowed) is expected


@pytest.mark.parametrize("allowed", ["3.10", "~=3.10", "!=3.11", ">=three", ">=3.10<3.14", ">=3.10 or so"])
def test_not_a_range(allowed: str) -> None:
    with pytest.raises(ValueError, match="is not a version range such as"):
        version_in_range("3.11", allowed)


def test_installer_environment() -> None:
    assert installer_environment() == {}
    assert installer_environment(ca_bundle="", proxy_url="") == {}
    assert installer_environment(ca_bundle="/ca.pem") == {"SSL_CERT_FILE": "/ca.pem", "PIP_CERT": "/ca.pem"}
    assert installer_environment("/ca", "https://index", "/wheels", "http://proxy", "localhost", "https://mirror", "/python") == {
        "SSL_CERT_FILE": "/ca",
        "PIP_CERT": "/ca",
        "UV_DEFAULT_INDEX": "https://index",
        "PIP_INDEX_URL": "https://index",
        "UV_FIND_LINKS": "/wheels",
        "PIP_FIND_LINKS": "/wheels",
        "HTTP_PROXY": "http://proxy",
        "HTTPS_PROXY": "http://proxy",
        "NO_PROXY": "localhost",
        "UV_PYTHON_INSTALL_MIRROR": "https://mirror",
        "UV_PYTHON_INSTALL_DIR": "/python",
    }
