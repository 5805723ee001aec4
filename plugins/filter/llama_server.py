# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that check llama_server_servers, and turn it into units."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.selfhosted.llm.plugins.plugin_utils import llama_server as lists


def _read(function: t.Callable[..., t.Any], *arguments: t.Any) -> t.Any:
    try:
        return function(*arguments)
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise AnsibleFilterError(f"{lists.VARIABLE} cannot be read, llama_server_problems says why: {exc!r}") from exc


def llama_servers(
    servers: t.Any,
    models_dir: str = lists.MODELS_DIR,
    gpu_variable: str = "CUDA_VISIBLE_DEVICES",
    bind_address: str = "127.0.0.1",
    environment: t.Any = None,
) -> t.Any:
    return _read(lists.servers, servers, models_dir, gpu_variable, bind_address, environment)


def llama_model_files(servers: t.Any, models_dir: str = lists.MODELS_DIR, files: t.Any = None) -> t.Any:
    return _read(lists.downloads, servers, models_dir, files)


def llama_server_keys(servers: t.Any) -> t.Any:
    return _read(lists.keys, servers)


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "llama_servers": llama_servers,
            "llama_model_files": llama_model_files,
            "llama_server_keys": llama_server_keys,
            "llama_server_problems": lists.problems,
        }
