#!/usr/bin/python
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks all servers behind a gateway at once whether they are well."""

from __future__ import annotations

DOCUMENTATION = r"""
module: endpoint_check
short_description: Ask servers for their health, as the host sees them on which it runs
version_added: 0.1.0
author:
  - The selfhosted.llm contributors (@selfhosted-llm)
description:
  - Asks all endpoints at once. Run it on a gateway, and it tells whether the gateway reaches its OpenAI-compatible servers, over the
    network or through tunnels.
  - Each check that fails names the layer at fault. A C(llama-server) that is loading its model is told from one that failed.
  - No proxy is used.
attributes:
  check_mode:
    description: Changes nothing in any mode.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
options:
  endpoints:
    description: What to ask. An empty list is an error, as nothing would be proven.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: How the server is called in the results, as in the ids of deployments C(<model>@<name>).
        type: str
        required: true
      url:
        description: Base address of the server, without C(/v1).
        type: str
        required: true
      path:
        description: Path that says whether it is well.
        type: str
        default: /health
      status:
        description: HTTP status of a server that is well.
        type: int
        default: 200
      token:
        description: Bearer token, for servers that want one there.
        type: str
      ca_path:
        description: PEM file with the certificate authorities to trust instead of the system's.
        type: path
      timeout:
        description: Seconds to wait for an answer.
        type: float
        default: 10.0
      via:
        description: How the server is reached; a failure behind a tunnel says what that means for the tunnel.
        type: str
        choices: [lan, tunnel]
        default: lan
  report_only:
    description: Return the results without failing when a check failed, so that a report can be written first. Look at C(ok).
    type: bool
    default: false
seealso:
  - module: selfhosted.llm.openai_api_check
  - module: selfhosted.llm.verify_report
"""

EXAMPLES = r"""
- name: Ask the servers from the gateway
  selfhosted.llm.endpoint_check:
    endpoints:
      - {name: "gpu-1:8080", url: "http://192.0.2.11:8080"}
      - {name: "gpu-2:8080", url: "http://127.0.0.1:18080", via: tunnel, timeout: 5}
      - {name: vllm, url: "https://vllm.example.com", token: "{{ vault_vllm_key }}"}
"""

RETURN = r"""
ok:
  description: Whether every server is well.
  returned: always
  type: bool
client:
  description: What made the calls.
  returned: always
  type: str
  sample: endpoint_check
url:
  description: Empty, as each check has its own.
  returned: always
  type: str
counts:
  description: How many checks passed, failed and were skipped.
  returned: always
  type: dict
  sample: {passed: 7, failed: 1, skipped: 0}
checks:
  description: One check for each endpoint, in its order.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: What was checked.
      type: str
    group:
      description: Always C(servers).
      type: str
    status:
      description: C(passed) or C(failed).
      type: str
    layer:
      description: Where a failed check failed, one of C(refused), C(dns), C(timeout), C(tls), C(auth), C(backend) and C(protocol).
      type: str
    message:
      description: What was found.
      type: str
    seconds:
      description: How long it took.
      type: float
    details:
      description: The C(endpoint), its C(url), how it is reached (C(via)), and the C(http_status) if there was an answer.
      type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhosted.llm.plugins.module_utils.checklist import failure_message
from ansible_collections.selfhosted.llm.plugins.module_utils.endpoints import Endpoint, check_endpoints

ENDPOINT_OPTIONS = {
    "name": {"type": "str", "required": True},
    "url": {"type": "str", "required": True},
    "path": {"type": "str", "default": "/health"},
    "status": {"type": "int", "default": 200},
    "token": {"type": "str", "no_log": True},
    "ca_path": {"type": "path"},
    "timeout": {"type": "float", "default": 10.0},
    "via": {"type": "str", "choices": ["lan", "tunnel"], "default": "lan"},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "endpoints": {"type": "list", "elements": "dict", "required": True, "options": ENDPOINT_OPTIONS},
            "report_only": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    endpoints = [Endpoint(**entry) for entry in module.params["endpoints"]]
    if not endpoints:
        module.fail_json(msg="endpoints is empty: there is nothing to prove")
    for endpoint in endpoints:
        if endpoint.timeout <= 0:
            module.fail_json(msg=f"the timeout of {endpoint.name} must be more than 0")
    result = check_endpoints(endpoints)
    if result["ok"]:
        module.exit_json(changed=False, **result)
    message = failure_message(result["checks"])
    if module.params["report_only"]:
        module.exit_json(msg=message, changed=False, **result)
    module.fail_json(msg=message, changed=False, **result)


if __name__ == "__main__":
    main()
