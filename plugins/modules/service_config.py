#!/usr/bin/python
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_config
short_description: Make changed files of a packaged service live, or leave it as it was
version_added: 0.1.0
author: The selfhosted.llm contributors (@selfhosted)
description:
  - For a service whose program is no matter of the task, such as one that comes from a package.
    All files that belong to its configuration are given together, its unit too where it is not the package's.
  - Each changed file is tried first by its O(files[].check), on a copy. Only when all pass, they are written and the service is reloaded,
    or restarted where that is needed.
  - Where the service does not become ready, the files are put back, it is restarted with them, and the task fails with the end of its log.
  - A run that was interrupted after writing is finished by the next one.
options:
  service:
    description: The systemd unit, without C(.service).
    type: str
    required: true
  state:
    description: V(absent) stops and disables the unit, and removes it and O(files).
    type: str
    choices: [present, absent]
    default: present
  files:
    description: Files of the service, its unit and drop-ins of it included.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Where it goes. Missing folders are made.
        type: path
        required: true
      content:
        description: What is in it. Diffs show it. This or O(files[].secret_content) is required with O(state=present).
        type: str
      secret_content:
        description: The same, where nobody should see it.
        type: str
      owner:
        description: User that owns it.
        type: str
        default: root
      group:
        description: Group that owns it.
        type: str
        default: root
      mode:
        description: Permissions, as an octal number in a string.
        type: str
        default: "0644"
      check:
        description: >-
          Command that must succeed before anything is changed. V({file}) in it stands for a copy of the new content.
        type: list
        elements: str
        default: []
      reload:
        description: Whether a reload is enough when this file has changed, unless O(restart_needed) says otherwise.
        type: bool
        default: false
  restart_needed:
    description: >-
      Command that is asked, after files were written for which a reload should do, whether a restart is needed after all.
      It is when the command prints something.
    type: list
    elements: str
    default: []
  ready:
    description: Command that succeeds when the service answers. Without it and O(ready_url) the service must be active.
    type: list
    elements: str
    default: []
  ready_url:
    description: URL that answers a GET with status 200 when the service does. It is asked without a proxy.
    type: str
  timeout:
    description: Seconds until the service must be ready.
    type: int
    default: 60
attributes:
  check_mode:
    description: Compares only; also on a host that has neither the service nor its users yet.
    support: full
  diff_mode:
    description: Shows the files, and of secret ones only that they change.
    support: full
"""

EXAMPLES = r"""
- name: Configure Redis
  selfhosted.llm.service_config:
    service: redis-server
    files:
      - path: /etc/redis/site.conf
        content: "{{ lookup('ansible.builtin.template', 'redis.conf.j2') }}"
        group: redis
        mode: "0640"
        check: [timeout, --preserve-status, "1", redis-server, "{file}", --port, "0"]
"""

RETURN = r"""
action:
  description: What was (or would be) done with the service.
  returned: always
  type: str
  choices: [none, start, reload, restart, remove]
files:
  description: Paths of the files that were (or would be) written.
  returned: always
  type: list
  elements: str
restored:
  description: Whether the service runs again with its former files.
  returned: when it did not become ready
  type: bool
removed:
  description: Files that were (or would be) removed.
  returned: O(state=absent)
  type: list
  elements: str
