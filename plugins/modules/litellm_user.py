#!/usr/bin/python
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litellm_user
short_description: Users of a LiteLLM gateway
version_added: 0.1.0
author: The selfhosted.llm contributors (@selfhosted)
description:
  - Makes the users of a LiteLLM gateway what the list says, in one call. Users that are not listed are left alone.
  - What a listed user has beyond the list is taken away. Only O(users[].metadata), O(users[].user_role), O(users[].user_email) and
    O(users[].user_alias) are left as they are where they are not written.
  - Teams have members, see M(selfhosted.llm.litellm_team); a key has a user, see M(selfhosted.llm.litellm_key).
extends_documentation_fragment:
  - selfhosted.llm.litellm
  - selfhosted.llm.litellm.reconcile
options:
  users:
    description: The users.
    type: list
    elements: dict
    default: []
    suboptions:
      user_id:
        description: ID of the user.
        type: str
        required: true
      state:
        description: Whether the gateway should have the user. LiteLLM deletes the keys of a user together with the user.
        type: str
        choices: [present, absent]
        default: present
      user_email:
        description: E-mail address. LiteLLM takes each one once.
        type: str
      user_alias:
        description: Name to show.
        type: str
      user_role:
        description: >-
          What the user may do in the dashboard. V(internal_user) sees and makes own keys, V(internal_user_viewer) sees them,
          V(proxy_admin_viewer) sees everything, V(proxy_admin) may do everything.
        type: str
        choices: [proxy_admin, proxy_admin_viewer, internal_user, internal_user_viewer]
      models:
        description: >-
          Models that keys of the user without a team may use, by the names that clients ask for. An empty list means all.
        type: list
        elements: str
        default: []
      max_budget:
        description: >-
          What all keys of the user that have no team together may spend in each O(users[].budget_duration), or ever.
        type: float
      budget_duration:
        description: After which time O(users[].max_budget) is available again, such as V(1d), V(7d) or V(30d).
        type: str
      tpm_limit:
        description: Tokens a minute of all keys of the user together. V(0) admits nothing; without it there is no limit.
        type: int
      rpm_limit:
        description: Requests a minute of all keys of the user together. V(0) admits nothing; without it there is no limit.
        type: int
      metadata:
        description: Data of your own. V({}) removes it all.
        type: dict
seealso:
  - module: selfhosted.llm.litellm_team
  - module: selfhosted.llm.litellm_key
"""

EXAMPLES = r"""
- name: Users
  selfhosted.llm.litellm_user:
    url: http://127.0.0.1:4000
    master_key: "{{ litellm_proxy_master_key }}"
    users:
      - user_id: alice
        user_email: alice@example.org
        user_role: internal_user
        max_budget: 5
        budget_duration: 30d
      - user_id: bob
        state: absent
"""

RETURN = r"""
users:
  description: What happened to each user of the list.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: ID of the user.
      type: str
    action:
      description: What was done, or would be in check mode.
      type: str
      choices: [none, created, updated, deleted, failed]
requests:
  description: How many requests it took.
  returned: always
  type: int
errors:
  description: Each failure, with the layer it happened in.
  returned: failure
  type: list
  elements: dict
  contains:
    name:
      description: ID of the user, if it is about one.
      type: str
    layer:
      description: Layer at fault.
      type: str
      choices: [refused, dns, timeout, tls, protocol, auth, model, backend, database, declaration]
    message:
      description: What went wrong.
      type: str
    status:
      description: HTTP status, if there was one.
      type: int
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhosted.llm.plugins.module_utils import http as api
from ansible_collections.selfhosted.llm.plugins.module_utils import litellm_values as values
from ansible_collections.selfhosted.llm.plugins.module_utils.litellm_api import Gateway, connect, connection_spec
from ansible_collections.selfhosted.llm.plugins.module_utils.litellm_reconcile import (
    CREATED,
    DELETED,
    NONE,
    UPDATED,
    RefusedError,
    Step,
    checked,
    differences,
    fail,
    finish,
    not_there_yet,
    run_steps,
    unique,
    without_nothing,
)

_OPTIONAL = ("user_email", "user_alias", "user_role")


def label(item: dict[str, t.Any]) -> str:
    return str(item["user_id"])


def email(value: t.Any) -> str | None:
    """LiteLLM tells addresses apart without regard to case."""
    found = values.text(value)
    return found.strip().lower() if found else None


