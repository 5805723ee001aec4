#!/usr/bin/python
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compose_deploy
short_description: Make a Compose project of a gateway live as one transaction
version_added: 0.1.0
author: The selfhosted.llm contributors (@selfhosted)
description:
  - What M(community.docker.docker_compose_v2) does not do, and this is for, is to try a change beside what runs before it goes live, and to
    return to the state before where it does not become ready.
  - Compares the files of the project and its containers with what is declared. Containers are known by the label
    C(selfhosted-llm.revision).
  - Where something differs, images that are missing are pulled, and the new gateway is started as a candidate beside the running one,
    in its networks and without its published port, until it answers O(probe). A candidate that does not answer fails the task, and
    nothing was changed.
  - Before a candidate that needs it, the service O(migration) brings the database to its release.
  - Then the files are swapped and the project is brought up. Where the gateway does not become ready, the files are put back, the former
    project is brought up again, and the task fails with the end of the log of the container at fault.
  - The very first deploy has nothing to protect and is done without a candidate.
  - Another C(LITELLM_SALT_KEY) than the one in the O(secrets) of the project that is there is refused.
  - A run that was cut off in the middle of a swap is noticed by the next one, which returns to the state before it if it must.
requirements:
  - Docker Engine, and Docker Compose 2.
options:
  project:
    description: Name of the Compose project.
    type: str
    required: true
  directory:
    description: Folder of the project on the host, for root alone. C(compose.yaml), C(gateway/) and C(secrets/) in it belong to the deploy.
    type: path
    required: true
  files:
    description: >-
      The files of the project, C(compose.yaml) among them. Others in C(gateway/) and C(secrets/) are removed.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Where it is in O(directory).
        type: str
        required: true
      content:
        description: The whole text. Diffs show it. Required, but for a file in C(secrets/), whose text is in O(secrets).
        type: str
      owner:
        description: Numbers of the user and the group that own it, as C(uid:gid).
        type: str
        default: "0:0"
      mode:
        description: Permission bits in octal.
        type: str
        default: "0644"
  secrets:
    description: Texts of the files in C(secrets/), by their O(files[].path). Nobody sees them; of a JSON object diffs show the names.
    type: dict
    default: {}
  salt_key_change:
    description: Take another C(LITELLM_SALT_KEY) than the one before. What LiteLLM encrypted with that is lost.
    type: bool
    default: false
  revisions:
    description: Value of the label C(selfhosted-llm.revision) that the container of each service has to have.
    type: dict
    required: true
  service:
    description: The service that is the gateway.
    type: str
    default: litellm-proxy
  migration:
    description: The service that migrates the database, and ends.
    type: str
    default: litellm-migrate
  probe:
    description: When the gateway counts as ready. It is asked from within its container.
    type: dict
    required: true
    suboptions:
      url:
        description: What is asked, by the container's own Python.
        type: str
        default: http://127.0.0.1:4000/v1/models
      token:
        description: Sent as bearer token.
        type: str
        required: true
      models:
        description: Names that C(data[].id) of its JSON answer must equal.
        type: list
        elements: str
        required: true
      timeout:
        description: Seconds until it must answer, for the candidate and for the live gateway each.
        type: int
        default: 120
  backup:
    description:
      - Before a migration, dump the project's own database, where it runs.
      - It is a C(pg_dump) in its custom format of the database and as the user C(litellm).
    type: dict
    suboptions:
      service:
        description: The service that is PostgreSQL.
        type: str
        default: litellm-db
      folder:
        description: Where dumps go, for root alone.
        type: path
        required: true
      keep:
        description: How many stay, at least one.
        type: int
        default: 5
  hide:
    description: Secrets that must not show in messages, such as those in O(secrets).
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Compares only.
    support: full
  diff_mode:
    description: Shows the files, and of secret ones their names and whether they change.
    support: full
