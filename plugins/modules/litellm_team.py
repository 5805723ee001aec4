#!/usr/bin/python
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litellm_team
short_description: Teams of a LiteLLM gateway
version_added: 0.1.0
author: The selfhosted.llm contributors (@selfhosted)
description:
  - Makes the teams of a LiteLLM gateway what the list says, in one call. Teams that are not listed are left alone.
  - What a listed team has beyond the list is taken away. Only O(teams[].metadata), O(teams[].blocked) and O(teams[].members), which have a
    value for "nothing", are left as they are where they are not written.
extends_documentation_fragment:
  - selfhosted.llm.litellm
  - selfhosted.llm.litellm.reconcile
options:
  teams:
    description: The teams.
    type: list
    elements: dict
    default: []
    suboptions:
      team_alias:
        description:
          - Name of the team. A team that has another ID is found by it, as long as no two have the same name.
          - Required unless O(teams[].team_id) is given.
        type: str
      team_id:
        description: ID of the team. The default for a new team is its name.
        type: str
      state:
        description: Whether the gateway should have it. LiteLLM deletes the keys of a team together with it.
        type: str
        choices: [present, absent]
        default: present
      models:
        description: Models that the team may use, by the names that clients ask for. An empty list means all.
        type: list
        elements: str
        default: []
      max_budget:
        description: What all keys of the team together may spend in each O(teams[].budget_duration), or ever.
        type: float
      budget_duration:
        description: >-
          After which time O(teams[].max_budget) is available again, such as V(1d), V(7d) or V(30d). LiteLLM resets V(1d) at midnight, V(7d)
          on Mondays and V(30d) on the first of the month.
        type: str
      budget_limits:
        description: Further budgets that hold at the same time.
        type: list
        elements: dict
        default: []
        suboptions:
          budget_duration:
            description: As O(teams[].budget_duration).
            type: str
            required: true
          max_budget:
            description: As O(teams[].max_budget).
            type: float
            required: true
      tpm_limit:
        description: Tokens a minute of all keys of the team together. V(0) admits nothing; without it there is no limit.
        type: int
      rpm_limit:
        description: Requests a minute of all keys of the team together. V(0) admits nothing; without it there is no limit.
        type: int
      blocked:
        description: Whether the gateway refuses all keys of the team.
        type: bool
      metadata:
        description: Data of your own. V({}) removes it all.
        type: dict
      members:
        description:
          - The users of the team. Users that do not exist are made.
          - The user that stands for the master key, which LiteLLM adds by itself, is not counted.
        type: list
        elements: dict
        suboptions:
          user_id:
            description: ID of the user.
            type: str
            required: true
          role:
            description: Role in the team. LiteLLM takes V(admin) from its enterprise users only.
            type: str
            choices: [user, admin]
            default: user
seealso:
  - module: selfhosted.llm.litellm_user
  - module: selfhosted.llm.litellm_key
"""

EXAMPLES = r"""
- name: Teams
  selfhosted.llm.litellm_team:
    url: http://127.0.0.1:4000
    master_key: "{{ litellm_proxy_master_key }}"
    teams:
      - team_alias: research
        models: [phi3-3.8b, embed]
        max_budget: 20
        budget_duration: 30d
        rpm_limit: 600
        members:
          - user_id: alice
      - team_alias: interns
        state: absent
"""

RETURN = r"""
teams:
  description: What happened to each team of the list.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the team.
      type: str
    team_id:
      description: Its ID.
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
      description: Name of the team, if it is about one.
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

# LiteLLM makes the user of the master key a member of every team.
MASTER_USER = "default_user_id"


def label(item: dict[str, t.Any]) -> str:
    return str(item.get("team_alias") or item["team_id"])


def wanted(item: dict[str, t.Any]) -> dict[str, t.Any]:
    """The attributes of a declared team, as `current` writes those of an existing one."""
    name = label(item)
    found: dict[str, t.Any] = {
        "team_alias": name,
        "models": values.models(item["models"]),
        "max_budget": values.money(item["max_budget"]),
        "budget_duration": checked(name, values.duration, item["budget_duration"]),
        "budget_limits": values.windows(
            [{**window, "budget_duration": checked(name, values.duration, window["budget_duration"])} for window in item["budget_limits"]]
        ),
        "tpm_limit": item["tpm_limit"],
        "rpm_limit": item["rpm_limit"],
    }
    if item["blocked"] is not None:
        found["blocked"] = item["blocked"]
    if item["metadata"] is not None:
        found["metadata"] = values.metadata(item["metadata"])
    if item["members"] is not None:
        found["members"] = {member["user_id"]: member["role"] for member in item["members"]}
    return found


def current(team: dict[str, t.Any], keep_master: bool) -> dict[str, t.Any]:
    return {
        "team_alias": team.get("team_alias"),
        "models": values.models(team.get("models")),
        "max_budget": values.money(team.get("max_budget")),
        "budget_duration": values.stored_duration(team.get("budget_duration")),
        "budget_limits": values.windows(team.get("budget_limits")),
        "tpm_limit": values.whole(team.get("tpm_limit")),
        "rpm_limit": values.whole(team.get("rpm_limit")),
        "blocked": bool(team.get("blocked")),
        "metadata": values.metadata(team.get("metadata")),
        "members": {
            member["user_id"]: member.get("role") or "user"
            for member in team.get("members_with_roles") or []
            if member.get("user_id") and (keep_master or member["user_id"] != MASTER_USER)
        },
    }


