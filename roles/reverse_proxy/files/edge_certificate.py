# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the certificate of an edge node, in one file with its key, so that nginx never sees half of a change.

    renew     make what is missing or due: self-signed by an authority of its own, or else only what nginx can start with
    acme      have certbot obtain what is missing or declared otherwise, and install it
    deploy    install what certbot renewed (its deploy hook)

Each reloads nginx where the certificate is another one, and prints a line for everything that it made. With --dry-run it only prints.
Settings are JSON, from standard input with --stdin, else from the file beside the certificate.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import typing as t

SETTINGS = "/etc/selfhosted-llm/edge/certificate.json"
DAYS = 365
RENEW_DAYS = 30
AUTHORITY_DAYS = 3650
KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]


class CertificateError(Exception):
    """What went wrong, for the operator."""


def run(*command: str, env: t.Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, env={**os.environ, **(env or {})}, check=False)
    if done.returncode != 0:
        said = (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace").strip()
        raise CertificateError(f"{' '.join(command[:2])} failed:\n{said}")
    return done.stdout.decode("utf-8", "replace")


def read(path: str) -> bytes:
    try:
        with open(path, "rb") as handle:
            return handle.read()
    except FileNotFoundError:
        return b""


def write(path: str, data: bytes, mode: int) -> None:
    """Replaced whole or not at all, and never readable by more than it should be."""
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            os.fchmod(stream.fileno(), mode)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def canonical(name: str) -> str:
    """A name or an address as it is compared: openssl writes 2001:DB8:0:0:0:0:0:1."""
    try:
        return str(ipaddress.ip_address(name.strip()))
    except ValueError:
        return name.strip().lower()


def alternative_names(names: t.Sequence[str]) -> str:
    """The value of subjectAltName."""
    found = []
    for name in names:
        try:
            found.append(f"IP:{ipaddress.ip_address(name)}")
        except ValueError:
            found.append(f"DNS:{name}")
    return ",".join(found)


def names_of(text: str) -> set[str]:
    """The names in what `openssl x509 -ext subjectAltName` prints."""
    return {canonical(value) for value in re.findall(r"(?:DNS|IP Address):([^,\s]+)", text)}


def names_in(path: str) -> set[str]:
    return names_of(run("openssl", "x509", "-in", path, "-noout", "-ext", "subjectAltName"))


def lasts(path: str, days: int) -> bool:
    try:
        run("openssl", "x509", "-in", path, "-noout", "-checkend", str(days * 86400))
    except CertificateError:
        return False
    return True


class Edge:
    """The files of one node."""

    def __init__(self, settings: t.Mapping[str, t.Any]) -> None:
        self.source: str = settings["source"]
        self.names: list[str] = settings["names"]
        self.folder: str = settings["folder"]
        self.host: str = settings["host"]
        self.acme: t.Mapping[str, t.Any] = settings.get("acme") or {}
        self.site = os.path.join(self.folder, "site.pem")
        self.authority = os.path.join(self.folder, "ca.crt")
        self.authority_key = os.path.join(self.folder, "ca.key")

    # --- self-signed

    def due(self) -> str:
        """Why there is something to make, or nothing."""
        if not read(self.site):
            return "there is none"
        if self.source != "self_signed":
            return ""
        if not read(self.authority):
            return "there is no authority"
        try:
            run("openssl", "verify", "-CAfile", self.authority, self.site)
        except CertificateError:
            return "it is not of this host's authority, or has expired"
        if names_in(self.site) != {canonical(name) for name in self.names}:
            return "its names are others"
        return "" if lasts(self.site, RENEW_DAYS) else f"it ends in less than {RENEW_DAYS} days"

    def renew(self, dry: bool) -> list[str]:
        made = []
        if not self.authority_lasts():
            made.append(f"authority {self.authority}")
            if not dry:
                self.make_authority()
        why = self.due()
        if why or made:
            made.append(f"certificate {self.site} ({why or 'its authority is new'})")
            if not dry:
                self.make_certificate()
        return made

    def authority_lasts(self) -> bool:
        """Whether the authority outlives what it would sign. Only a self-signed certificate has one."""
        if self.source != "self_signed":
            return True
        return bool(read(self.authority) and read(self.authority_key)) and lasts(self.authority, DAYS)

    def make_authority(self) -> None:
        os.makedirs(self.folder, mode=0o755, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".new-") as work:
            key, certificate = os.path.join(work, "key"), os.path.join(work, "crt")
            run(
                "openssl", "req", "-x509", *KEY, "-days", str(AUTHORITY_DAYS), "-subj", f"/O=selfhosted.llm/CN={f'Edge {self.host}'[:64]}",
                "-addext", "basicConstraints=critical,CA:TRUE,pathlen:0", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
                "-keyout", key, "-out", certificate,
            )  # fmt: skip
            write(self.authority_key, read(key), 0o600)
            write(self.authority, read(certificate), 0o644)

    def make_certificate(self) -> None:
        os.makedirs(self.folder, mode=0o755, exist_ok=True)
        extensions = (
            f"subjectAltName={alternative_names(self.names)}\nbasicConstraints=critical,CA:FALSE\n"
            "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n"
        )
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".new-") as work:
            key, request, certificate = (os.path.join(work, name) for name in ("key", "csr", "crt"))
            write(os.path.join(work, "ext"), extensions.encode(), 0o600)
            run("openssl", "req", "-new", *KEY, "-subj", f"/O=selfhosted.llm/CN={self.names[0][:64]}", "-keyout", key, "-out", request)
            signer = ["-CA", self.authority, "-CAkey", self.authority_key] if self.source == "self_signed" else ["-signkey", key]
            run(
                "openssl", "x509", "-req", "-in", request, *signer, "-set_serial", f"0x{secrets.token_hex(16)}", "-days", str(DAYS),
                "-extfile", os.path.join(work, "ext"), "-out", certificate,
            )  # fmt: skip
            write(self.site, read(certificate) + read(key), 0o600)

    # --- ACME

    @property
    def lineage(self) -> str:
        return os.path.join(self.acme["folder"], "live", self.acme["name"])

    def wanted_of_acme(self) -> str:
        """Why certbot has something to do, or nothing."""
        chain = os.path.join(self.lineage, "fullchain.pem")
        if not read(chain):
            return "there is none yet"
        if self.other_directory():
            return "it is of another directory"
        if names_in(chain) != {canonical(name) for name in self.names}:
            return "its names are others"
        return "" if lasts(chain, 0) else "it has expired"

    def other_directory(self) -> bool:
        renewal = read(os.path.join(self.acme["folder"], "renewal", self.acme["name"] + ".conf")).decode("utf-8", "replace")
        found = re.search(r"^server\s*=\s*(\S+)", renewal, flags=re.MULTILINE)
        return bool(found) and found.group(1) != self.acme["directory"]  # type: ignore[union-attr]

    def certbot(self) -> list[str]:
        command = [
            "certbot",
            "certonly",
            "--non-interactive",
            "--agree-tos",
            "--config-dir",
            self.acme["folder"],
            "--cert-name",
            self.acme["name"],
        ]
        command += ["--key-type", "ecdsa", "--webroot", "--webroot-path", self.acme["webroot"], "--server", self.acme["directory"]]
        command += ["--email", self.acme["email"]] if self.acme["email"] else ["--register-unsafely-without-email"]
        # It asks only because something is to be had: another name, another directory, or what has run out.
        command += ["--force-renewal", "--renew-with-new-domains"]
        if self.other_directory():
            command.append("--break-my-certs")
        return command + [word for name in self.names for word in ("--domain", name)]

    def obtained(self) -> bytes:
        return b"".join(read(os.path.join(self.lineage, name)) for name in ("fullchain.pem", "privkey.pem"))

    def obtain(self, dry: bool) -> list[str]:
        made = []
        why = self.wanted_of_acme()
        if why:
            made.append(f"certificate of {self.acme['directory']} ({why})")
            if not dry:
                run(*self.certbot(), env=self.acme["environment"])
        return made + (["installed"] if dry and why else self.install(dry))

    def install(self, dry: bool = False) -> list[str]:
        """Take certbot's certificate, where it is another one."""
        both = self.obtained()
        if both == read(self.site):
            return []
        if not dry:
            write(self.site, both, 0o600)
        return ["installed"]