"""

EXAMPLES = r"""
- name: Make the project live
  selfhosted.llm.compose_deploy:
    project: litellm-compose
    directory: /opt/litellm-compose
    files:
      - path: compose.yaml
        content: "{{ project | to_nice_yaml(sort_keys=false) }}"
      - path: gateway/config.yaml
        content: "{{ config | to_nice_yaml(sort_keys=false) }}"
      - path: secrets/litellm.json
        owner: "65534:65534"
        mode: "0400"
    secrets:
      secrets/litellm.json: "{{ secrets | to_json }}"
    revisions: "{{ project | selfhosted.llm.compose_revisions }}"
    probe: {token: "{{ vault_litellm_master_key }}", models: [phi3-3.8b]}
"""

RETURN = r"""
stale:
  description: Services whose containers were (or would be) made anew or started.
  returned: success
  type: list
  elements: str
candidate_seconds:
  description: Seconds the candidate took to answer.
  returned: when a candidate was started
  type: float
dump:
  description: Path of the dump.
  returned: when the database was dumped
  type: str
ready_seconds:
  description: Seconds from the swap until the gateway answered.
  returned: when something was deployed
  type: float
failed_step:
  description: V(config), V(image), V(migration), V(candidate), V(ready), or V(docker) where Docker itself failed.
  returned: failure of a deploy
  type: str
restored:
  description: Whether the state before is live again. Not returned where it was never left.
  returned: failure after the swap
  type: bool
log:
  description: The end of the log of the container that failed.
  returned: failure of a deploy
  type: str
