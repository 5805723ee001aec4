#!/usr/bin/python
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litellm_key
short_description: Virtual keys of a LiteLLM gateway
version_added: 0.1.0
author: The selfhosted.llm contributors (@selfhosted)
description:
  - Makes the virtual keys of a LiteLLM gateway what the list says, in one call. Keys that are not listed are left alone.
  - Keys are found by O(keys[].key_alias), or by the hash of O(keys[].key). No value of a key is ever shown, also not in a diff.
  - What a listed key has beyond the list is taken away. Only O(keys[].metadata) and O(keys[].blocked), which have a value for "nothing",
    are left as they are where they are not written.
  - A key whose O(keys[].key) is not the one the gateway has is rotated, as are those in O(rotate). A new key takes the place of the old
    one, with its settings and its spend, and the old one is refused. The gateway's own regeneration is for LiteLLM's enterprise users only.
extends_documentation_fragment:
  - selfhosted.llm.litellm
  - selfhosted.llm.litellm.reconcile
options:
  keys:
    description: The keys.
    type: list
    elements: dict
    default: []
    suboptions:
      key_alias:
        description: Name of the key. Each name exists once on a gateway.
        type: str
        required: true
      key:
        description:
          - Value of the key, from a vault. It begins with C(sk-) and has at least 16 characters. Compared by its hash.
          - Without it, and without a file, a value is generated for a new key, which needs O(return_keys).
        type: str
      key_file:
        description:
          - File on the controller that holds the value. Where it exists the value is read from it, encrypted or not. Where it does not
            exist and the gateway does not have the key, a value is generated, and written there with mode 0600 before the key is made.
          - A relative name is taken from the working directory.
        type: path
      state:
        description: Whether the gateway should have it. Its file is not touched.
        type: str
        choices: [present, absent]
        default: present
      models:
        description: >-
          Models that the key may use, by the names that clients ask for. An empty list means all those that its team may use, or all.
        type: list
        elements: str
        default: []
      allowed_routes:
        description: >-
          The only paths, or groups of paths, that the key may use, such as V(/metrics) or V(llm_api_routes). V([]) means all that its role
          may use.
        type: list
        elements: str
      team_id:
        description: Team that the key belongs to, by its ID or by its name.
        type: str
      user_id:
        description: User that the key belongs to.
        type: str
      max_budget:
        description: What the key may spend in each O(keys[].budget_duration), or ever.
        type: float
      budget_duration:
        description: >-
          After which time O(keys[].max_budget) is available again, such as V(1d), V(7d) or V(30d). LiteLLM resets V(1d) at midnight, V(7d)
          on Mondays and V(30d) on the first of the month.
        type: str
      budget_limits:
        description: Further budgets that hold at the same time.
        type: list
        elements: dict
        default: []
        suboptions:
          budget_duration:
            description: As O(keys[].budget_duration).
            type: str
            required: true
          max_budget:
            description: As O(keys[].max_budget).
            type: float
            required: true
      tpm_limit:
        description: Tokens a minute. V(0) admits nothing; without it there is no limit.
        type: int
      rpm_limit:
        description: Requests a minute. V(0) admits nothing; without it there is no limit.
        type: int
      max_parallel_requests:
        description: Requests at the same time.
        type: int
      expires:
        description: Date from which on the key is refused, such as V(2027-01-31) or V(2027-01-31T12:00:00Z). UTC where it has no offset.
        type: str
      duration:
        description: >-
          How long the key is valid from when it was made, such as V(90d) or V(6mo). Excludes O(keys[].expires). Without both it never
          expires.
        type: str
      blocked:
        description: Whether the gateway refuses the key.
        type: bool
      metadata:
        description: Data of your own. V({}) removes it all.
        type: dict
  key_directory:
    description:
      - Folder on the controller in which every present key that has neither O(keys[].key) nor O(keys[].key_file) has a file C(ALIAS.key).
      - It is made with mode 0700. A relative name is taken from the working directory.
    type: path
  encrypt_key_files:
    description: >-
      Whether files of keys are encrypted with the vault password that Ansible was given. Those that are not yet are encrypted.
    type: bool
    default: false
  vault_id:
    description: Label of the vault password for O(encrypt_key_files), if Ansible was given several.
    type: str
  rotate:
    description: >-
      Names of listed keys that get a new generated value. Keys with O(keys[].key) are rotated by changing it. Not idempotent: each run
      makes new values.
    type: list
    elements: str
    default: []
  overlap:
    description: >-
      Seconds that an old value stays valid beside the new one after a rotation. It keeps its limits, its name gets C(.replaced-…) added,
      and it is deleted by the first run after its time.
    type: int
    default: 0
  retire:
    description: Names of listed keys whose replaced values are deleted now, though their O(overlap) is not over.
    type: list
    elements: str
    default: []
  return_keys:
    description: Return the generated values, once. Needs C(no_log) on the task, so that nothing shows them.
    type: bool
    default: false
  supplied:
    description: Names of keys whose values the controller supplies. Set by the action plugin.
    type: list
    elements: str
    default: []
