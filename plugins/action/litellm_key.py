# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import secrets
import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.selfhosted.llm.plugins.plugin_utils.key_files import KeyFileError, KeyFiles, file_in

# What concerns the controller only; the module gets values.
_HERE = ("key_directory", "encrypt_key_files", "vault_id")


def truthy(value: t.Any) -> bool:
    return value is True or str(value).strip().lower() in ("true", "yes", "on", "1", "y", "t")


class ActionModule(ActionBase):
    """Keeps values of keys in files of the controller: reads them, and generates those that are missing.

    A value is written before the gateway gets it, so none is lost on the way.
    """

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        del tmp
        try:
            return self._reconcile(task_vars)
        except KeyFileError as exc:
            error = {"name": None, "layer": "declaration", "message": str(exc), "status": None}
            return {"failed": True, "changed": False, "msg": str(exc), "errors": [error]}
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)

    def _reconcile(self, task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        arguments = {name: value for name, value in self._task.args.items() if name not in _HERE}
        items = arguments.get("keys")
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            return self._module(arguments, task_vars)  # which says what is wrong
        paths = self._paths(items)
        if not paths:
            return self._module(arguments, task_vars)
        files = KeyFiles(self._loader._vault.secrets, truthy(self._task.args.get("encrypt_key_files")), self._task.args.get("vault_id"))

        rotate = [str(name) for name in arguments.get("rotate") or []]
        found = {name: files.read(path) for name, path in paths.items()}
        missing = [name for name, value in found.items() if value is None or name in rotate]
        care = [name for name, value in found.items() if value is not None and files.needs_care(paths[name])]
        known = {name: value for name, value in found.items() if value is not None and name not in rotate}

        new: dict[str, str] = {}
        if missing:
            planned = self._plan({**arguments, "keys": self._filled(items, known), "supplied": missing}, task_vars)
            due = [name for name in planned.get("to_generate") or [] if name in paths]
            self._warn_of_unknown(planned, missing, due, rotate, paths)
            if self._task.check_mode or planned.get("failed"):
                return self._with_files(planned, [paths[name] for name in due + care])
            for name in due:
                files.check_writable(paths[name])
            for name in due:
                new[name] = f"sk-{secrets.token_urlsafe(32)}"
                files.write(paths[name], new[name])
            if not due and not planned.get("changed"):
                return self._with_files(planned, self._tidy(files, paths, care, known))
        left = [name for name in rotate if name not in paths]
        result = self._module({**arguments, "keys": self._filled(items, {**known, **new}), "rotate": left}, task_vars)
        if self._task.check_mode:
            return self._with_files(result, [paths[name] for name in care])
        return self._with_files(result, [paths[name] for name in new] + self._tidy(files, paths, care, known))

    def _paths(self, items: t.Sequence[dict[str, t.Any]]) -> dict[str, str]:
        """The file of each present key that has one."""
        directory = self._task.args.get("key_directory")
        paths: dict[str, str] = {}
        for item in items:
            name = str(item.get("key_alias") or "")
            if not name or item.get("state", "present") != "present" or item.get("key"):
                continue
            path = item.get("key_file") or (file_in(str(directory), name) if directory else None)
            if path:
                paths[name] = os.path.abspath(os.path.expanduser(str(path)))
        shared = [path for path in paths.values() if list(paths.values()).count(path) > 1] if len(set(paths.values())) < len(paths) else []
        if shared:
            raise KeyFileError(f"{shared[0]}: two keys have this file. Give each one of its own")
        return paths

    @staticmethod
    def _filled(items: t.Sequence[dict[str, t.Any]], known: t.Mapping[str, str]) -> list[dict[str, t.Any]]:
        """The items without names of files, and with the values that are known."""
        filled = []
        for item in items:
            plain = {name: value for name, value in item.items() if name != "key_file" or item.get("key")}
            if item.get("key_alias") in known:
                plain["key"] = known[item["key_alias"]]
            filled.append(plain)
        return filled

    def _module(self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", self._execute_module(module_args=arguments, task_vars=task_vars))

    def _plan(self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        """The module in check mode: it tells which keys the gateway does not have, and whether there is anything to do."""
        before = self._task.check_mode
        self._task.check_mode = True
        try:
            return self._module(arguments, task_vars)
        finally:
            self._task.check_mode = before

    @staticmethod
    def _tidy(files: KeyFiles, paths: t.Mapping[str, str], names: t.Sequence[str], known: t.Mapping[str, str]) -> list[str]:
        for name in names:
            if name in known:
                files.write(paths[name], known[name])
        return [paths[name] for name in names if name in known]

    @staticmethod
    def _with_files(result: dict[str, t.Any], written: t.Sequence[str]) -> dict[str, t.Any]:
        unique = sorted(set(written))
        return {**result, "key_files": unique, "changed": bool(result.get("changed") or unique)}

    def _warn_of_unknown(
        self,
        planned: dict[str, t.Any],
        missing: t.Sequence[str],
        due: t.Sequence[str],
        rotate: t.Sequence[str],
        paths: t.Mapping[str, str],
    ) -> None:
        if planned.get("failed"):
            return
        unknown = [name for name in missing if name not in due and name not in rotate]
        if unknown:
            planned.setdefault("warnings", []).append(
                f"The gateway has these keys, but their files are not here, so their values are not known: {', '.join(unknown[:10])}"
                f"{' …' if len(unknown) > 10 else ''}. Bring {paths[unknown[0]]} back, or name them in rotate."
            )
