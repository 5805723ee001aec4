#!/usr/bin/python
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hf_space
short_description: Publish a Docker Space on the Hugging Face Hub
version_added: 0.1.0
author: The selfhosted.llm contributors (@selfhosted)
description:
  - Makes a Space what is declared - its visibility, files, secrets and variables - and waits until it runs.
  - All files that differ go into one commit. Where none differs there is no commit, and where nothing differs nothing is changed.
  - The Hub gives nobody the value of a secret. Whether it is still the declared one is known from a keyed digest in the secret's
    description, which is of no use without O(digest_key).
  - Secrets and variables that others set are left alone; those that this module set are removed when they are no longer declared.
  - A Space that sleeps, is paused, or whose last build failed is restarted. Where it does not come to run, the module fails with the end of
    the log of the build, or of the container.
requirements:
  - huggingface_hub >= 2.4
attributes:
  check_mode:
    description: Can run in check mode and return what it would change.
    support: full
  diff_mode:
    description: Shows files and variables before and after, and secrets by name.
    support: full
options:
  repository:
    description: The Space, as C(owner/name).
    type: str
    required: true
  token:
    description: A token of the Hub that may write to Spaces of the owner.
    type: str
    required: true
  endpoint:
    description: Address of the Hub, or of a mirror of it (what C(HF_ENDPOINT) is for the Hub's own tools). Empty for C(https://huggingface.co).
    type: str
    default: ""
  private:
    description: Whether only those with a token of the Hub that may read the Space see it and get through to what it serves.
    type: bool
    default: true
  files:
    description: Contents of files by path. Other files are left alone.
    type: dict
    required: true
  absent_files:
    description: Paths of files that are not to be there, unless O(files) has them.
    type: list
    elements: str
    default: []
  secrets:
    description: Values of secrets by name. They must be strings, and must not occur in O(files) or O(variables).
    type: dict
    default: {}
  variables:
    description: Values of variables by name. Everybody who sees the Space can see them.
    type: dict
    default: {}
  digest_key:
    description: A strong secret that the digests of the secrets are made with. With another one all of them are set anew.
    type: str
    required: true
  commit_message:
    description: Message of the commit.
    type: str
    default: Deploy by Ansible (selfhosted.llm)
  timeout:
    description: Seconds to wait for the Space to run. A first build loads an image of about a gigabyte.
    type: float
    default: 1800.0
  interval:
    description: Seconds between two questions about its stage.
    type: float
    default: 5.0
  log_lines:
    description: How many lines of the log to show where it does not come to run.
    type: int
    default: 40
"""

EXAMPLES = r"""
- name: Publish the Space
  selfhosted.llm.hf_space:
    repository: somebody/gateway
    token: "{{ vault_hf_token }}"
    digest_key: "{{ vault_litellm_master_key }}"
    files:
      README.md: "{{ lookup('ansible.builtin.template', 'README.md.j2') }}"
      Dockerfile: "{{ lookup('ansible.builtin.template', 'Dockerfile.j2') }}"
    secrets:
      LITELLM_MASTER_KEY: "{{ vault_litellm_master_key }}"
"""

RETURN = r"""
url:
  description: Where the Space answers. Empty in check mode where it does not exist yet.
  returned: success
  type: str
commit:
  description: The commit that runs. In check mode the one that is there.
  returned: success
  type: str
committed:
  description: Paths that the commit of this run changed, or would change.
  returned: success
  type: list
  elements: str
secrets:
  description: Names of the secrets that were, or would be, set or removed.
  returned: success
  type: list
  elements: str
variables:
  description: Names of the variables that were, or would be, set or removed.
  returned: success
  type: list
  elements: str
woken:
  description: The stage that the Space was in where it had to be restarted, else empty.
  returned: success
  type: str
stage:
  description: The stage of the Space.
  returned: success
  type: str
"""

import re
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhosted.llm.plugins.module_utils.hf_hub import Hub
from ansible_collections.selfhosted.llm.plugins.module_utils.hf_space import (
    Declared,
    HubError,
    Waiter,
    apply,
    compare,
    difference,
    leaks,
)

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*\Z", re.ASCII)
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")

ARGUMENTS: dict[str, t.Any] = {
    "repository": {"type": "str", "required": True},
    "token": {"type": "str", "required": True, "no_log": True},
    "endpoint": {"type": "str", "default": ""},
    "private": {"type": "bool", "default": True},
    "files": {"type": "dict", "required": True},
    "absent_files": {"type": "list", "elements": "str", "default": []},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "variables": {"type": "dict", "default": {}},
    "digest_key": {"type": "str", "required": True, "no_log": True},
    "commit_message": {"type": "str", "default": "Deploy by Ansible (selfhosted.llm)"},
    "timeout": {"type": "float", "default": 1800.0},
    "interval": {"type": "float", "default": 5.0},
    "log_lines": {"type": "int", "default": 40},
}


def bad_options(params: t.Mapping[str, t.Any]) -> str | None:
    if not REPOSITORY.match(params["repository"]):
        return f"repository must be owner/name, such as somebody/gateway, not {params['repository']!r}"
    for option in ("files", "secrets", "variables"):
        for name, value in params[option].items():
            if not isinstance(value, str):
                return f"{option}: the value of {name} must be a string. Put it in quotes"
            if option != "files" and not NAME.match(name):
                return f"{option}: {name!r} is no name for an environment variable"
            if option == "secrets" and not value:
                return f"secrets: {name} is empty. Leave it out, or give it a value"
    both = sorted(set(params["secrets"]) & set(params["variables"]))
    if both:
        return f"{', '.join(both)} cannot be a secret and a variable at once. The Hub would take one of them"
    if params["interval"] <= 0 or params["timeout"] <= 0:
        return "interval and timeout must be more than 0 seconds"
    return None


def publish(module: AnsibleModule, hub: Hub, declared: Declared) -> dict[str, t.Any]:
    params = module.params
    hub.check_token()
    space = hub.space()
    changes = compare(hub, space, declared)
    result = {
        "changed": changes.any,
        "committed": sorted([*changes.write, *changes.delete]),
        "secrets": sorted(changes.set_secrets + changes.delete_secrets),
        "variables": sorted([*changes.set_variables, *changes.delete_variables]),
        "woken": changes.wake,
        "diff": difference(changes, declared),
    }
    if module.check_mode:
        stage = hub.runtime().stage if space else ""
        return {**result, "url": space.url if space else "", "commit": space.sha if space else "", "stage": stage}
    sha = apply(hub, space, declared, changes, params["commit_message"])
    starts = bool(changes.commit or changes.settings or changes.wake)
    stage = Waiter(hub, params["timeout"], params["interval"], params["log_lines"]).run(sha, starts)
    found = hub.space()
    return {**result, "url": found.url if found else "", "commit": sha, "stage": stage}


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    params = module.params
    problem = bad_options(params)
    if problem:
        module.fail_json(msg=problem)
    declared = Declared(
        params["private"], params["files"], params["absent_files"], params["secrets"], params["variables"], params["digest_key"]
    )
    leaking = leaks(declared)
    if leaking:
        module.fail_json(
            msg=f"{', '.join(leaking)} would publish the value of a secret. Refer to it as os.environ/NAME, and name it in secrets only"
        )
    try:
        result = publish(module, Hub(params["repository"], params["token"], params["endpoint"]), declared)
    except HubError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
