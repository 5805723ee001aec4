# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the edge node that this runs on as its clients do, and what is behind it: a question in JSON, and a JSON list of problems."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import socket
import ssl
import sys
import time
import typing as t

TIMEOUT = 10
HERE = "127.0.0.1"
Question = t.Mapping[str, t.Any]


class Named(http.client.HTTPSConnection):
    """To this host, for the name of another."""

    def __init__(self, name: str, port: int, context: ssl.SSLContext) -> None:
        super().__init__(name, port, timeout=TIMEOUT, context=context)
        self._tls = context

    def connect(self) -> None:
        self.sock = self._tls.wrap_socket(socket.create_connection((HERE, self.port), TIMEOUT), server_hostname=self.host)

    def fingerprint(self) -> str:
        return hashlib.sha256(self.sock.getpeercert(binary_form=True) or b"").hexdigest()


def any_certificate() -> ssl.SSLContext:
    """Which one it is, is compared; whether clients trust it depends on them."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def first_certificate(path: str) -> str:
    with open(path, encoding="ascii") as handle:
        block = re.search(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", handle.read(), re.DOTALL)
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(block.group())).hexdigest() if block else ""


def status(connection: http.client.HTTPConnection, path: str, name: str = "") -> tuple[int, str]:
    """Status and Location of an answer."""
    connection.request("GET", path, headers={"Host": name} if name else {})
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.getheader("Location") or ""


def said(error: Exception) -> str:
    return str(error) or type(error).__name__


def certificates(question: Question, pause: float = 0.5, patience: float = 10) -> list[str]:
    """Each name has the certificate of the file. The workers with a new one may take a moment to come."""
    context = ssl.create_default_context(cafile=question["authority"]) if question["authority"] else any_certificate()
    wanted = first_certificate(question["certificate"])
    found = []
    for name in question["names"]:
        end = time.monotonic() + patience
        while True:
            problem = ""
            connection = Named(name, question["https_port"], context)
            try:
                connection.connect()
                if connection.fingerprint() != wanted:
                    problem = f"another one than that of {question['certificate']}"
            except (OSError, ssl.SSLError) as error:
                problem = said(error)
            finally:
                connection.close()
            if not problem or time.monotonic() > end:
                break
            time.sleep(pause)
        if problem:
            found.append(f"The certificate of {name} on port {question['https_port']}: {problem}. See /var/log/nginx/error.log.")
    return found


def redirects(question: Question) -> list[str]:
    name = question["names"][0]
    host = f"[{name}]" if ":" in name else name
    wanted = f"https://{host}" + ("" if question["https_port"] == 443 else f":{question['https_port']}") + "/v1/models"
    try:
        got = status(http.client.HTTPConnection(HERE, question["http_port"], timeout=TIMEOUT), "/v1/models", host)
    except (OSError, http.client.HTTPException) as error:
        return [f"Port {question['http_port']} does not answer: {said(error)}."]
    return [] if got == (308, wanted) else [f"Port {question['http_port']} should redirect to {wanted}, and answers {got[0]} {got[1]}."]


def strangers(question: Question) -> list[str]:
    """A name that is none of ours gets no service: no handshake, or where addresses are served, the status that says so."""
    try:
        got, _location = status(Named("not-served.invalid", question["https_port"], any_certificate()), "/")
    except (OSError, http.client.HTTPException):
        return []
    return [] if got == 421 else [f"Port {question['https_port']} answers {got} to a name that is not served; it should refuse it."]


def behind(question: Question) -> list[str]:
    """Every host by itself, as one that is down does not show from outside; then the way through nginx."""
    found = []
    for service in question["services"]:
        if not service["names"]:
            continue
        for host in service["hosts"]:
            where = f"{service['what']} {host['host']} port {host['port']}"
            try:
                got = status(http.client.HTTPConnection(host["host"], int(host["port"]), timeout=TIMEOUT), service["path"])[0]
            except (OSError, http.client.HTTPException) as error:
                found.append(f"This host does not reach {where}: {said(error)}. Does it run, and does its firewall admit this host?")
                continue
            if got != 200:
                found.append(f"The {where} answers {got} to {service['path']}, not 200. See its journal.")
        name = service["names"][0]
        try:
            got = status(Named(name, question["https_port"], any_certificate()), service["path"])[0]
        except (OSError, http.client.HTTPException) as error:
            found.append(f"https://{name} does not answer on this host: {said(error)}.")
            continue
        if got != 200:
            found.append(f"https://{name}{service['path']} answers {got}, not 200. See /var/log/nginx/error.log.")
    return found


def main() -> None:
    question: Question = json.load(sys.stdin)
    print(json.dumps([*certificates(question), *redirects(question), *strangers(question), *behind(question)]))


if __name__ == "__main__":
    main()
