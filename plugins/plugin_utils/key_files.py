# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files on the controller that hold one secret each: mode 0600, replaced atomically, encrypted with the vault on request."""

from __future__ import annotations

import os
import re
import stat
import tempfile
import typing as t

from ansible.errors import AnsibleError
from ansible.parsing.vault import AnsibleVaultError, VaultLib, is_encrypted, match_encrypt_secret

_FILE_NAME = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9_.@+-]*")


class KeyFileError(Exception):
    """What is wrong with a file, and what to do."""


def file_in(directory: str, name: str) -> str:
    """The file of a key in a folder for all of them."""
    if not _FILE_NAME.fullmatch(name):
        raise KeyFileError(f"{name}: such a name cannot be that of a file in key_directory. Give the key a key_file")
    return os.path.join(directory, f"{name}.key")


class KeyFiles:
    """Reads and writes files of keys. `secrets` are the vault passwords that Ansible was given."""

    def __init__(self, secrets: t.Sequence[t.Any], encrypt: bool, vault_id: str | None = None) -> None:
        self._vault = VaultLib(list(secrets))
        self._encrypt = encrypt
        self._vault_id = vault_id
        if encrypt:
            self._secret()

    def _secret(self) -> tuple[str, t.Any]:
        if not self._vault.secrets:
            raise KeyFileError(
                "encrypt_key_files: Ansible was given no vault password. "
                "Set ANSIBLE_VAULT_PASSWORD_FILE, or run it with --vault-password-file"
            )
        try:
            return t.cast("tuple[str, t.Any]", match_encrypt_secret(self._vault.secrets, self._vault_id))
        except AnsibleError as exc:
            raise KeyFileError(f"vault_id {self._vault_id}: {exc}") from exc

    def read(self, path: str) -> str | None:
        """The value in a file, or None where there is no file."""
        try:
            with open(path, "rb") as file:
                content = file.read()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise KeyFileError(f"{path}: {exc.strerror}") from exc
        if is_encrypted(content):
            try:
                content = self._vault.decrypt(content)
            except (AnsibleVaultError, AnsibleError) as exc:
                raise KeyFileError(f"{path}: it is encrypted, and no vault password that Ansible was given decrypts it") from exc
        value = content.decode("utf-8", "replace").strip()
        if not value:
            raise KeyFileError(f"{path}: it is empty. Remove it, or put the key there")
        return value

    def needs_care(self, path: str) -> bool:
        """Is an existing file open to others, or plain where it should be encrypted?"""
        if stat.S_IMODE(os.stat(path).st_mode) & 0o077:
            return True
        if not self._encrypt:
            return False
        with open(path, "rb") as file:
            return not is_encrypted(file.read())

    def check_writable(self, path: str) -> None:
        """Before a value is generated, which would otherwise be lost."""
        folder = os.path.dirname(path)
        while not os.path.isdir(folder) and folder != os.path.dirname(folder):
            folder = os.path.dirname(folder)
        if not os.access(folder, os.W_OK):
            raise KeyFileError(f"{path}: this user may not write to {folder}")

    def write(self, path: str, value: str) -> None:
        content = f"{value}\n".encode()
        if self._encrypt:
            label, secret = self._secret()
            # The default label stays out of the header, as ansible-vault leaves it.
            content = self._vault.encrypt(content, secret, None if label == "default" else label)
        folder = os.path.dirname(path)
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            # mkstemp makes it readable by its owner only.
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=".key-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as exc:
            raise KeyFileError(f"{path}: {exc.strerror}") from exc
