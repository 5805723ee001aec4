#!/usr/bin/python
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_check
short_description: See whether a Redis can be used from this host
version_added: 0.1.0
author: The selfhosted.llm contributors (@selfhosted)
description:
  - Connects, signs in and asks for an answer. A service that cannot reach its Redis often goes on without a word, and counts for itself.
  - Needs no driver on the host, and changes nothing.
options:
  host:
    description: Name or address of Redis.
    type: str
    required: true
  port:
    description: Its port.
    type: int
    default: 6379
  password:
    description: Its password. Empty for none.
    type: str
    default: ""
  tls:
    description: Whether it is reached by TLS. The certificate is verified.
    type: bool
    default: false
  ca_bundle:
    description: PEM file with the authorities to trust.
    type: path
  prefix:
    description: Beginning of the variables that messages name, before C(host), C(port), C(password) and C(tls).
    type: str
    default: litellm_proxy_redis_
  may_be_missing:
    description: Report what is wrong and do not fail, for a Redis that the same run is going to deploy.
    type: bool
    default: false
attributes:
  check_mode:
    description: Does the same.
    support: full
  diff_mode:
    description: Nothing is changed.
    support: none
"""

EXAMPLES = r"""
- name: See whether Redis can be used
  selfhosted.llm.redis_check:
    host: store.internal
    password: "{{ vault_redis_password }}"
"""

RETURN = r"""
reachable:
  description: Whether it answered.
  returned: always
  type: bool
reason:
  description: Why it did not.
  returned: when it did not, and may be missing
  type: str
"""

import contextlib
import socket
import ssl
import typing as t

from ansible.module_utils.basic import AnsibleModule

TIMEOUT = 10

ARGUMENTS = {
    "host": {"type": "str", "required": True},
    "port": {"type": "int", "default": 6379},
    "password": {"type": "str", "default": "", "no_log": True},
    "tls": {"type": "bool", "default": False},
    "ca_bundle": {"type": "path"},
    "prefix": {"type": "str", "default": "litellm_proxy_redis_"},
    "may_be_missing": {"type": "bool", "default": False},
}


def command(*words: str) -> bytes:
    """A command of RESP: an array of strings, whatever characters they have."""
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def ask(stream: socket.socket, *words: str) -> str:
    """The first line of the answer."""
    stream.sendall(command(*words))
    answer = b""
    while not answer.endswith(b"\r\n") and len(answer) < 4096:
        part = stream.recv(4096)
        if not part:
            raise ConnectionResetError("it closed the connection")
        answer += part
    return answer.decode("utf-8", "replace").split("\r\n")[0]


def connect(params: t.Mapping[str, t.Any]) -> socket.socket:
    stream = socket.create_connection((params["host"], params["port"]), TIMEOUT)
    if not params["tls"]:
        return stream
    try:
        return ssl.create_default_context(cafile=params["ca_bundle"] or None).wrap_socket(stream, server_hostname=params["host"])
    except BaseException:
        stream.close()
        raise


def problem(params: t.Mapping[str, t.Any]) -> str | None:
    """What an operator has to change, or None."""
    prefix = params["prefix"]
    where = f"Redis at {params['host']}:{params['port']}"
    try:
        with contextlib.closing(connect(params)) as stream:
            if params["password"]:
                answer = ask(stream, "AUTH", params["password"])
                if not answer.startswith("+"):
                    return (
                        f"{prefix}password: {where} refuses it ({answer.lstrip('-')}). Correct it, or leave it empty where Redis has none."
                    )
            answer = ask(stream, "PING")
    except ssl.SSLCertVerificationError as exc:
        return f"{prefix}tls: the certificate of {where} is not trusted: {exc.verify_message}. Name its authority in the CA bundle."
    except ssl.SSLError as exc:
        return f"{prefix}tls: no TLS connection to {where} came about: {exc.reason or exc}. Set it to false where Redis has no TLS."
    except ConnectionRefusedError:
        return f"{prefix}host: nothing listens at {params['host']}:{params['port']}. Start Redis there, or correct host and port."
    except socket.gaierror as exc:
        return f"{prefix}host: the name {params['host']} does not resolve: {exc.strerror or exc}. Correct it."
    except OSError as exc:
        return f"{prefix}host: {where} does not answer: {exc}. Look for a firewall between, and check host, port and TLS."
    if answer == "+PONG":
        return None
    if answer.startswith("-NOAUTH"):
        return f"{prefix}password: {where} asks for one. Set it in the vault."
    return f"{prefix}host: what answers at {params['host']}:{params['port']} is no usable Redis: {answer[:200]}"


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    wrong = problem(module.params)
    if wrong is None:
        module.exit_json(changed=False, reachable=True)
    if module.params["may_be_missing"]:
        module.exit_json(changed=False, reachable=False, reason=wrong)
    module.fail_json(msg=wrong)


if __name__ == "__main__":
    main()
