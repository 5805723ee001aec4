# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from ansible.parsing.vault import VaultSecret

from ansible_collections.selfhosted.llm.plugins.plugin_utils.key_files import KeyFileError, KeyFiles, file_in

SECRETS = [("default", VaultSecret(b"one")), ("ops", VaultSecret(b"two"))]


def test_plain(tmp_path: Path) -> None:
    files = KeyFiles([], encrypt=False)
    path = tmp_path / "new" / "a.key"
    assert files.read(str(path)) is None
    files.write(str(path), "sk-value")
    assert path.read_text() == "sk-value\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert files.read(str(path)) == "sk-value"
    assert not files.needs_care(str(path))
    assert [entry.name for entry in path.parent.iterdir()] == ["a.key"]
    path.chmod(0o640)
    assert files.needs_care(str(path))


def test_encrypted(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    path.write_text("sk-value\n")
    path.chmod(0o600)
    files = KeyFiles(SECRETS, encrypt=True)
    assert files.needs_care(str(path))
    files.write(str(path), "sk-value")
    assert path.read_text().startswith("$ANSIBLE_VAULT;1.1;AES256")
    assert not files.needs_care(str(path))
    assert files.read(str(path)) == "sk-value"
    # Whether new files are to be encrypted says nothing about those that are there.
    assert KeyFiles(SECRETS, encrypt=False).read(str(path)) == "sk-value"


def test_the_label_of_a_password(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    KeyFiles(SECRETS, encrypt=True, vault_id="ops").write(str(path), "sk-value")
    assert path.read_text().startswith("$ANSIBLE_VAULT;1.2;AES256;ops")
    assert KeyFiles(SECRETS[1:], encrypt=False).read(str(path)) == "sk-value"
    with pytest.raises(KeyFileError, match="no vault password"):
        KeyFiles(SECRETS[:1], encrypt=False).read(str(path))
    with pytest.raises(KeyFileError, match="vault_id nobody"):
        KeyFiles(SECRETS, encrypt=True, vault_id="nobody")


def test_no_password() -> None:
    with pytest.raises(KeyFileError, match="ANSIBLE_VAULT_PASSWORD_FILE"):
        KeyFiles([], encrypt=True)


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "a.key").write_text("\n")
    with pytest.raises(KeyFileError, match="it is empty"):
        KeyFiles([], encrypt=False).read(str(tmp_path / "a.key"))


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyFileError):
        KeyFiles([], encrypt=False).write(str(tmp_path / "file" / "a.key"), "sk-value")


def test_names() -> None:
    assert file_in("keys", "alice@example.org") == "keys/alice@example.org.key"
    for name in ("a/b", "..", ".hidden", "a b", ""):
        with pytest.raises(KeyFileError, match="Give the key a key_file"):
            file_in("keys", name)
