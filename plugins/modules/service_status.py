#!/usr/bin/python
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_status
short_description: Report units or containers, releases, models and health of this host's services
version_added: 0.1.0
author: The selfhosted.llm contributors (@selfhosted)
description:
  - Reads only. A service that is missing or does not answer is a line of the result, not a failure.
options:
  services:
    description: What to look at.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Name of the systemd unit, without C(.service), or of the service that runs in O(services[].container).
          - A pattern such as V(llm-tunnel-*) stands for all services that are enabled or have failed, and may stand for none.
        type: str
        required: true
      container:
        description:
          - Name of the Docker container that the service runs in. Empty for a systemd unit.
          - Without O(services[].url) it is healthy when it runs and its own health check, if it has one, has passed.
        type: str
        default: ""
      current:
        description: Symbolic link to the live release. Empty where its packages are the distribution's.
        type: path
        default: ""
      url:
        description: Where it answers on this host. Empty for a service that does not speak HTTP, and for a pattern.
        type: str
        default: ""
      health:
        description: Path that answers 200 when it is healthy.
        type: str
        default: ""
      port:
        description:
          - Port on loopback of a service without O(services[].url). It is healthy when its unit is active and it takes a connection.
          - A service that has no O(services[].command) either is healthy when its unit is active.
        type: int
      command:
        description:
          - Command that succeeds when a service without O(services[].url) and O(services[].port) is healthy. Its unit has to be active too.
        type: list
        elements: str
        default: []
      models:
        description: Path of its list of models. Empty where it has none.
        type: str
        default: ""
      token:
        description: Bearer token for O(services[].models).
        type: str
        default: ""
attributes:
  check_mode:
    description: Changes nothing in any mode.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Look at the gateway
  selfhosted.llm.service_status:
    services:
      - name: litellm
        current: /opt/litellm/current
        url: http://127.0.0.1:4000
        health: /health/readiness
        models: /v1/models
        token: "{{ vault_litellm_master_key }}"

- name: Look at the containers of a Compose project
  selfhosted.llm.service_status:
    services:
      - name: litellm-proxy
        container: selfhosted-llm-litellm-proxy-1
        url: http://127.0.0.1:4000
        health: /health/readiness
      - {name: litellm-db, container: selfhosted-llm-litellm-db-1}

- name: Look at the GPU host
  selfhosted.llm.service_status:
    services: [{name: "llama-server-*"}, {name: "llm-tunnel-*"}]
"""

RETURN = r"""
services:
  description: One entry for each of O(services), in its order, and for each service of a pattern.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the unit, or O(services[].name) of a container.
      type: str
    unit:
      description: State of the unit, such as V(active), or of the container, such as V(running), or V(not installed).
      type: str
    enabled:
      description: Whether it starts at boot.
      type: bool
    restarts:
      description: How often systemd or Docker had to restart it.
      type: int
    release:
      description: Name of the live release, or tag of the container's image.
      type: str
    healthy:
      description: >-
        Whether O(services[].health) answered 200, O(services[].port) took a connection, O(services[].command) succeeded, or the unit
        without these is active, or the container without O(services[].url) runs and is healthy.
      type: bool
    health:
      description: V(ok), or what was wrong.
      type: str
    models:
      description: Names of the models it lists, sorted.
      type: list
      elements: str
"""

import json
import os
import shutil
import socket
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhosted.llm.plugins.module_utils import files
from ansible_collections.selfhosted.llm.plugins.module_utils.http import ApiClient, ApiError
from ansible_collections.selfhosted.llm.plugins.module_utils.systemd import RunCommand, Systemd

SERVICE_OPTIONS = {
    "name": {"type": "str", "required": True},
    "container": {"type": "str", "default": ""},
    "current": {"type": "path", "default": ""},
    "url": {"type": "str", "default": ""},
    "health": {"type": "str", "default": ""},
    "port": {"type": "int"},
    "command": {"type": "list", "elements": "str", "default": []},
    "models": {"type": "str", "default": ""},
    "token": {"type": "str", "default": "", "no_log": True},
}


def model_names(answer: t.Any) -> list[str]:
    """The names in OpenAI's {"data": [{"id"}]} or Ollama's {"models": [{"name"}]}."""
    if not isinstance(answer, dict):
        return []
    items = answer.get("data") or answer.get("models") or []
    return sorted(str(item.get("id") or item.get("name")) for item in items if isinstance(item, dict))


def port_problem(port: int) -> str:
    """Why nothing takes a connection there, or nothing."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError as exc:
        return f"port {port}: {exc}"
    return ""