class Teams:
    def __init__(self, gateway: Gateway, existing: t.Sequence[dict[str, t.Any]]) -> None:
        self.gateway = gateway
        self.by_id = {str(team["team_id"]): team for team in existing}
        self.by_alias: dict[str, list[dict[str, t.Any]]] = {}
        for team in existing:
            self.by_alias.setdefault(str(team.get("team_alias")), []).append(team)

    def find(self, item: dict[str, t.Any]) -> dict[str, t.Any] | None:
        if item["team_id"]:
            return self.by_id.get(item["team_id"])
        named = self.by_alias.get(item["team_alias"], [])
        if len(named) > 1:
            ids = ", ".join(sorted(str(team["team_id"]) for team in named))
            raise RefusedError(item["team_alias"], f"{len(named)} teams of the gateway have this name: say which one by team_id ({ids})")
        return named[0] if named else self.by_id.get(item["team_alias"])

    def plan(self, item: dict[str, t.Any]) -> Step:
        name, team = label(item), self.find(item)
        if item["state"] == "absent":
            if team is None:
                return Step(name, NONE, facts={"team_id": item["team_id"]})
            team_id = team["team_id"]
            return Step(name, DELETED, "present", "absent", lambda: self.delete(team_id), {"team_id": team_id})
        want = wanted(item)
        if team is None:
            team_id = item["team_id"] or name
            return Step(name, CREATED, "absent", without_nothing(want), lambda: self.create(team_id, want), {"team_id": team_id})
        team_id = team["team_id"]
        have = current(team, keep_master=MASTER_USER in want.get("members", {}))
        before, after = differences(want, have)
        if not after:
            return Step(name, NONE, facts={"team_id": team_id})
        return Step(name, UPDATED, before, after, lambda: self.update(team, before, after), {"team_id": team_id})

    def delete(self, team_id: str) -> None:
        self.gateway.post("/team/delete", {"team_ids": [team_id]})

    def create(self, team_id: str, want: dict[str, t.Any]) -> None:
        payload = {name: value for name, value in want.items() if value is not None and name != "members"}
        if not payload["budget_limits"]:
            del payload["budget_limits"]
        if want.get("members"):
            payload["members_with_roles"] = [{"user_id": user, "role": role} for user, role in want["members"].items()]
        self.gateway.post("/team/new", {"team_id": team_id, **payload})

    def update(self, team: dict[str, t.Any], before: dict[str, t.Any], after: dict[str, t.Any]) -> None:
        team_id = team["team_id"]
        payload = {name: value for name, value in after.items() if name != "members"}
        if "metadata" in payload:
            payload["metadata"] = {**values.reserved(team.get("metadata")), **payload["metadata"]}
        if payload:
            self.gateway.post("/team/update", {"team_id": team_id, **payload})
        if "members" in after:
            self.update_members(team_id, before["members"], after["members"])

    def update_members(self, team_id: str, before: dict[str, str], after: dict[str, str]) -> None:
        new = [{"user_id": user, "role": role} for user, role in after.items() if user not in before]
        if new:
            self.gateway.post("/team/member_add", {"team_id": team_id, "member": new})
        for user, role in after.items():
            if before.get(user, role) != role:
                self.gateway.post("/team/member_update", {"team_id": team_id, "user_id": user, "role": role})
        for user in before:
            if user not in after:
                self.gateway.post("/team/member_delete", {"team_id": team_id, "user_id": user})


def argument_spec() -> dict[str, t.Any]:
    window = {"budget_duration": {"type": "str", "required": True}, "max_budget": {"type": "float", "required": True}}
    member = {"user_id": {"type": "str", "required": True}, "role": {"type": "str", "choices": ["user", "admin"], "default": "user"}}
    team = {
        "team_alias": {"type": "str"},
        "team_id": {"type": "str"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "models": {"type": "list", "elements": "str", "default": []},
        "max_budget": {"type": "float"},
        "budget_duration": {"type": "str"},
        "budget_limits": {"type": "list", "elements": "dict", "default": [], "options": window},
        "tpm_limit": {"type": "int"},
        "rpm_limit": {"type": "int"},
        "blocked": {"type": "bool"},
        "metadata": {"type": "dict"},
        "members": {"type": "list", "elements": "dict", "options": member},
    }
    return {
        **connection_spec(),
        "concurrency": {"type": "int", "default": 8},
        "teams": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": team,
            "required_one_of": [("team_alias", "team_id")],
        },
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    items = module.params["teams"]
    try:
        unique(items, label)
        gateway = connect(module.params)
        try:
            existing = gateway.teams() if items else []
        except api.ApiError as exc:
            if not not_there_yet(module, exc):
                raise
            existing = []
        teams = Teams(gateway, existing)
        steps = [teams.plan(item) for item in items]
        taken: dict[str, str] = {}
        for step in steps:
            other = taken.setdefault(str(step.facts["team_id"]), step.name)
            if other != step.name:
                raise RefusedError(step.name, f"it is the same team as {other}: list it once")
    except (RefusedError, api.ApiError) as exc:
        fail(module, exc)
        return
    if not module.check_mode:
        run_steps(gateway, steps)
    finish(module, gateway, "teams", steps)


if __name__ == "__main__":
    main()
