# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.selfhosted.llm.plugins.plugin_utils.names import SERVICE, misspelt, role_variables

ROOT = Path(__file__).resolve().parents[4]
# Read by the playbooks and the roles, and no variables: names of files and of what is registered.
OTHERS = {"llm_tunnel_check"}


def names_in(*folders: str) -> set[str]:
    paths = [path for folder in folders for path in ROOT.glob(folder)]
    assert paths
    text = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    return set(re.findall(r"(?<![\w.-])(?:llm_\w+|litellm_(?:keys|teams|tiers|users)\b)", text)) - OTHERS


def test_the_list_has_what_playbooks_and_roles_read() -> None:
    assert names_in("playbooks/**/*.yml", "roles/*/defaults/*.yml", "roles/*/vars/*.yml", "roles/*/tasks/*.yml") - SERVICE == set()


def test_the_list_has_nothing_that_nobody_reads() -> None:
    read = names_in("playbooks/**/*.yml", "roles/*/defaults/*.yml", "plugins/plugin_utils/*.py", "plugins/filter/*.py")
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "plugins/plugin_utils").glob("*.py") if path.name != "names.py")
    assert [name for name in SERVICE if name not in read and f'"{name}"' not in text] == []


def test_each_role_has_variables() -> None:
    roles = role_variables()
    assert {"litellm_proxy", "ollama_backend", "open_webui"} <= set(roles)
    assert all(name.startswith(f"{role}_") for role, names in roles.items() for name in names)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("llm_servers_vai", "Did you mean llm_servers_via?"),
        ("llm_adress", "Did you mean llm_address?"),
        ("litellm_kyes", "Did you mean litellm_keys?"),
        ("ollama_backend_paralel", "Did you mean ollama_backend_parallel?"),
        ("gateway_store_redis_pasword", "Did you mean gateway_store_redis_password?"),
        ("ssh_tunnel_something_else_entirely", "The README of role ssh_tunnel lists those it has."),
    ],
)
def test_a_name_that_is_none(name: str, words: str) -> None:
    (found,) = misspelt({"all": ["a", "b"], "llm": ["a"]}, {"a": {name: 1}, "b": {name: 1}})
    assert found == f"{name} (a and 1 more) is no variable of the collection. {words}"


def test_names_of_the_operators_own() -> None:
    own = {"llm_rack": 1, "my_llm_adress": 1, "ansible_host": "a", "llm_models": [], "litellm_proxy_port": 1}
    assert misspelt({"all": ["a"]}, {"a": own}) == []


def given_names(text: str) -> t.Iterator[str]:
    """The variables of a file of variables, or of a molecule.yml."""
    data = yaml.safe_load(re.sub(r"!vault", "", text)) or {}
    inventory = data.get("provisioner", {}).get("inventory", {}) if "provisioner" in data else None
    folders = [inventory.get(name) or {} for name in ("group_vars", "host_vars")] if inventory is not None else [{"": data}]
    for folder in folders:
        for values in folder.values():
            yield from values


FILES = sorted(
    [
        *ROOT.glob("inventories/**/group_vars/**/*.yml"),
        *ROOT.glob("inventories/**/host_vars/**/*.yml"),
        *ROOT.glob("molecule/*/molecule.yml"),
    ]
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_of_ours_is_refused(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if not text.startswith("$ANSIBLE_VAULT"):
        assert misspelt({"all": ["a"]}, {"a": dict.fromkeys(given_names(text))}) == []