def reload_nginx() -> None:
    """Where it runs; one that starts reads the new file anyway."""
    if subprocess.run(["systemctl", "is-active", "--quiet", "nginx.service"], check=False).returncode == 0:
        run("systemctl", "reload", "nginx.service")


def act(command: str, edge: Edge, dry: bool) -> list[str]:
    if command == "renew":
        made = edge.renew(dry)
    elif command == "acme":
        made = edge.obtain(dry)
    else:
        # certbot names what it renewed, which may be somebody else's.
        ours = os.environ.get("RENEWED_LINEAGE", edge.lineage) == edge.lineage
        made = edge.install(dry) if ours else []
    if made and not dry:
        reload_nginx()
    return made


def main(arguments: t.Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["renew", "acme", "deploy"])
    parser.add_argument("--dry-run", action="store_true", help="say what would be made")
    parser.add_argument("--stdin", action="store_true", help="read the settings from standard input")
    args = parser.parse_args(arguments)
    try:
        settings = json.loads(sys.stdin.read() if args.stdin else read(SETTINGS) or b"null")
        if settings is None:
            raise CertificateError(f"{SETTINGS} is missing")
        for line in act(args.command, Edge(settings), args.dry_run):
            print(line)
    except (CertificateError, OSError) as error:
        print(f"edge-certificate: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