attributes:
  action:
    description: Has a corresponding action plugin, which reads and writes the files of keys on the controller.
    support: full
notes:
  - A file is written before its key is made, and a value in a file is never replaced but by O(rotate). So a run that breaks off loses no
    value, and a gateway that lost its database gets the same keys again.
  - Other workers and gateways may accept an old value for up to a minute longer, unless they share Redis.
seealso:
  - module: selfhosted.llm.litellm_team
  - module: selfhosted.llm.litellm_user
"""

EXAMPLES = r"""
- name: Keys
  selfhosted.llm.litellm_key:
    url: http://127.0.0.1:4000
    master_key: "{{ litellm_proxy_master_key }}"
    key_directory: keys
    encrypt_key_files: true
    keys:
      - key_alias: open-webui
        key: "{{ vault_webui_gateway_key }}"
      - key_alias: alice
        user_id: alice
        team_id: research
        models: [phi3-3.8b]
        rpm_limit: 10
        duration: 90d
      - key_alias: intern-2025
        state: absent

- name: A new value for one key; the old one stays valid for an hour
  selfhosted.llm.litellm_key:
    url: http://127.0.0.1:4000
    master_key: "{{ litellm_proxy_master_key }}"
    key_directory: keys
    keys:
      - key_alias: alice
        user_id: alice
        team_id: research
    rotate: [alice]
    overlap: 3600

- name: A key that goes somewhere else
  selfhosted.llm.litellm_key:
    url: http://127.0.0.1:4000
    master_key: "{{ litellm_proxy_master_key }}"
    keys:
      - key_alias: batch
    return_keys: true
  no_log: true
  register: made
"""

RETURN = r"""
virtual_keys:
  description: What happened to each key of the list.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the key.
      type: str
    action:
      description: What was done, or would be in check mode.
      type: str
      choices: [none, created, updated, rotated, deleted, failed]
    token:
      description: Hash of its value, which is its ID in LiteLLM.
      type: str
generated_keys:
  description: The generated values by name.
  returned: when O(return_keys) is set and values were generated
  type: dict
key_files:
  description: Files on the controller that were written.
  returned: when files of keys are used
  type: list
  elements: str
to_generate:
  description: Names of keys for which a value is generated, or would be in check mode.
  returned: always
  type: list
  elements: str
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
      description: Name of the key, if it is about one.
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

