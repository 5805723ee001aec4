#!/usr/bin/python
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_deploy
short_description: Make a release, its configuration and its systemd unit live as one transaction
version_added: 0.1.0
author: The selfhosted.llm contributors (@selfhosted)
description:
  - Compares the release link, the configuration files, the environment file and the unit with what is live.
  - Where something differs, the new state is first booted as a candidate, C(<name>-candidate.service), on a loopback port,
    with the unit's own hardening and the real secrets, until it answers O(probe).
    A candidate that does not answer fails the task and leaves the running service untouched.
  - Then files and link are swapped, the service is restarted, and O(probe) must succeed again.
    Where it does not, everything is put back, the old service is started again, and the task fails with the end of the journal.
  - The very first deploy on a host has nothing to protect and is done without a candidate.
  - A run that was cut off in the middle of a swap is noticed by the next one, which returns to the state before it if it must.
options:
  name:
    description: Name of the systemd service, without C(.service).
    type: str
    required: true
  state:
    description: V(absent) stops the service and removes its unit, files, environment file and link. Releases and data stay.
    type: str
    choices: [present, absent]
    default: present
  unit:
    description:
      - Text of the unit. It has to name O(current), O(environment_file) and the paths of O(files) literally; not those of O(files) that the
        service looks for beside another one.
    type: str
  release:
    description: Folder of the release that goes live. Must exist, except in check mode.
    type: path
  current:
    description: The symbolic link that points to the live release.
    type: path
    required: true
  files:
    description:
      - Configuration files that go live together with the release. They must hold no secrets, their content is shown in diffs.
      - The candidate gets copies; those of one folder are in one folder, under their names.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      content:
        description: The whole text.
        type: str
      state:
        description: With V(absent) the file is removed, and comes back where the deploy is put back.
        type: str
        choices: [present, absent]
        default: present
      owner:
        description: Name of the owning user.
        type: str
        default: root
      group:
        description: Name of the owning group.
        type: str
        default: root
      mode:
        description: Permission bits in octal.
        type: str
        default: "0644"
  environment_file:
    description: The unit's C(EnvironmentFile=). Written for root alone, mode 0600.
    type: path
    required: true
  environment:
    description: Settings in the environment file. Shown in diffs.
    type: dict
    default: {}
  secrets:
    description: Further settings in the environment file. Their values are shown nowhere.
    type: dict
    default: {}
  candidate_environment:
    description:
      - What the candidate gets instead. C({port}) stands for the loopback port that it must listen on, C({dir}) for O(candidate_dir).
    type: dict
    default: {}
  candidate_dir:
    description: Scratch folder of the candidate, owned by the unit's C(User=), removed afterwards. Defaults to a folder below C(/run).
    type: path
  databases:
    description:
      - SQLite files. The candidate works on copies in O(candidate_dir).
      - Before another release goes live they are copied, and put back if it does not become ready.
    type: list
    elements: path
    default: []
  address:
    description: Address of this host at which the live service answers the probe.
    type: str
    default: 127.0.0.1
  port:
    description: Port of the live service. Required with O(state=present).
    type: int
  probe:
    description: When a service counts as ready. Required with O(state=present).
    type: dict
    suboptions:
      path:
        description: Path of the GET request.
        type: str
        required: true
      status:
        description: HTTP status it must have.
        type: int
        default: 200
      json:
        description: Part that its JSON answer must contain.
        type: dict
      models:
        description: Names that C(data[].id) of its JSON answer must equal, as of an OpenAI-compatible C(/v1/models).
        type: list
        elements: str
      token:
        description: Name of the entry of O(secrets) that is sent as bearer token.
        type: str
      timeout:
        description: Seconds until it must answer, for the candidate and for the live service each.
        type: int
        default: 120
  keep_releases:
    description: How many releases stay in the folder of O(release), the live one included.
    type: int
    default: 2
attributes:
  check_mode:
    description: Computes the changes only, also on a host where nothing is installed yet.
    support: full
  diff_mode:
    description: Shows files, settings and the release link. Of secrets it shows their names and whether they change.
    support: full
"""

EXAMPLES = r"""
- name: Make the gateway live
  selfhosted.llm.service_deploy:
    name: litellm
    unit: "{{ lookup('ansible.builtin.template', 'litellm.service.j2') }}"
    release: /opt/litellm/releases/1.106.2-0123456789ab
    current: /opt/litellm/current
    environment_file: /etc/litellm/litellm.env
    environment: {HOST: 0.0.0.0, PORT: "4000"}
    secrets: {LITELLM_MASTER_KEY: "{{ vault_litellm_master_key }}"}
    candidate_environment: {HOST: 127.0.0.1, PORT: "{port}"}
    port: 4000
    probe: {path: /v1/models, token: LITELLM_MASTER_KEY, models: [phi3-3.8b]}
"""

RETURN = r"""
release:
  description: The live release.
  returned: success, O(state=present)
  type: str
candidate_seconds:
  description: Seconds the candidate took to answer.
  returned: when a candidate was booted
  type: float
ready_seconds:
  description: Seconds from the swap until the live service answered.
  returned: when the service was restarted
  type: float
removed_releases:
  description: Releases that were removed because there were more than O(keep_releases).
  returned: when something was deployed
  type: list
  elements: str
removed:
  description: Files and links that were removed.
  returned: O(state=absent)
  type: list
  elements: str
failed_step:
  description: V(candidate) or V(ready).
  returned: failure of a deploy
  type: str
restored:
  description: Whether the state before is live again. Not returned where it was never left.
  returned: failure after the swap
  type: bool
journal:
  description: The end of the log of the process that failed.
  returned: failure of a deploy
  type: str
