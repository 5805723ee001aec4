#!/usr/bin/python
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: python_release
short_description: Build a release of a Python application from a hash-locked requirements file
version_added: 0.1.0
author: The selfhosted.llm contributors (@selfhosted)
description:
  - Makes a virtual environment in O(path) and installs O(requirements) into it with C(uv pip install --require-hashes).
  - Bytecode is compiled at once. The release belongs to root, the service user cannot write it later.
  - A release that is complete is not touched. One whose build was cut off, or whose interpreter is gone, is built anew.
  - uv itself is installed from a hash-locked file, by pip, into a folder of its own.
options:
  path:
    description: Folder of the release.
    type: path
    required: true
  requirements:
    description: Requirements file on this host, each with hashes.
    type: path
    required: true
  packages:
    description:
      - Further pinned requirements, installed afterwards without their dependencies and without hashes.
    type: list
    elements: str
    default: []
  torch_backend:
    description:
      - Which of PyTorch's own indexes uv takes a torch in O(packages) from, such as V(cpu). Empty for none.
    type: str
    default: ""
  python:
    description:
      - Empty for the distribution's C(python3).
      - A version such as V(3.12) is taken from the distribution where it is there, else uv installs it.
    type: str
    default: ""
  python_range:
    description: Versions the application runs on, such as V(>=3.10,<3.14).
    type: str
    required: true
  python_variable:
    description: Name of the variable that error messages tell the user to set.
    type: str
    default: python
  python_dir:
    description: Where uv keeps the interpreters that it installs.
    type: path
    default: /opt/selfhosted-llm/python
  python_mirror:
    description: Mirror of the interpreters that uv installs, as C(UV_PYTHON_INSTALL_MIRROR).
    type: str
  uv_requirements:
    description: Requirements file on this host with uv and its hashes.
    type: path
    required: true
  uv_dir:
    description: Virtual environment that holds uv.
    type: path
    required: true
  index_url:
    description: Package index instead of the host's own setting.
    type: str
  find_links:
    description: Folder or page with further wheels.
    type: str
  ca_bundle:
    description: PEM file on this host with the certificate authorities to trust.
    type: path
  proxy_url:
    description: Proxy for HTTP and HTTPS.
    type: str
  no_proxy:
    description: Hosts to reach without the proxy, separated by commas.
    type: str
attributes:
  check_mode:
    description: Reports whether a build would happen.
    support: full
  diff_mode:
    description: A release is a folder, there is no text to compare.
    support: none
"""

EXAMPLES = r"""
- name: Build LiteLLM
  selfhosted.llm.python_release:
    path: /opt/litellm/releases/1.106.2-0123456789ab
    requirements: /opt/litellm/locks/1.106.2-0123456789ab.txt
    python_range: ">=3.10,<3.14"
    uv_requirements: /opt/selfhosted-llm/uv.txt
    uv_dir: /opt/selfhosted-llm/uv
"""

RETURN = r"""
path:
  description: Folder of the release.
  returned: always
  type: str
build_needed:
  description: Whether the release is missing or incomplete. C(changed) can be overridden by a task, this cannot.
  returned: in check mode, and where the release is complete
  type: bool
python:
  description: Version of its interpreter.
  returned: when it is built
  type: str
seconds:
  description: Seconds the build took.
  returned: when something was built
  type: float
"""

import contextlib
import hashlib
import json
import os
import shutil
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhosted.llm.plugins.module_utils.python_app import installer_environment, version_in_range

STAMP = "release.json"
DISTRIBUTION_PYTHON = "/usr/bin/python3"

ARGUMENTS = {
    "path": {"type": "path", "required": True},
    "requirements": {"type": "path", "required": True},
    "packages": {"type": "list", "elements": "str", "default": []},
    "torch_backend": {"type": "str", "default": ""},
    "python": {"type": "str", "default": ""},
    "python_range": {"type": "str", "required": True},
    "python_variable": {"type": "str", "default": "python"},
    "python_dir": {"type": "path", "default": "/opt/selfhosted-llm/python"},
    "python_mirror": {"type": "str"},
    "uv_requirements": {"type": "path", "required": True},
    "uv_dir": {"type": "path", "required": True},
    "index_url": {"type": "str"},
    "find_links": {"type": "str"},
    "ca_bundle": {"type": "path"},
    "proxy_url": {"type": "str"},
    "no_proxy": {"type": "str"},
}


def is_complete(path: str) -> bool:
    """A build's last act is its stamp; an interpreter can vanish with an upgrade of the distribution."""
    return os.path.isfile(os.path.join(path, STAMP)) and os.path.exists(os.path.join(path, "bin", "python"))