def wanted(item: dict[str, t.Any]) -> dict[str, t.Any]:
    """The attributes of a declared user, as `current` writes those of an existing one."""
    name = label(item)
    found: dict[str, t.Any] = {
        "models": values.models(item["models"]),
        "max_budget": values.money(item["max_budget"]),
        "budget_duration": checked(name, values.duration, item["budget_duration"]),
        "tpm_limit": item["tpm_limit"],
        "rpm_limit": item["rpm_limit"],
    }
    for option in _OPTIONAL:
        if item[option] is not None:
            found[option] = email(item[option]) if option == "user_email" else values.text(item[option])
    if item["metadata"] is not None:
        found["metadata"] = values.metadata(item["metadata"])
    return found


def current(user: dict[str, t.Any]) -> dict[str, t.Any]:
    return {
        "models": values.models(user.get("models")),
        "max_budget": values.money(user.get("max_budget")),
        "budget_duration": values.stored_duration(user.get("budget_duration")),
        "tpm_limit": values.whole(user.get("tpm_limit")),
        "rpm_limit": values.whole(user.get("rpm_limit")),
        "user_email": email(user.get("user_email")),
        "user_alias": values.text(user.get("user_alias")),
        "user_role": values.text(user.get("user_role")),
        "metadata": values.metadata(user.get("metadata")),
    }


class Users:
    def __init__(self, gateway: Gateway, existing: t.Sequence[dict[str, t.Any]]) -> None:
        self.gateway = gateway
        self.by_id = {str(user["user_id"]): user for user in existing}
        self.by_email = {email(user.get("user_email")): str(user["user_id"]) for user in existing}

    def plan(self, item: dict[str, t.Any], leaving: t.Container[str]) -> Step:
        name = label(item)
        user = self.by_id.get(name)
        if item["state"] == "absent":
            if user is None:
                return Step(name, NONE)
            return Step(name, DELETED, "present", "absent", lambda: self.delete(name))
        want = wanted(item)
        holder = self.by_email.get(want.get("user_email")) if want.get("user_email") else None
        if holder not in (None, name) and holder not in leaving:
            raise RefusedError(
                name, f"the gateway has {want['user_email']} as the address of {holder}: correct user_email, or remove that user"
            )
        if user is None:
            return Step(name, CREATED, "absent", without_nothing(want), lambda: self.create(name, want))
        before, after = differences(want, current(user))
        if not after:
            return Step(name, NONE)
        return Step(name, UPDATED, before, after, lambda: self.update(user, after))

    def delete(self, user_id: str) -> None:
        self.gateway.post("/user/delete", {"user_ids": [user_id]})

    def create(self, user_id: str, want: dict[str, t.Any]) -> None:
        payload = {name: value for name, value in want.items() if value is not None}
        # Keys are declared on their own.
        self.gateway.post("/user/new", {"user_id": user_id, "auto_create_key": False, **payload})

    def update(self, user: dict[str, t.Any], after: dict[str, t.Any]) -> None:
        payload = dict(after)
        # LiteLLM ignores an emptied list or mapping in the update of a user: it takes the name of "all", and entries without a value.
        if payload.get("models") == []:
            payload["models"] = [values.ALL_MODELS]
        if "metadata" in payload:
            gone = dict.fromkeys(user.get("metadata") or {}) if not payload["metadata"] else {}
            payload["metadata"] = {**gone, **values.reserved(user.get("metadata")), **payload["metadata"]}
        if "user_alias" in payload and payload["user_alias"] is None:
            payload["user_alias"] = ""
        self.gateway.post("/user/update", {"user_id": user["user_id"], **payload})


def argument_spec() -> dict[str, t.Any]:
    user = {
        "user_id": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "user_email": {"type": "str"},
        "user_alias": {"type": "str"},
        "user_role": {"type": "str", "choices": ["proxy_admin", "proxy_admin_viewer", "internal_user", "internal_user_viewer"]},
        "models": {"type": "list", "elements": "str", "default": []},
        "max_budget": {"type": "float"},
        "budget_duration": {"type": "str"},
        "tpm_limit": {"type": "int"},
        "rpm_limit": {"type": "int"},
        "metadata": {"type": "dict"},
    }
    return {
        **connection_spec(),
        "concurrency": {"type": "int", "default": 8},
        "users": {"type": "list", "elements": "dict", "default": [], "options": user},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    items = module.params["users"]
    try:
        unique(items, label)
        gateway = connect(module.params)
        try:
            existing = gateway.users() if items else []
        except api.ApiError as exc:
            if not not_there_yet(module, exc):
                raise
            existing = []
        users = Users(gateway, existing)
        leaving = {label(item) for item in items if item["state"] == "absent"}
        steps = [users.plan(item, leaving) for item in items]
    except (RefusedError, api.ApiError) as exc:
        fail(module, exc)
        return
    if not module.check_mode:
        run_steps(gateway, steps)
    finish(module, gateway, "users", steps)


if __name__ == "__main__":
    main()