import re
import secrets
import typing as t
from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhosted.llm.plugins.module_utils import http as api
from ansible_collections.selfhosted.llm.plugins.module_utils import litellm_api
from ansible_collections.selfhosted.llm.plugins.module_utils import litellm_values as values
from ansible_collections.selfhosted.llm.plugins.module_utils.litellm_reconcile import (
    CREATED,
    DELETED,
    NONE,
    ROTATED,
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

MINIMUM = 16
_REPLACED = re.compile(r"(.+)\.replaced-\d+")


def label(item: dict[str, t.Any]) -> str:
    return str(item["key_alias"])


def replaced_by(alias: t.Any) -> str | None:
    """Of the name of an old value: the key that replaced it."""
    match = _REPLACED.fullmatch(str(alias or ""))
    return match.group(1) if match else None


def expiry(item: dict[str, t.Any], created: datetime) -> datetime | None:
    name = label(item)
    if item["duration"]:
        return t.cast(datetime, checked(name, lambda value: values.after(created, value), item["duration"]))
    return t.cast("datetime | None", checked(name, values.moment, item["expires"]))


def wanted(item: dict[str, t.Any]) -> dict[str, t.Any]:
    """The attributes of a declared key, as `current` writes those of an existing one. Its expiry depends on when it was made."""
    name = label(item)
    found: dict[str, t.Any] = {
        "key_alias": name,
        "models": values.models(item["models"]),
        "team_id": item["team_id"] or None,
        "user_id": item["user_id"] or None,
        "max_budget": values.money(item["max_budget"]),
        "budget_duration": checked(name, values.duration, item["budget_duration"]),
        "budget_limits": values.windows(
            [{**window, "budget_duration": checked(name, values.duration, window["budget_duration"])} for window in item["budget_limits"]]
        ),
        "tpm_limit": item["tpm_limit"],
        "rpm_limit": item["rpm_limit"],
        "max_parallel_requests": item["max_parallel_requests"],
    }
    if item["allowed_routes"] is not None:
        found["allowed_routes"] = sorted(set(item["allowed_routes"]))
    if item["blocked"] is not None:
        found["blocked"] = item["blocked"]
    if item["metadata"] is not None:
        found["metadata"] = values.metadata(item["metadata"])
    return found


def current(key: dict[str, t.Any]) -> dict[str, t.Any]:
    return {
        "key_alias": key.get("key_alias"),
        "models": values.models(key.get("models")),
        "allowed_routes": sorted(set(key.get("allowed_routes") or [])),
        "team_id": values.text(key.get("team_id")),
        "user_id": values.text(key.get("user_id")),
        "max_budget": values.money(key.get("max_budget")),
        "budget_duration": values.stored_duration(key.get("budget_duration")),
        "budget_limits": values.windows(key.get("budget_limits")),
        "tpm_limit": values.whole(key.get("tpm_limit")),
        "rpm_limit": values.whole(key.get("rpm_limit")),
        "max_parallel_requests": values.whole(key.get("max_parallel_requests")),
        "blocked": bool(key.get("blocked")),
        "metadata": values.metadata(key.get("metadata")),
    }


class Keys:
    def __init__(self, module: AnsibleModule, gateway: litellm_api.Gateway, existing: t.Sequence[dict[str, t.Any]]) -> None:
        self.params = module.params
        self.check_mode = module.check_mode
        self.gateway = gateway
        self.now = datetime.fromtimestamp(litellm_api.now(), timezone.utc)
        self.by_alias = {key["key_alias"]: key for key in existing if key.get("key_alias")}
        self.by_token = {key["token"]: key for key in existing}
        self.listed = {label(item): item for item in self.params["keys"]}
        self.generated: dict[str, str] = {}
        self.to_generate: list[str] = []

    # What it takes

    def plan(self, item: dict[str, t.Any]) -> list[Step]:
        name = label(item)
        leftovers = [key for alias, key in sorted(self.by_alias.items()) if replaced_by(alias) == name]
        if item["state"] == "absent":
            # By its name only: its value may live on under another one.
            key = self.by_alias.get(name)
            steps = [self.removal(name, key, listed=True)] if key else [Step(name, NONE)]
            return steps + [self.removal(str(old["key_alias"]), old) for old in leftovers]
        step = self.plan_present(item, leftovers)
        revived = step.facts.get("token")
        return [step] + [self.removal(str(old["key_alias"]), old) for old in leftovers if old["token"] != revived and self.over(name, old)]

    def over(self, name: str, old: dict[str, t.Any]) -> bool:
        """Is the time of a replaced value over? One without an end is what a rotation left that broke off."""
        ends = values.moment(old.get("expires"))
        return name in self.params["retire"] or ends is None or ends <= self.now

    def removal(self, name: str, key: dict[str, t.Any], listed: bool = False) -> Step:
        token = key["token"]
        return Step(name, DELETED, "present", "absent", lambda: self.delete(token), {"token": token}, listed)

    def plan_present(self, item: dict[str, t.Any], leftovers: t.Sequence[dict[str, t.Any]]) -> Step:
        name = label(item)
        want = wanted(item)
        key = self.by_alias.get(name)
        value, holder = item["key"], None
        if value:
            holder = self.by_token.get(values.key_hash(value))
            if holder and holder is not key and holder not in leftovers:
                other = holder.get("key_alias") or holder["token"][:8]
                if key is not None or other in self.listed:
                    raise RefusedError(name, f"its value is that of the key {other}. Give each key a value of its own")
                # The same value under another name: renamed.
                key = holder
        if holder is not None and holder is not key:
            return self.revival(item, want, key, holder)
        if key is None:
            return self.creation(item, want)
        if (value and values.key_hash(value) != key["token"]) or name in self.params["rotate"]:
            return self.rotation(item, want, key)
        before, after = self.drift(item, want, key)
        facts = {"token": key["token"]}
        if not after:
            return Step(name, NONE, facts=facts)
        return Step(name, UPDATED, self.shown(before), self.shown(after), lambda: self.update(key, after), facts)

    def drift(self, item: dict[str, t.Any], want: dict[str, t.Any], key: dict[str, t.Any]) -> tuple[dict[str, t.Any], dict[str, t.Any]]:
        before, after = differences(want, current(key))
        is_now = values.moment(key.get("expires"))
        should = expiry(item, values.moment(key.get("created_at")) or self.now)
        if not values.same_moment(is_now, should, self.now):
            before["expires"], after["expires"] = is_now, should
        return before, after

    def shown(self, attributes: dict[str, t.Any]) -> dict[str, t.Any]:
        """For the diff."""
        if "expires" not in attributes:
            return attributes
        return {**attributes, "expires": values.date_text(attributes["expires"])}

    def value_for(self, item: dict[str, t.Any]) -> str | None:
        """The value of a new key: declared, or generated here. None where the controller will supply it."""
        name = label(item)
        if item["key"]:
            return str(item["key"])
        self.to_generate.append(name)
        if self.check_mode and name in self.params["supplied"]:
            return None
        if not self.params["return_keys"]:
            raise RefusedError(
                name,
                "a value would have to be generated, and nobody would ever know it. Give it a key from a vault, a key_file, or set "
                "key_directory; or take the value from the result, with return_keys and no_log",
            )
        value = f"sk-{secrets.token_urlsafe(32)}"
        if not self.check_mode:
            self.generated[name] = value
        return value

    def creation(self, item: dict[str, t.Any], want: dict[str, t.Any]) -> Step:
        name = label(item)
        value = self.value_for(item)
        ends = expiry(item, self.now)
        facts = {"token": values.key_hash(item["key"]) if item["key"] else None}
        after = self.shown({**without_nothing(want), **({"expires": ends} if ends else {})})
        del after["key_alias"]
        return Step(name, CREATED, "absent", after, lambda: self.create(want, str(value), ends), facts)

    def rotation(self, item: dict[str, t.Any], want: dict[str, t.Any], key: dict[str, t.Any]) -> Step:
        name = label(item)
        if item["key"] and name in self.params["rotate"] and values.key_hash(item["key"]) == key["token"]:
            raise RefusedError(name, "its value is declared: it is rotated by declaring another one, not by rotate")
        value = self.value_for(item)
        ends = expiry(item, self.now)
        before, after = self.drift(item, want, key)
        before.pop("expires", None), after.pop("expires", None)
        # What is not declared moves on to the new value.
        full = {**current(key), **want}
        full["metadata"] = {**values.reserved(key.get("metadata")), **full["metadata"]}
        facts = {"token": values.key_hash(item["key"]) if item["key"] else None}
        return Step(
            name,
            ROTATED,
            {"value": "the old one", **before},
            {"value": "a new one", **after},
            lambda: self.replace(key, lambda: self.create(full, str(value), ends, key.get("spend") or 0.0)),
            facts,
        )

    def revival(self, item: dict[str, t.Any], want: dict[str, t.Any], key: dict[str, t.Any] | None, old: dict[str, t.Any]) -> Step:
        """The declared value is one that was replaced and is still there: it takes its place back."""
        before, after = self.drift(item, want, old)

        def take_back() -> dict[str, t.Any]:
            self.update(old, after)
            return {"token": old["token"]}

        work = take_back if key is None else lambda: self.replace(key, take_back)
        shown = (self.shown({"value": "another one", **before}), self.shown({"value": "one that was replaced before", **after}))
        return Step(label(item), ROTATED, *shown, work, {"token": old["token"]})

    # The calls

    def create(self, want: dict[str, t.Any], value: str, ends: datetime | None, spend: float = 0.0) -> dict[str, t.Any]:
        payload = {name: entry for name, entry in want.items() if entry is not None}
        for empty in ("budget_limits", "allowed_routes"):
            if not payload.get(empty):
                payload.pop(empty, None)
        if ends is not None:
            payload["duration"] = self.seconds_until(ends)
        if spend:
            payload["spend"] = spend
        answer = self.gateway.post("/key/generate", {"key": value, **payload})
        token = values.key_hash(value)
        if answer.get("token") != token:
            raise api.ApiError(api.PROTOCOL, "the gateway made the key with another value than the one it was given")
        return {"token": token}

    def update(self, key: dict[str, t.Any], after: dict[str, t.Any]) -> None:
        payload = {name: value for name, value in after.items() if name != "expires"}
        if "expires" in after:
            payload["duration"] = "-1" if after["expires"] is None else self.seconds_until(after["expires"])
        if "metadata" in payload:
            payload["metadata"] = {**values.reserved(key.get("metadata")), **payload["metadata"]}
        self.gateway.post("/key/update", {"key": key["token"], **payload})

    def delete(self, token: str) -> None:
        self.gateway.post("/key/delete", {"keys": [token]})

    def replace(self, key: dict[str, t.Any], take_place: t.Callable[[], dict[str, t.Any]]) -> dict[str, t.Any]:
        """Move a key out of the way, put another in its place, and let the old one go. A name exists once, so it has to move first."""
        name, token = key["key_alias"], key["token"]
        aside: dict[str, t.Any] = {"key": token, "key_alias": f"{name}.replaced-{int(litellm_api.now())}"}
        ends = values.moment(key.get("expires"))
        if self.params["overlap"] and (ends is None or (ends - self.now).total_seconds() > self.params["overlap"]):
            aside["duration"] = f"{self.params['overlap']}s"
        self.gateway.post("/key/update", aside)
        try:
            facts = take_place()
        except api.ApiError:
            back = {"key": token, "key_alias": name}
            if "duration" in aside:
                back["duration"] = "-1" if ends is None else self.seconds_until(ends)
            self.gateway.post("/key/update", back)
            raise
        if not self.params["overlap"]:
            self.delete(token)
        return facts

    @staticmethod
    def seconds_until(ends: datetime) -> str:
        return f"{max(0, round(ends.timestamp() - litellm_api.now()))}s"


def check_declaration(module: AnsibleModule) -> None:
    params = module.params
    unique(params["keys"], label)
    names = {label(item) for item in params["keys"] if item["state"] == "present"}
    owners: dict[str, str] = {}
    for item in params["keys"]:
        name, value = label(item), item["key"]
        if replaced_by(name):
            raise RefusedError(name, "names like this are given to replaced values. Choose another key_alias")
        if item["state"] == "absent":
            continue
        if value is not None:
            if not value.startswith("sk-") or len(value) < MINIMUM:
                raise RefusedError(name, f"its value must begin with sk- and have at least {MINIMUM} characters: LiteLLM takes no other")
            if value == params["master_key"]:
                raise RefusedError(name, "its value is the master key. Give it one of its own")
            if owners.setdefault(value, name) != name:
                raise RefusedError(name, f"its value is that of the key {owners[value]}. Give each key a value of its own")
    for option in ("rotate", "retire"):
        for name in params[option]:
            if name not in names:
                raise RefusedError(name, f"it is in {option}, but not in keys, or it is absent there. Its settings have to be known")
    if params["overlap"] < 0:
        raise RefusedError("overlap", "it cannot be negative")
    if params["return_keys"] and not module.no_log:
        raise RefusedError("return_keys", "the task needs `no_log: true`, else the values are shown and logged")


def resolve_owners(module: AnsibleModule, gateway: litellm_api.Gateway) -> None:
    """Teams by their IDs, and no key for a team or a user that does not exist: LiteLLM would make it."""
    items = [item for item in module.params["keys"] if item["state"] == "present"]
    if any(item["team_id"] for item in items):
        teams = gateway.teams()
        ids = {team["team_id"] for team in teams}
        named: dict[str, list[str]] = {}
        for team in teams:
            named.setdefault(str(team.get("team_alias")), []).append(team["team_id"])
        for item in items:
            team = item["team_id"]
            if not team or team in ids:
                continue
            found = named.get(team, [])
            if len(found) > 1:
                raise RefusedError(
                    label(item),
                    f"{len(found)} teams of the gateway are called {team}: say which one by its ID ({', '.join(sorted(found))})",
                )
            if found:
                item["team_id"] = found[0]
            elif not module.check_mode:
                raise RefusedError(label(item), f"the gateway has no team {team}. Declare it in litellm_teams, or correct team_id")
    if any(item["user_id"] for item in items) and not module.check_mode:
        users = {user["user_id"] for user in gateway.users()}
        for item in items:
            if item["user_id"] and item["user_id"] not in users:
                raise RefusedError(
                    label(item), f"the gateway has no user {item['user_id']}. Declare it in litellm_users, or correct user_id"
                )


def argument_spec() -> dict[str, t.Any]:
    window = {"budget_duration": {"type": "str", "required": True}, "max_budget": {"type": "float", "required": True}}
    key = {
        "key_alias": {"type": "str", "required": True, "no_log": False},
        "key": {"type": "str", "no_log": True},
        "key_file": {"type": "path", "no_log": False},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "models": {"type": "list", "elements": "str", "default": []},
        "allowed_routes": {"type": "list", "elements": "str"},
        "team_id": {"type": "str"},
        "user_id": {"type": "str"},
        "max_budget": {"type": "float"},
        "budget_duration": {"type": "str"},
        "budget_limits": {"type": "list", "elements": "dict", "default": [], "options": window},
        "tpm_limit": {"type": "int"},
        "rpm_limit": {"type": "int"},
        "max_parallel_requests": {"type": "int"},
        "expires": {"type": "str"},
        "duration": {"type": "str"},
        "blocked": {"type": "bool"},
        "metadata": {"type": "dict"},
    }
    return {
        **litellm_api.connection_spec(),
        "concurrency": {"type": "int", "default": 8},
        "keys": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "no_log": False,
            "options": key,
            "mutually_exclusive": [("expires", "duration"), ("key", "key_file")],
        },
        "key_directory": {"type": "path", "no_log": False},
        "encrypt_key_files": {"type": "bool", "default": False, "no_log": False},
        "vault_id": {"type": "str"},
        "rotate": {"type": "list", "elements": "str", "default": []},
        "overlap": {"type": "int", "default": 0},
        "retire": {"type": "list", "elements": "str", "default": []},
        "return_keys": {"type": "bool", "default": False, "no_log": False},
        "supplied": {"type": "list", "elements": "str", "default": []},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    items = module.params["keys"]
    try:
        check_declaration(module)
        gateway = litellm_api.connect(module.params)
        existing: list[dict[str, t.Any]] = []
        try:
            if items:
                existing = gateway.keys()
                resolve_owners(module, gateway)
        except api.ApiError as exc:
            if not not_there_yet(module, exc):
                raise
        keys = Keys(module, gateway, existing)
        steps = [step for item in items for step in keys.plan(item)]
    except (RefusedError, api.ApiError) as exc:
        fail(module, exc)
        return
    if not module.check_mode:
        run_steps(gateway, steps)
    more: dict[str, t.Any] = {"to_generate": keys.to_generate}
    if keys.generated:
        failed = {step.name for step in steps if step.error}
        more["generated_keys"] = {name: value for name, value in keys.generated.items() if name not in failed}
    finish(module, gateway, "virtual_keys", steps, **more)


if __name__ == "__main__":
    main()