def command_problem(command: list[str], run: RunCommand) -> str:
    """What the command said when it failed, or nothing."""
    code, out, err = run(command)
    said = [line for line in (err or out).splitlines() if line.strip()]
    return (said[-1] if said else f"{command[0]} ended with {code}") if code else ""


class Found(t.NamedTuple):
    """A unit or a container: its state ("" where there is none), and what is wrong with it by itself."""

    state: str
    enabled: bool
    restarts: int
    release: str
    problem: str


def unit_of(service: dict[str, t.Any], systemd: Systemd) -> Found:
    state = systemd.state(f"{service['name']}.service")
    try:
        target = files.link_target(service["current"]) if service["current"] else None
    except ValueError:
        target = None
    return Found(
        "" if state.load == "not-found" else state.active,
        state.enabled == "enabled",
        state.restarts,
        os.path.basename(target) if target else "",
        "" if state.active == "active" else f"the unit is {state.active}",
    )


def container_of(name: str, run: RunCommand) -> Found:
    code, out, _err = run(["docker", "container", "inspect", name]) if shutil.which("docker") else (1, "", "")
    if code != 0:
        return Found("", False, 0, "", "")
    raw = json.loads(out)[0]
    state = raw["State"]
    # A registry may have a port, and a digest may follow the tag.
    tag = raw["Config"]["Image"].rpartition("/")[2].partition("@")[0].partition(":")[2]
    worst = state["Status"] if state["Status"] != "running" else (state.get("Health") or {}).get("Status", "healthy")
    restarted = raw["HostConfig"]["RestartPolicy"]["Name"] in ("always", "unless-stopped")
    problem = "" if worst in ("healthy", "none") else f"the container is {worst}"
    return Found(state["Status"], restarted, raw.get("RestartCount", 0), tag, problem)


def look_at(service: dict[str, t.Any], systemd: Systemd, run: RunCommand) -> dict[str, t.Any]:
    there = container_of(service["container"], run) if service["container"] else unit_of(service, systemd)
    found = {
        "name": service["name"],
        "unit": there.state or "not installed",
        "enabled": there.enabled,
        "restarts": there.restarts,
        "release": there.release,
        "healthy": False,
        "health": "not asked",
        "models": [],
    }
    if not there.state:
        return found
    if not service["url"]:
        problem = there.problem
        if not problem and service["port"]:
            problem = port_problem(service["port"])
        elif not problem and service["command"]:
            problem = command_problem(service["command"], run)
        found.update(healthy=not problem, health=problem or "ok")
        return found
    client = ApiClient(service["url"], token=service["token"] or None, timeout=10, use_proxy=False)
    try:
        client.request("GET", service["health"])
        found.update(healthy=True, health="ok")
        if service["models"]:
            found["models"] = model_names(client.request("GET", service["models"]).json())
    except ApiError as exc:
        found.update(healthy=False, health=exc.message)
    return found


def expanded(service: dict[str, t.Any], systemd: Systemd) -> list[dict[str, t.Any]]:
    """The service itself, or those that its pattern stands for."""
    if service["container"] or "*" not in service["name"]:
        return [service]
    return [dict(service, name=name) for name in systemd.services(service["name"])]


def main() -> None:
    module = AnsibleModule(
        {
            "services": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": SERVICE_OPTIONS,
                "required_by": {"url": ("health",)},
            }
        },
        supports_check_mode=True,
    )
    systemd = Systemd(module.run_command)
    services = [one for service in module.params["services"] for one in expanded(service, systemd)]
    module.exit_json(changed=False, services=[look_at(service, systemd, module.run_command) for service in services])


if __name__ == "__main__":
    main()