"""

import os
import re
import shutil
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhosted.llm.plugins.module_utils import files
from ansible_collections.selfhosted.llm.plugins.module_utils.deployment import STATE_ROOT, DeployError, Deployment, Spec, remove_service
from ansible_collections.selfhosted.llm.plugins.module_utils.probe import Probe
from ansible_collections.selfhosted.llm.plugins.module_utils.systemd import UNIT_DIR, Systemd, SystemdError

PROBE_OPTIONS = {
    "path": {"type": "str", "required": True},
    "status": {"type": "int", "default": 200},
    "json": {"type": "dict"},
    "models": {"type": "list", "elements": "str"},
    "token": {"type": "str", "no_log": False},
    "timeout": {"type": "int", "default": 120},
}

FILE_OPTIONS = {
    "path": {"type": "path", "required": True},
    "content": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "mode": {"type": "str", "default": "0644"},
}

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "unit": {"type": "str"},
    "release": {"type": "path"},
    "current": {"type": "path", "required": True},
    "files": {"type": "list", "elements": "dict", "default": [], "options": FILE_OPTIONS},
    "environment_file": {"type": "path", "required": True},
    "environment": {"type": "dict", "default": {}},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "candidate_environment": {"type": "dict", "default": {}},
    "candidate_dir": {"type": "path"},
    "databases": {"type": "list", "elements": "path", "default": []},
    "address": {"type": "str", "default": "127.0.0.1"},
    "port": {"type": "int"},
    "probe": {"type": "dict", "options": PROBE_OPTIONS},
    "keep_releases": {"type": "int", "default": 2},
}


def config_files(module: AnsibleModule) -> dict[str, files.Content | None]:
    """The files as they will be. In check mode an owner may not exist yet, and counts as another one."""
    contents: dict[str, files.Content | None] = {}
    for item in module.params["files"]:
        if item["state"] == "absent":
            contents[item["path"]] = None
            continue
        try:
            uid, gid = files.user_id(item["owner"]), files.group_id(item["group"])
        except KeyError as exc:
            if not module.check_mode:
                module.fail_json(msg=f"{item['path']}: {exc.args[0]}. Create the account before the deploy.")
            uid = gid = -1
        if item["content"] is None:
            module.fail_json(msg=f"{item['path']}: its content is missing in files")
        if not re.match(r"[0-7]{3,4}\Z", item["mode"]):
            module.fail_json(msg=f"{item['path']}: its mode must be octal, such as 0640, not {item['mode']!r}")
        contents[item["path"]] = files.Content(item["content"].encode(), int(item["mode"], 8), uid, gid)
    return contents


def text_values(values: dict[str, t.Any]) -> dict[str, str]:
    """Environment values as text; true and false as the services spell them, nothing as nothing."""
    return {name: "" if value is None else str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()}


def build_spec(module: AnsibleModule) -> Spec:
    params = module.params
    probe = params["probe"]
    token = probe["token"]
    if token and token not in params["secrets"]:
        module.fail_json(msg=f"probe.token names {token!r}, which is not an entry of secrets")
    return Spec(
        name=params["name"],
        unit=params["unit"],
        current=params["current"],
        release=params["release"],
        config=config_files(module),
        environment_file=params["environment_file"],
        environment=text_values(params["environment"]),
        secrets=text_values(params["secrets"]),
        candidate_environment=text_values(params["candidate_environment"]),
        candidate_dir=params["candidate_dir"] or f"/run/{params['name']}-candidate/work",
        databases=params["databases"],
        address=params["address"],
        port=params["port"],
        probe=Probe(probe["path"], probe["status"], probe["json"], probe["models"], params["secrets"].get(token) if token else None),
        timeout=probe["timeout"],
        keep_releases=params["keep_releases"],
    )


def absent(module: AnsibleModule, systemd: Systemd) -> None:
    params = module.params
    paths = [params["environment_file"], params["current"], *(item["path"] for item in params["files"])]
    if module.check_mode:
        unit = os.path.join(UNIT_DIR, f"{params['name']}.service")
        state_dir = os.path.join(STATE_ROOT, params["name"])
        there = [path for path in (unit, *paths, state_dir) if os.path.lexists(path)]
        module.exit_json(changed=bool(there), removed=there)
    removed = remove_service(params["name"], paths, systemd)
    module.exit_json(changed=bool(removed), removed=removed)


def present(module: AnsibleModule, systemd: Systemd) -> None:
    try:
        deployment = Deployment(build_spec(module), systemd)
        diff = deployment.diff()
    except ValueError as exc:
        module.fail_json(msg=str(exc))
    release = module.params["release"]
    if module.check_mode:
        module.exit_json(changed=bool(diff) or deployment.interrupted(), diff=diff, release=release)
    if not os.path.isdir(release):
        module.fail_json(msg=f"the release {release} does not exist: build it before the deploy")
    try:
        result = deployment.run()
    except DeployError as exc:
        facts = {} if exc.restored is None else {"restored": exc.restored}
        module.fail_json(
            msg=f"{exc.message}\nThe end of its journal:\n{exc.journal}", failed_step=exc.step, journal=exc.journal, diff=diff, **facts
        )
    except SystemdError as exc:
        module.fail_json(msg=str(exc), diff=diff)
    module.exit_json(diff=diff, release=release, **result)


def main() -> None:
    module = AnsibleModule(
        ARGUMENTS,
        supports_check_mode=True,
        required_if=[("state", "present", ("unit", "release", "port", "probe"))],
    )
    if not module.check_mode and not shutil.which("systemctl"):
        module.fail_json(msg="systemctl was not found: services of this collection are run by systemd")
    systemd = Systemd(module.run_command)
    if module.params["state"] == "absent":
        absent(module, systemd)
    else:
        present(module, systemd)


if __name__ == "__main__":
    main()
