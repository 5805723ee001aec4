#!/usr/bin/python
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the proof down: JSON, JUnit XML, one HTML page, and lines for the terminal."""

from __future__ import annotations

DOCUMENTATION = r"""
module: verify_report
short_description: Write the results of a verification as a table, JSON, JUnit XML and one HTML page
version_added: 0.1.0
author:
  - The selfhosted.llm contributors (@selfhosted-llm)
description:
  - Takes what M(selfhosted.llm.openai_api_check), the check with the OpenAI SDK and others found, and writes C(report.json), C(junit.xml)
    and C(report.html) into a directory. The page holds the topology, each check, the share of requests of each backend and the
    distribution of latency as pictures, and needs no network.
  - Does not fail when a check failed. Look at C(ok), and fail afterwards.
  - A client that gave no results counts as a failed check.
attributes:
  check_mode:
    description: Can run in check mode and return what would be written without writing it.
    support: full
  diff_mode:
    description: Returns what has changed, or would.
    support: none
options:
  path:
    description: Directory to write to. It is made where it does not exist.
    type: path
    required: true
  link:
    description: Name of a symbolic link beside the directory that is pointed at it; empty for none.
    type: str
    default: ""
  title:
    description: Title of the report.
    type: str
    default: LLM service
  client:
    description: The machine that made the calls.
    type: str
    default: localhost
  gateways:
    description: The gateways with what was found about each. An empty list is an error, as nothing would be proven.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the host.
        type: str
        required: true
      group:
        description: V(edge) for a reverse proxy in front of the gateways, which is called like one of them.
        type: str
        choices: [litellm, edge]
        default: litellm
      url:
        description: Address that was called.
        type: str
      documents:
        description:
          - The results of each client. Either what M(selfhosted.llm.openai_api_check), M(selfhosted.llm.endpoint_check) or
            M(selfhosted.llm.edge_check) returned, or the result of the command that ran the SDK check, with its C(stdout). Results of
            skipped tasks are left out.
        type: list
        elements: dict
        default: []
  topology:
    description: The hosts of the service.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the host, as in the deployment ids C(<model>@<host>).
        type: str
        required: true
      group:
        description: Its part in the service; V(server) is one OpenAI-compatible server, of which a host may have several.
        type: str
        choices: [webui, edge, litellm, llm, server]
        required: true
      url:
        description: Its address.
        type: str
      version:
        description: Version of what runs there.
        type: str
      via:
        description: How a V(server) is reached.
        type: str
        choices: [lan, tunnel]
  hide:
    description: Keys that must not appear in the report, whatever a server has answered. What looks like a key is hidden anyway.
    type: list
    elements: str
    default: []
  width:
    description: Width of the lines for the terminal.
    type: int
    default: 140
seealso:
  - module: selfhosted.llm.openai_api_check
"""

EXAMPLES = r"""
- name: Write the report
  selfhosted.llm.verify_report:
    path: "{{ lookup('ansible.builtin.env', 'PWD') }}/reports/today"
    gateways:
      - name: gateway
        url: http://gateway:4000
        documents: ["{{ api_check }}", "{{ sdk_check }}"]
    topology:
      - {name: gateway, group: litellm, url: "http://gateway:4000"}
      - {name: llm01, group: llm, url: "http://llm01:11434", version: 0.32.15}
    hide: ["{{ litellm_proxy_master_key }}"]
  delegate_to: localhost
  register: report

- name: Show the table
  ansible.builtin.debug:
    msg: "{{ report.table | join('\n') }}"
"""

RETURN = r"""
ok:
  description: Whether every client of every gateway passed.
  returned: always
  type: bool
counts:
  description: How many checks passed, failed and were skipped, over all gateways.
  returned: always
  type: dict
  sample: {passed: 24, failed: 1, skipped: 2}
summary:
  description: The verdict in a line.
  returned: always
  type: str
  sample: 1 of 25 checks failed, 2 skipped
failed_checks:
  description: Each failed check with its gateway and layer, in a line.
  returned: always
  type: list
  elements: str
table:
  description: The report as lines for the terminal.
  returned: always
  type: list
  elements: str
files:
  description: The files, by kind.
  returned: always
  type: dict
  sample: {json: /srv/reports/today/report.json, junit: /srv/reports/today/junit.xml, html: /srv/reports/today/report.html}
"""

import datetime
import json
import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhosted.llm.plugins.module_utils.files import Content, link_target, point_link, write
from ansible_collections.selfhosted.llm.plugins.module_utils.report_data import build_report, failed_checks
from ansible_collections.selfhosted.llm.plugins.module_utils.report_html import page
from ansible_collections.selfhosted.llm.plugins.module_utils.report_junit import junit
from ansible_collections.selfhosted.llm.plugins.module_utils.report_text import table
from ansible_collections.selfhosted.llm.plugins.module_utils.report_words import verdict


def write_files(contents: dict[str, str], link: str) -> None:
    """Each file is replaced whole; the link is moved when all are there."""
    for path, text in contents.items():
        write(path, Content(text.encode("utf-8"), 0o644, os.getuid(), os.getgid()))
    if link:
        target = os.path.dirname(next(iter(contents)))
        beside = os.path.join(os.path.dirname(target), link)
        link_target(beside)
        point_link(beside, os.path.basename(target))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "link": {"type": "str", "default": ""},
            "title": {"type": "str", "default": "LLM service"},
            "client": {"type": "str", "default": "localhost"},
            "gateways": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "group": {"type": "str", "choices": ["litellm", "edge"], "default": "litellm"},
                    "url": {"type": "str"},
                    "documents": {"type": "list", "elements": "dict", "default": []},
                },
            },
            "topology": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "group": {"type": "str", "choices": ["webui", "edge", "litellm", "llm", "server"], "required": True},
                    "url": {"type": "str"},
                    "version": {"type": "str"},
                    "via": {"type": "str", "choices": ["lan", "tunnel"]},
                },
            },
            "hide": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "width": {"type": "int", "default": 140},
        },
        supports_check_mode=True,
    )
    params = module.params
    if not params["gateways"]:
        module.fail_json(msg="gateways is empty: nothing was verified, so there is nothing to report")
    generated = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    report = build_report(params["title"], generated, params["client"], params["gateways"], params["topology"], params["hide"])
    folder = os.path.abspath(params["path"])
    files = {kind: os.path.join(folder, name) for kind, name in (("json", "report.json"), ("junit", "junit.xml"), ("html", "report.html"))}
    if not module.check_mode:
        contents = {files["json"]: json.dumps(report, indent=2) + "\n", files["junit"]: junit(report), files["html"]: page(report)}
        try:
            write_files(contents, params["link"])
        except (OSError, ValueError) as exc:
            module.fail_json(msg=f"the report cannot be written to {folder}: {exc}")
    module.exit_json(
        changed=True,
        ok=report["ok"],
        counts=report["counts"],
        summary=verdict(report),
        failed_checks=[f"{check['gateway']}: {check['name']} [{check['layer']}]: {check['message']}" for check in failed_checks(report)],
        table=table(report, params["width"]),
        files=files,
    )


if __name__ == "__main__":
    main()
