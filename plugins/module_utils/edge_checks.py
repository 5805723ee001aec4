# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is checked of a reverse proxy with TLS, beside the API and the pages behind it."""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
import time
import typing as t
import warnings
from urllib.parse import urlsplit

from ansible_collections.selfhosted.llm.plugins.module_utils.checklist import CheckError, CheckList, SkippedError
from ansible_collections.selfhosted.llm.plugins.module_utils.http import (
    AUTH,
    PROTOCOL,
    TLS,
    ApiClient,
    RedirectError,
    Response,
    classify,
    split_address,
    tls_context,
)
from ansible_collections.selfhosted.llm.plugins.module_utils.pages import PATHS, page_problem

GROUP = "edge"
DAY = 86400.0
OLD_VERSIONS = {"TLS 1.0": ssl.TLSVersion.TLSv1, "TLS 1.1": ssl.TLSVersion.TLSv1_1}
GOOD_VERSIONS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}
# What OpenSSL says when the fault is this machine's, which offers nothing that old.
OWN_FAULTS = ("NO_PROTOCOLS_AVAILABLE", "NO_CIPHERS_AVAILABLE", "UNSUPPORTED_PROTOCOL")

Details = t.Dict[str, t.Any]
Check = t.Callable[[Details], str]


class Site(t.NamedTuple):
    """One name of an edge. `http_port` 0: there is no redirect. `refused_paths` are open to `admitted_networks` alone."""

    url: str
    kind: str = "api"
    http_port: int = 80
    refused_paths: t.Sequence[str] = ()
    admitted_networks: t.Sequence[str] = ()


class EdgePlan(t.NamedTuple):
    """What holds for all names of an edge."""

    ca_path: str | None = None
    connect_to: str | None = None
    timeout: float = 10.0
    min_days: int = 14
    hsts: bool = True


def is_in(address: str, networks: t.Sequence[str]) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return any(found in ipaddress.ip_network(network, strict=False) for network in networks)


