#!/usr/bin/python
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proves what a reverse proxy with TLS promises, beside what is behind it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: edge_check
short_description: Prove that a reverse proxy has good certificates and lets in only what it should
version_added: 0.1.0
author:
  - The selfhosted.llm contributors (@selfhosted-llm)
description:
  - Looks at each name of a reverse proxy as a client does. It checks that the certificate is trusted and ends not too soon, that TLS 1.0
    and 1.1 are refused, that browsers are told to stay with C(https) (HSTS), that C(http) is sent on to C(https), and that paths for
    administrators are refused. Of Open WebUI it opens the page.
  - What the API does is proven by M(selfhosted.llm.openai_api_check), called by the same name.
attributes:
  check_mode:
    description: Changes nothing in any mode.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
options:
  sites:
    description: The names of the reverse proxy. An empty list is an error, as nothing would be proven.
    type: list
    elements: dict
    required: true
    suboptions:
      url:
        description: Address of the name, which begins with C(https).
        type: str
        required: true
      kind:
        description: What is behind it. Pages are opened of V(webui).
        type: str
        choices: [api, webui]
        default: api
      http_port:
        description: Port without TLS that must send clients on to O(sites[].url). V(0) where there is none.
        type: int
        default: 80
      refused_paths:
        description: Paths that must be refused with HTTP 403 or 404.
        type: list
        elements: str
        default: []
      admitted_networks:
        description: Networks that O(sites[].refused_paths) are open to. Where this client is in one of them, their check is skipped.
        type: list
        elements: str
        default: []
  connect_to:
    description:
      - Address, or C(address:port), to connect to instead of the host of each O(sites[].url), as for a name that DNS does not know yet, or
        for one of several machines behind one name. The name stays that of the certificate.
    type: str
  ca_path:
    description: PEM file with the certificate authorities to trust instead of the system's.
    type: path
  timeout:
    description: Seconds to wait for an answer.
    type: float
    default: 10.0
  min_days:
    description: For how many more days a certificate must be good. Renewal begins well before, so one that ends sooner was forgotten.
    type: int
    default: 14
  hsts:
    description: Whether answers must have the header C(Strict-Transport-Security).
    type: bool
    default: true
  report_only:
    description: Return the results without failing when a check failed, so that a report can be written first. Look at C(ok).
    type: bool
    default: false
seealso:
  - module: selfhosted.llm.openai_api_check
  - module: selfhosted.llm.verify_report
"""

EXAMPLES = r"""
- name: Prove that the edge keeps its promises, before DNS knows it
  selfhosted.llm.edge_check:
    connect_to: 192.0.2.10
    ca_path: /etc/ssl/certs/company.pem
    sites:
      - url: https://api.example.com
        refused_paths: [/ui/, /key/list]
        admitted_networks: [10.0.0.0/8]
      - url: https://chat.example.com
        kind: webui
"""

RETURN = r"""
ok:
  description: Whether no check failed, and at least one passed.
  returned: always
  type: bool
client:
  description: What made the calls, and where it connected to.
  returned: always
  type: str
  sample: edge_check at 192.0.2.10
url:
  description: The first of O(sites).
  returned: always
  type: str
  sample: https://api.example.com
counts:
  description: How many checks passed, failed and were skipped.
  returned: always
  type: dict
  sample: {passed: 12, failed: 0, skipped: 1}
checks:
  description: Each check, name by name.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The host name, and what was checked of it.
      type: str
    group:
      description: Always C(edge).
      type: str
    status:
      description: C(passed), C(failed) or C(skipped).
      type: str
    layer:
      description: Where a failed check failed, one of C(refused), C(dns), C(timeout), C(tls), C(auth), C(backend) and C(protocol).
      type: str
    message:
      description: What was found, or the reason for skipping.
      type: str
    seconds:
      description: How long it took.
      type: float
    details:
      description: What was measured, such as C(days_left), C(not_after), C(issuer) and C(names) of a certificate.
      type: dict
"""

import ipaddress
import typing as t
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhosted.llm.plugins.module_utils.checklist import failure_message
from ansible_collections.selfhosted.llm.plugins.module_utils.edge_checks import EdgePlan, Site, check_edge
from ansible_collections.selfhosted.llm.plugins.module_utils.http import ApiError, split_address

SITE_OPTIONS = {
    "url": {"type": "str", "required": True},
    "kind": {"type": "str", "choices": ["api", "webui"], "default": "api"},
    "http_port": {"type": "int", "default": 80},
    "refused_paths": {"type": "list", "elements": "str", "default": []},
    "admitted_networks": {"type": "list", "elements": "str", "default": []},
}


def bad_options(params: dict[str, t.Any]) -> str | None:
    """Why the options cannot prove anything, or None."""
    if not params["sites"]:
        return "sites is empty: there is nothing to prove"
    for site in params["sites"]:
        parts = urlsplit(site["url"])
        if parts.scheme != "https" or not parts.hostname or parts.path.strip("/"):
            return f"the url of a site must be one such as https://api.example.com, not {site['url']!r}"
        for network in site["admitted_networks"]:
            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError as exc:
                return f"admitted_networks: {exc}"
    if params["timeout"] <= 0:
        return "timeout must be more than 0"
    if params["connect_to"]:
        try:
            split_address(params["connect_to"], 443)
        except ApiError as exc:
            return f"connect_to: {exc.message}"
    return None


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "sites": {"type": "list", "elements": "dict", "required": True, "options": SITE_OPTIONS},
            "connect_to": {"type": "str"},
            "ca_path": {"type": "path"},
            "timeout": {"type": "float", "default": 10.0},
            "min_days": {"type": "int", "default": 14},
            "hsts": {"type": "bool", "default": True},
            "report_only": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    problem = bad_options(params)
    if problem:
        module.fail_json(msg=problem)
    plan = EdgePlan(params["ca_path"], params["connect_to"], params["timeout"], params["min_days"], params["hsts"])
    result = check_edge([Site(**site) for site in params["sites"]], plan)
    if result["ok"]:
        module.exit_json(changed=False, **result)
    message = failure_message(result["checks"])
    if params["report_only"]:
        module.exit_json(msg=message, changed=False, **result)
    module.fail_json(msg=message, changed=False, **result)


if __name__ == "__main__":
    main()