"""

import json
import os
import re
import shutil
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhosted.llm.plugins.module_utils import files
from ansible_collections.selfhosted.llm.plugins.module_utils.compose import Backup, ComposeError, Probe, Project, Wanted
from ansible_collections.selfhosted.llm.plugins.module_utils.migrations import OTHER_SALT_KEY
from ansible_collections.selfhosted.llm.plugins.module_utils.quiet import QuietModule

ARGUMENTS = {
    "project": {"type": "str", "required": True},
    "directory": {"type": "path", "required": True},
    "files": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "path": {"type": "str", "required": True},
            "content": {"type": "str"},
            "owner": {"type": "str", "default": "0:0"},
            "mode": {"type": "str", "default": "0644"},
        },
    },
    # Not among the files: what is inside a list, the journal would have.
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "salt_key_change": {"type": "bool", "default": False, "no_log": False},
    "revisions": {"type": "dict", "required": True},
    "service": {"type": "str", "default": "litellm-proxy"},
    "migration": {"type": "str", "default": "litellm-migrate"},
    "probe": {
        "type": "dict",
        "required": True,
        "options": {
            "url": {"type": "str", "default": "http://127.0.0.1:4000/v1/models"},
            "token": {"type": "str", "required": True, "no_log": True},
            "models": {"type": "list", "elements": "str", "required": True},
            "timeout": {"type": "int", "default": 120},
        },
    },
    "backup": {
        "type": "dict",
        "options": {
            "service": {"type": "str", "default": "litellm-db"},
            "folder": {"type": "path", "required": True},
            "keep": {"type": "int", "default": 5},
        },
    },
    "hide": {"type": "list", "elements": "str", "default": [], "no_log": True},
}


def content_of(module: AnsibleModule, item: dict[str, t.Any]) -> files.Content:
    path = item["path"]
    if not re.fullmatch(r"(compose\.yaml|(gateway|secrets)/[A-Za-z0-9_][\w.-]*)", path):
        module.fail_json(msg=f"files: {path!r} must be compose.yaml, or a name in gateway/ or secrets/")
    text = module.params["secrets"].get(path) if path.startswith("secrets/") else item["content"]
    if text is None or (path.startswith("secrets/") and item["content"] is not None):
        module.fail_json(msg=f"files: {path}: its text must be in {'secrets' if path.startswith('secrets/') else 'content'}")
    if not re.fullmatch(r"\d+:\d+", item["owner"]) or not re.fullmatch(r"[0-7]{3,4}", item["mode"]):
        module.fail_json(msg=f"files: {path}: owner must be uid:gid in numbers, and mode octal, not {item['owner']!r} and {item['mode']!r}")
    uid, gid = item["owner"].split(":")
    return files.Content(text.encode(), int(item["mode"], 8), int(uid), int(gid))


def wanted(module: AnsibleModule) -> Wanted:
    params = module.params
    content = {item["path"]: content_of(module, item) for item in params["files"]}
    if "compose.yaml" not in content:
        module.fail_json(msg="files has no compose.yaml")
    if params["service"] not in params["revisions"]:
        module.fail_json(msg=f"revisions has no {params['service']!r}, which is to be the gateway (service)")
    probe, backup = params["probe"], params["backup"]
    return Wanted(
        content=content,
        revisions=params["revisions"],
        service=params["service"],
        migration=params["migration"],
        probe=Probe(probe["url"], probe["token"], probe["models"], probe["timeout"]),
        backup=Backup(backup["service"], backup["folder"], max(backup["keep"], 1)) if backup else None,
    )


def secret_values(content: files.Content | None) -> dict[str, t.Any]:
    """The entries of a JSON object; another text as one entry."""
    if content is None:
        return {}
    text = content.data.decode("utf-8", "replace")
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    return values if isinstance(values, dict) else {"": text}


def has_other_salt_key(old: files.Content | None, new: files.Content | None) -> bool:
    """Of a file of secrets; one without a salt key encrypts nothing."""
    before, after = (secret_values(content).get("LITELLM_SALT_KEY") for content in (old, new))
    return bool(before and after and before != after)


def diff_of(path: str, old: files.Content | None, new: files.Content | None, secret: bool) -> dict[str, str]:
    entry = {"before_header": path, "after_header": path}
    if old and new and old.data == new.data:
        before, after = (f"mode {content.mode:04o}, owner {content.uid}:{content.gid}\n" for content in (old, new))
    elif secret:
        known, coming = secret_values(old), secret_values(new)
        before = "".join(f"{name}=(hidden)\n" for name in sorted(known))
        after = "".join(
            f"{name}=(hidden{', changed' if name in known and known[name] != coming[name] else ''})\n" for name in sorted(coming)
        )
    else:
        before, after = (content.data.decode("utf-8", "replace") if content else "" for content in (old, new))
    return {**entry, "before": before, "after": after}


def present(module: AnsibleModule, project: Project) -> None:
    want, there = wanted(module), project.containers()
    after = project.after(want)
    changed = [(path, files.read(path), after[path]) for path in project.changed_files(want)]
    secret = os.path.join(project.folder, "secrets") + os.sep
    if not module.params["salt_key_change"] and any(path.startswith(secret) and has_other_salt_key(old, new) for path, old, new in changed):
        module.fail_json(msg=OTHER_SALT_KEY)
    diff = [diff_of(path, old, new, path.startswith(secret)) for path, old, new in changed]
    stale = project.stale(want, there)
    surplus = [name for name in there if name not in want.revisions]
    if not (diff or stale or surplus or project.interrupted):
        module.exit_json(changed=False, diff=[], stale=[])
    if module.check_mode:
        module.exit_json(changed=True, diff=diff, stale=stale)
    try:
        done = project.deploy(want)
    except ComposeError as exc:
        facts = {} if exc.restored is None else {"restored": exc.restored}
        said = f"\nThe end of its log:\n{exc.log}" if exc.log else ""
        module.fail_json(msg=f"{exc.message}{said}", failed_step=exc.step, log=exc.log, diff=diff, **facts)
    module.exit_json(changed=True, diff=diff, stale=stale, **done)


def main() -> None:
    module = QuietModule(ARGUMENTS, supports_check_mode=True)
    if not shutil.which("docker"):
        module.fail_json(msg="docker was not found: this target runs on a host with the Docker engine and Docker Compose 2")
    project = Project(module.run_command, module.params["project"], module.params["directory"])
    try:
        present(module, project)
    except (ComposeError, OSError) as exc:
        module.fail_json(msg=str(exc))


if __name__ == "__main__":
    main()