"""

import contextlib
import os
import tempfile
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhosted.llm.plugins.module_utils import files
from ansible_collections.selfhosted.llm.plugins.module_utils.deployment import STATE_ROOT, remove_service
from ansible_collections.selfhosted.llm.plugins.module_utils.probe import Probe, answer_of
from ansible_collections.selfhosted.llm.plugins.module_utils.quiet import QuietModule
from ansible_collections.selfhosted.llm.plugins.module_utils.systemd import UNIT_DIR, Systemd, SystemdError

_ENABLED = ("enabled", "enabled-runtime", "static", "generated", "alias", "indirect")


class ConfigError(Exception):
    """What is wrong with the new files, or why the service does not run with them."""


class WantedFile:
    """One file as it should be, beside what it is."""

    def __init__(self, options: dict[str, t.Any]) -> None:
        self.path: str = options["path"]
        self.secret = options["secret_content"] is not None
        self.text: str = options["secret_content"] if self.secret else options["content"]
        self.check: list[str] = options["check"]
        self.reload: bool = options["reload"]
        self._owner = (options["owner"], options["group"])
        self._mode = int(options["mode"], 8)
        self._before = files.read(self.path)

    def content(self) -> files.Content:
        """Raises KeyError where the owner is still to come with a package."""
        owner, group = self._owner
        return files.Content(self.text.encode(), self._mode, files.user_id(owner), files.group_id(group))

    @property
    def changed(self) -> bool:
        try:
            return self._before != self.content()
        except KeyError:
            return True

    def diff(self) -> dict[str, str]:
        before = "" if self._before is None else self._before.data.decode("utf-8", "replace")
        after = self.text
        if self.secret:
            before, after = before and "(secret)\n", "(secret)\n" if before == after else "(secret, changed)\n"
        return {"before_header": self.path, "after_header": self.path, "before": before, "after": after}

    def try_out(self, run: t.Callable[..., t.Any]) -> None:
        """Have the check look at a copy."""
        if not self.check:
            return
        content = self.content()
        with tempfile.TemporaryDirectory(prefix="service-config-") as folder:
            copy = os.path.join(folder, os.path.basename(self.path))
            files.write(copy, content)
            code, out, err = run([word.replace("{file}", copy) for word in self.check], cwd=folder)
        if code != 0:
            said = "\n".join(line for line in (out + "\n" + err).splitlines() if line.strip()).replace(copy, self.path)
            raise ConfigError(f"the new {self.path} was refused, and nothing was changed:\n{said}")


class Service:
    """The unit, and what can be done with it."""

    def __init__(self, params: dict[str, t.Any], run: t.Callable[..., t.Any], systemd: Systemd) -> None:
        self.name: str = params["service"]
        self.unit = f"{self.name}.service"
        self.unit_path = os.path.join(UNIT_DIR, self.unit)
        self._ready: list[str] = params["ready"]
        self._ready_url: str = params["ready_url"] or ""
        self._timeout: int = params["timeout"]
        self._run, self.systemd = run, systemd

    def act(self, action: str) -> None:
        """Start, reload or restart it, and wait until it answers. ConfigError where it does not."""
        since = time.time()
        # While it is down nothing of its own can answer. Once it starts, that cannot be told apart until it ends.
        down = action == "start" and self.systemd.state(self.unit).active in ("inactive", "failed")
        if down and self._ready_url and answer_of(Probe(""), self._ready_url) is None:
            raise ConfigError(f"something else answers at {self._ready_url}, where {self.unit} is to listen")
        try:
            self.systemd.ctl(action, self.unit)
            self._wait()
        except (SystemdError, ConfigError) as exc:
            raise ConfigError(f"{exc}\nThe end of its log:\n{self.systemd.journal(self.unit, since=since)}") from exc

    def _wait(self) -> None:
        end = time.monotonic() + self._timeout
        while True:
            state = self.systemd.state(self.unit)
            wrong = self._not_ready() if state.running else ""
            if wrong is None:
                return
            if state.ended:
                raise ConfigError(f"{self.unit} ended ({state.result or state.active})")
            if time.monotonic() > end:
                raise ConfigError(f"{self.unit} was not ready after {self._timeout} seconds{': ' if wrong else ''}{wrong}")
            time.sleep(0.5)

    def _not_ready(self) -> str | None:
        """None where it is ready; else what keeps it from that, or "" where that cannot be said."""
        if self._ready and self._run(self._ready)[0] != 0:
            return ""
        if not self._ready_url:
            return None
        wrong = answer_of(Probe(""), self._ready_url)
        # It may have ended meanwhile because something else has its port, and answers there.
        return wrong if wrong or self.systemd.state(self.unit).running else f"something else answers at {self._ready_url}"


def choose(service: Service, changed: list[WantedFile], interrupted: bool) -> str:
    """What makes the files live. A restart that a reload turns out to need is found after writing."""
    if not service.systemd.state(service.unit).running:
        return "start"
    if interrupted or not all(file.reload for file in changed):
        return "restart"
    return "reload" if changed else "none"


def apply(module: AnsibleModule, service: Service, changed: list[WantedFile], action: str, marker: str) -> str:
    """Write the files and make them live; returns what was done. Puts everything back where that fails."""
    for file in changed:
        file.try_out(module.run_command)
    before = files.Snapshot.take([file.path for file in changed], [])
    units = any(file.path.startswith(UNIT_DIR + os.sep) for file in changed)
    if changed:
        files.write(marker, files.Content(b"", 0o600, 0, 0))
    try:
        for file in changed:
            files.write(file.path, file.content())
        if units:
            service.systemd.ctl("daemon-reload")
        if action == "reload" and module.params["restart_needed"]:
            code, out, err = module.run_command(module.params["restart_needed"])
            if code != 0:
                raise ConfigError(f"cannot tell whether {service.unit} must be restarted: {(err or out).strip()}")
            if out.strip():
                action = "restart"
        service.act(action)
    except (ConfigError, SystemdError, OSError) as exc:
        if not changed:
            raise
        restored = put_back(service, before, units, marker, gently=action == "reload")
        ending = "It runs again with its former files." if restored else "It does not run with its former files either."
        if is_new(service, before):
            ending = "It is new, and nothing of it was left."
        module.fail_json(msg=f"{exc}\n{ending}", action=action, files=[file.path for file in changed], restored=restored)
    files.remove(marker)
    return action


def is_new(service: Service, before: files.Snapshot) -> bool:
    """Whether the unit itself is among the files, and was not there before."""
    return service.unit_path in before.files and before.files[service.unit_path] is None


def put_back(service: Service, before: files.Snapshot, units: bool, marker: str, gently: bool) -> bool:
    """The former files, and the service with them; `gently` without a restart where that is enough. True where it is ready again."""
    try:
        if is_new(service, before):
            with contextlib.suppress(SystemdError):
                service.systemd.ctl("stop", service.unit)
        before.restore()
        files.remove(marker)
        if units:
            service.systemd.ctl("daemon-reload")
        with contextlib.suppress(SystemdError):
            # A unit that failed too often refuses to start until this.
            service.systemd.ctl("reset-failed", service.unit)
        if is_new(service, before):
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(marker))
            return False
        if gently and service.systemd.state(service.unit).running:
            with contextlib.suppress(ConfigError):
                service.act("reload")
                return True
        service.act("restart")
    except (ConfigError, SystemdError, OSError):
        return False
    return True


def absent(module: AnsibleModule, service: Service) -> None:
    paths = [item["path"] for item in module.params["files"] if item["path"] != service.unit_path]
    if module.check_mode:
        there = [path for path in (service.unit_path, *paths, os.path.join(STATE_ROOT, service.name)) if os.path.lexists(path)]
    else:
        there = remove_service(service.name, paths, service.systemd)
    module.exit_json(changed=bool(there), action="remove" if there else "none", files=[], removed=there)


def main() -> None:
    module = QuietModule(
        argument_spec={
            "service": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str"},
                    "secret_content": {"type": "str", "no_log": True},
                    "owner": {"type": "str", "default": "root"},
                    "group": {"type": "str", "default": "root"},
                    "mode": {"type": "str", "default": "0644"},
                    "check": {"type": "list", "elements": "str", "default": []},
                    "reload": {"type": "bool", "default": False},
                },
                "mutually_exclusive": [("content", "secret_content")],
            },
            "restart_needed": {"type": "list", "elements": "str", "default": []},
            "ready": {"type": "list", "elements": "str", "default": []},
            "ready_url": {"type": "str"},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    systemd = Systemd(module.run_command)
    service = Service(module.params, module.run_command, systemd)
    marker = os.path.join(STATE_ROOT, service.name.replace("/", "_"), "unfinished")
    try:
        if module.params["state"] == "absent":
            absent(module, service)
        empty = [item["path"] for item in module.params["files"] if item["content"] is None and item["secret_content"] is None]
        if empty:
            module.fail_json(msg=f"{', '.join(empty)}: content or secret_content is missing in files")
        changed = [file for file in map(WantedFile, module.params["files"]) if file.changed]
        action = choose(service, changed, interrupted=os.path.exists(marker))
        enable = systemd.state(service.unit).enabled not in _ENABLED
        facts: dict[str, t.Any] = {"files": [file.path for file in changed], "diff": [file.diff() for file in changed]}
        if action != "none" and not module.check_mode:
            action = apply(module, service, changed, action, marker)
        if enable and not module.check_mode:
            systemd.ctl("enable", service.unit)
        module.exit_json(changed=enable or action != "none", action=action, **facts)
    except KeyError as exc:
        module.fail_json(msg=f"a file should belong to somebody who is not there: {exc}")
    except (ConfigError, SystemdError, OSError) as exc:
        module.fail_json(msg=str(exc))


if __name__ == "__main__":
    main()