def file_hash(path: str) -> str:
    with open(path, "rb") as handle:
        return hashlib.sha256(handle.read()).hexdigest()


class Builder:
    """One build. `run` fails the module with the tool's own words."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.environment = installer_environment(
            ca_bundle=self.params["ca_bundle"],
            index_url=self.params["index_url"],
            find_links=self.params["find_links"],
            proxy_url=self.params["proxy_url"],
            no_proxy=self.params["no_proxy"],
            python_mirror=self.params["python_mirror"],
            python_dir=self.params["python_dir"],
        )

    def run(self, *command: str) -> str:
        code, out, err = self.module.run_command(list(command), environ_update=self.environment, cwd="/")
        if code != 0:
            self.module.fail_json(msg=f"{os.path.basename(command[0])} failed: {(err or out).strip()[-4000:]}", command=" ".join(command))
        return str(out).strip()

    def uv(self) -> str:
        """The path of uv, installed where its lock is new."""
        folder, lock = self.params["uv_dir"], self.params["uv_requirements"]
        program, stamp, wanted = os.path.join(folder, "bin", "uv"), os.path.join(folder, STAMP), file_hash(lock)
        if os.path.exists(stamp) and os.path.exists(program):
            with open(stamp, encoding="utf-8") as handle, contextlib.suppress(ValueError):
                if json.load(handle)["requirements"] == wanted:
                    return program
        self.run(DISTRIBUTION_PYTHON, "-m", "venv", "--clear", folder)
        pip = os.path.join(folder, "bin", "python")
        self.run(
            pip, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--require-hashes", "--requirement", lock
        )
        with open(stamp, "w", encoding="utf-8") as handle:
            json.dump({"requirements": wanted}, handle)
        return program

    def interpreter(self) -> str:
        """What to hand to `uv venv --python`."""
        wanted, allowed, variable = self.params["python"], self.params["python_range"], self.params["python_variable"]
        if wanted:
            if not version_in_range(wanted, allowed):
                self.module.fail_json(msg=f"{variable} is {wanted}, the application runs on Python {allowed}")
            return str(wanted)
        have = self.run(DISTRIBUTION_PYTHON, "-c", "import platform; print(platform.python_version())")
        if not version_in_range(have, allowed):
            self.module.fail_json(
                msg=f"this host's python3 is {have}, the application runs on Python {allowed}. "
                f"Set {variable} to a version such as 3.12: uv installs it beside the distribution's."
            )
        return DISTRIBUTION_PYTHON

    def build(self) -> str:
        path, lock = self.params["path"], self.params["requirements"]
        interpreter, uv = self.interpreter(), self.uv()
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        self.run(uv, "venv", "--quiet", "--python", interpreter, path)
        python = os.path.join(path, "bin", "python")
        install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python]
        # The lock is the whole of it: what it leaves out on purpose is not to come back as a dependency.
        self.run(*install, "--no-deps", "--require-hashes", "--requirement", lock)
        if self.params["packages"]:
            backend = self.params["torch_backend"]
            self.run(*install, "--no-deps", *(["--torch-backend", backend] if backend else []), *self.params["packages"])
        version = self.run(python, "-c", "import platform; print(platform.python_version())")
        stamp = {"python": version, "requirements": file_hash(lock), "packages": self.params["packages"]}
        with open(os.path.join(path, STAMP), "w", encoding="utf-8") as handle:
            json.dump(stamp, handle, indent=2)
        return version


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    path = module.params["path"]
    if is_complete(path):
        module.exit_json(changed=False, build_needed=False, path=path)
    if module.check_mode:
        module.exit_json(changed=True, build_needed=True, path=path)
    os.umask(0o022)
    started = time.monotonic()
    try:
        version = Builder(module).build()
    except ValueError as exc:
        module.fail_json(msg=f"{module.params['python_variable']}: {exc}")
    module.exit_json(changed=True, path=path, python=version, seconds=round(time.monotonic() - started, 1))


if __name__ == "__main__":
    main()
