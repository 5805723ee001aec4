# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether servers are well, as they say of themselves at their health addresses."""

from __future__ import annotations

import typing as t
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.selfhosted.llm.plugins.module_utils.checklist import CheckList, count
from ansible_collections.selfhosted.llm.plugins.module_utils.http import (
    BACKEND,
    PROTOCOL,
    REFUSED,
    TIMEOUT,
    ApiClient,
    ApiError,
    Response,
    classify_status,
    error_text,
)

GROUP = "servers"
AT_A_TIME = 32
TUNNEL = "tunnel"
TUNNEL_DOWN = "It is reached through a tunnel, which may be down: look at the units llm-tunnel-* on the server's host"
TUNNEL_LEADS_NOWHERE = (
    "It is reached through a tunnel, which is open here, so the server behind it may be down, or the tunnel's other end may be gone"
)


class Endpoint(t.NamedTuple):
    """A server and how it is asked. `via` is how it is reached: lan or tunnel."""

    name: str
    url: str
    path: str = "/health"
    status: int = 200
    token: str | None = None
    ca_path: str | None = None
    timeout: float = 10.0
    via: str = "lan"


def _said(response: Response) -> str:
    """The word for its state that the server put into its answer, as llama-server does: {"status": "ok"}."""
    try:
        answer = response.json()
    except ApiError:
        return ""
    status = answer.get("status") if isinstance(answer, dict) else None
    return status if isinstance(status, str) else ""


def _through_tunnel(error: ApiError) -> str:
    """What the failure says about a tunnel in between, if anything."""
    if error.layer == REFUSED:
        return TUNNEL_DOWN
    # ssh takes the connection, and only then finds out that it leads nowhere.
    return TUNNEL_LEADS_NOWHERE if error.status is None and error.layer in (TIMEOUT, PROTOCOL) else ""


def ask(endpoint: Endpoint) -> Response:
    """The answer with the wanted status, or an ApiError."""
    url = endpoint.url.rstrip("/")
    # They are parts of the service: a proxy for downloads does not lead there.
    client = ApiClient(url, endpoint.token, endpoint.ca_path, endpoint.timeout, use_proxy=False)
    try:
        response = client.call("GET", endpoint.path)
    except ApiError as exc:
        hint = _through_tunnel(exc) if endpoint.via == TUNNEL else ""
        raise ApiError(exc.layer, f"{exc.message}. {hint}" if hint else exc.message, exc.status, exc.body) from exc
    if response.status == endpoint.status:
        return response
    if response.status == 503 and "loading" in response.text().lower():
        message = f"it is still loading its model (HTTP 503: {error_text(response.text())})"
        raise ApiError(BACKEND, message, response.status, response.text())
    if response.status < 400:
        raise ApiError(PROTOCOL, f"{url}{endpoint.path} answered {response.status} instead of {endpoint.status}", response.status)
    raise classify_status(response.status, response.text(), url + endpoint.path)


def check_endpoint(endpoint: Endpoint) -> dict[str, t.Any]:
    def check(details: dict[str, t.Any]) -> str:
        details.update(endpoint=endpoint.name, url=endpoint.url, via=endpoint.via)
        response = ask(endpoint)
        details["http_status"] = response.status
        said = _said(response)
        return f"HTTP {response.status}{f', {said}' if said else ''}{', through a tunnel' if endpoint.via == TUNNEL else ''}"

    checks = CheckList(hide=[endpoint.token or ""])
    checks.run(f"{endpoint.name} is well", GROUP, check)
    return checks.checks[0]


def check_endpoints(endpoints: t.Sequence[Endpoint]) -> dict[str, t.Any]:
    """A document as verify_report takes it. All are asked at once: one that is gone must not make the others wait."""
    with ThreadPoolExecutor(max_workers=max(1, min(AT_A_TIME, len(endpoints)))) as pool:
        checks = list(pool.map(check_endpoint, endpoints))
    counts = count(checks)
    return {
        "client": "endpoint_check",
        "url": "",
        "ok": counts["failed"] == 0 and counts["passed"] > 0,
        "counts": counts,
        "checks": checks,
    }