class EdgeChecks:
    """All checks of one name."""

    def __init__(self, checks: CheckList, site: Site, plan: EdgePlan) -> None:
        self.checks = checks
        self.site = site
        self.plan = plan
        self.url = site.url.rstrip("/")
        parts = urlsplit(self.url)
        self.host = parts.hostname or ""
        self.port = parts.port or 443
        self.address = split_address(plan.connect_to, self.port) if plan.connect_to else (self.host, self.port)
        self.client = ApiClient(self.url, ca_path=plan.ca_path, timeout=plan.timeout, connect_to=plan.connect_to)
        # Where the edge sees this client, as long as nothing translates addresses in between.
        self.own_address = ""

    def run(self) -> None:
        self._run("name resolves", self._name)
        if self._run("certificate is trusted and good for a while", self._certificate):
            self._run("old versions of TLS are refused", self._versions)
            self._run("browsers are told to stay with https", self._hsts)
            if self.site.refused_paths:
                self._run("paths for administrators are refused", self._refused)
            if self.site.kind == "webui":
                for path, what in PATHS.items():
                    self._run(what, self._page(path))
        else:
            self.checks.skip(f"{self.host}: what is behind TLS", GROUP, "there is no connection with a certificate to trust")
        if self.site.http_port:
            self._run("http is sent on to https", self._redirect)

    def _run(self, what: str, check: Check) -> bool:
        return self.checks.run(f"{self.host}: {what}", GROUP, check)

    def _name(self, details: Details) -> str:
        try:
            found = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)})
        except OSError as exc:
            if self.plan.connect_to:
                raise SkippedError(f"DNS does not know it yet here; {self.plan.connect_to} was called by its name") from exc
            raise classify(exc, self.url) from exc
        details["addresses"] = found
        return ", ".join(found)

    def _handshake(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        raw = socket.create_connection(self.address, self.plan.timeout)
        try:
            return context.wrap_socket(raw, server_hostname=self.host)
        except BaseException:
            raw.close()
            raise

    def _certificate(self, details: Details) -> str:
        context = tls_context(self.plan.ca_path)
        try:
            with self._handshake(context) as connection:
                certificate: t.Any = connection.getpeercert()
                self.own_address = str(connection.getsockname()[0])
                details.update(tls=connection.version(), names=[name for _kind, name in certificate.get("subjectAltName", ())])
        except Exception as exc:
            raise classify(exc, self.url) from exc
        details.update(not_after=certificate["notAfter"], issuer=_common_name(certificate.get("issuer", ())))
        days = (ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) / DAY
        details["days_left"] = round(days, 1)
        if days < self.plan.min_days:
            raise CheckError(TLS, f"it ends in {days:.0f} days, on {certificate['notAfter']}: at least {self.plan.min_days} are wanted")
        return f"{days:.0f} days left, {details['tls']}, issued by {details['issuer']}"

    def _takes(self, version: ssl.TLSVersion) -> bool | None:
        """Whether the edge takes this version; None where this machine cannot offer it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            with warnings.catch_warnings():
                # That these are deprecated is the point.
                warnings.simplefilter("ignore")
                context.set_ciphers("ALL:@SECLEVEL=0")
                context.minimum_version = context.maximum_version = version
        except (ValueError, ssl.SSLError):
            return None
        try:
            self._handshake(context).close()
        except ssl.SSLError as exc:
            return None if exc.reason in OWN_FAULTS else False
        except ConnectionError as exc:
            if isinstance(exc, ConnectionRefusedError):
                raise classify(exc, self.url) from exc
            return False
        except OSError as exc:
            raise classify(exc, self.url) from exc
        return True

    def _versions(self, details: Details) -> str:
        found = {name: self._takes(version) for name, version in {**OLD_VERSIONS, **GOOD_VERSIONS}.items()}
        details.update(accepted=[name for name, takes in found.items() if takes], untried=[name for name in found if found[name] is None])
        taken = [name for name in OLD_VERSIONS if found[name]]
        if taken:
            raise CheckError(TLS, f"{' and '.join(taken)} is accepted")
        refused = [name for name in OLD_VERSIONS if found[name] is False]
        if not refused:
            raise SkippedError(f"this machine cannot offer {' or '.join(OLD_VERSIONS)}, so nothing was proven")
        return f"{' and '.join(refused)} refused, {' and '.join(details['accepted'])} accepted"

    def _get(self, path: str) -> Response:
        try:
            return self.client.call("GET", path)
        except RedirectError as exc:
            return Response(exc.status or 302, {"location": exc.location}, b"", 0.0)

    def _hsts(self, details: Details) -> str:
        if not self.plan.hsts:
            raise SkippedError("HSTS is not wanted")
        response = self.client.call("GET", "/" if self.site.kind == "webui" else "/v1/models")
        header = response.headers.get("strict-transport-security", "")
        found = re.search(r"max-age=\"?(\d+)", header)
        details["max_age"] = int(found.group(1)) if found else None
        if not found or not details["max_age"]:
            raise CheckError(PROTOCOL, f"the header Strict-Transport-Security is {header or 'missing'} in an answer with {response.status}")
        return header

    def _redirect(self, details: Details) -> str:
        where = "" if self.site.http_port == 80 else f":{self.site.http_port}"
        name = f"[{self.host}]" if ":" in self.host else self.host
        connect_to = None
        if self.plan.connect_to:
            address = self.address[0]
            connect_to = f"{f'[{address}]' if ':' in address else address}:{self.site.http_port}"
        client = ApiClient(f"http://{name}{where}", timeout=self.plan.timeout, connect_to=connect_to)
        path = "/v1/models?redirected=1"
        try:
            response = client.call("GET", path)
            status, location = response.status, response.headers.get("location", "")
        except RedirectError as exc:
            status, location = exc.status or 0, exc.location
        details.update(http_status=status, location=location)
        if status not in (301, 302, 307, 308):
            raise CheckError(PROTOCOL, f"{client.base_url}{path} answered {status}: what is sent there is readable on the way")
        target = urlsplit(location)
        leads_to = (target.scheme, target.hostname, target.port or 443, f"{target.path}?{target.query}")
        if leads_to != ("https", self.host, self.port, path):
            raise CheckError(PROTOCOL, f"{client.base_url}{path} is sent on to {location} instead of {self.url}{path}")
        return f"HTTP {status} to {location}"

    def _refused(self, details: Details) -> str:
        networks = self.site.admitted_networks
        if is_in(self.own_address, networks):
            raise SkippedError(f"this client, {self.own_address}, is of those that may use them ({', '.join(networks)})")
        found = {path: self._get(path).status for path in self.site.refused_paths}
        details["http_statuses"] = found
        open_ones = [f"{path} answered {status}" for path, status in found.items() if status not in (403, 404)]
        if open_ones:
            raise CheckError(AUTH, f"{', '.join(open_ones)} instead of 403, to {self.own_address}")
        return f"{', '.join(found)}: HTTP {', '.join(sorted({str(status) for status in found.values()}))}"

    def _page(self, path: str) -> Check:
        def check(details: Details) -> str:
            response = self.client.call("GET", path)
            details["http_status"] = response.status
            answer = response.json() if path != "/" and response.status == 200 else None
            problem = page_problem(path, response.status, response.headers.get("content-type", ""), answer)
            if problem:
                raise CheckError(problem[0], f"{self.url}{path}: {problem[1]}")
            return f"{self.url}{path}: HTTP 200"

        return check


def _common_name(name: t.Any) -> str:
    """Of the issuer as getpeercert has it."""
    parts = {key: value for entry in name for key, value in entry}
    return str(parts.get("commonName") or parts.get("organizationName") or "nobody who has a name")


def check_edge(sites: t.Sequence[Site], plan: EdgePlan) -> dict[str, t.Any]:
    """A document as verify_report takes it."""
    checks = CheckList()
    for site in sites:
        EdgeChecks(checks, site, plan).run()
    counts = checks.counts()
    return {
        "client": "edge_check" + (f" at {plan.connect_to}" if plan.connect_to else ""),
        "url": sites[0].url,
        "ok": counts["failed"] == 0 and counts["passed"] > 0,
        "counts": counts,
        "checks": checks.checks,
    }
