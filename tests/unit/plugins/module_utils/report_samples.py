# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results as the checks return them, good and bad, for the tests of the report."""

from __future__ import annotations

import typing as t

from ansible_collections.selfhosted.llm.plugins.module_utils.checklist import count
from ansible_collections.selfhosted.llm.plugins.module_utils.http import ApiError
from ansible_collections.selfhosted.llm.plugins.module_utils.openai_load import Load, Sample, analyse

Data = dict[str, t.Any]

TOPOLOGY = [
    {"name": "webui", "group": "webui", "url": "http://192.0.2.4:8080", "version": "0.12.4"},
    {"name": "gw1", "group": "litellm", "url": "http://192.0.2.1:4000", "version": "1.106.2"},
    {"name": "llm01", "group": "llm", "url": "http://192.0.2.2:11434", "version": "0.32.15"},
    {"name": "llm02", "group": "llm", "url": "http://192.0.2.3:11434", "version": None},
]


# An edge before two gateways, and two hosts of four servers each, one of them behind a tunnel.
EDGE_TOPOLOGY = [
    {"name": "webui", "group": "webui", "url": "http://192.0.2.4:8080", "version": "0.12.4"},
    {"name": "edge-1", "group": "edge", "url": "https://api.example.com", "version": ""},
    {"name": "edge-2", "group": "edge", "url": "https://api.example.com", "version": ""},
    {"name": "gw1", "group": "litellm", "url": "http://192.0.2.1:4000", "version": "1.106.2"},
    {"name": "gw2", "group": "litellm", "url": "http://192.0.2.5:4000", "version": "1.106.2"},
    {"name": "llm01", "group": "llm", "url": "http://192.0.2.2:11434", "version": "0.32.15"},
    *(
        {"name": f"gpu-{host}:{port}", "group": "server", "url": f"http://{address}:{port}", "version": "", "via": via}
        for host, address, via in ((1, "192.0.2.11", "lan"), (2, "127.0.0.1", "tunnel"))
        for port in (8080, 8081, 8090, 8091)
    ),
]


def check(name: str, status: str = "passed", layer: str | None = None, message: str = "fine", **more: t.Any) -> Data:
    return {"name": name, "group": "chat", "status": status, "layer": layer, "message": message, "seconds": 0.25, "details": {}, **more}


def load(model: str = "phi3", shares: dict[str, int] | None = None, declared: list[str] | None = None, failed: int = 0) -> Data:
    """A load of which each backend answered so many requests; each backend is slower than the one before."""
    shares = shares or {"phi3@llm01": 30, "phi3@llm02": 10}
    samples = [
        Sample(0.2 * (number + 1) + 0.01 * index, backend, 0.05)
        for number, (backend, requests) in enumerate(shares.items())
        for index in range(requests)
    ]
    samples += [Sample(1.0, error=ApiError("timeout", "too slow")) for _index in range(failed)]
    numbers = analyse(Load(samples, 4.0), declared or list(shares))
    return {**numbers, "model": model, "mode": "chat", "streamed": True, "concurrency": 8, "min_share": 0.25, "warm_up_seconds": 1.0}


def document(checks: list[Data] | None = None, loads: list[Data] | None = None, **more: t.Any) -> Data:
    checks = [check("chat with phi3", details={"backend": "phi3@llm01"})] if checks is None else checks
    return {
        "client": "openai_api_check",
        "url": "http://192.0.2.1:4000/v1",
        "server_version": "1.106.2",
        "listed_models": ["phi3"],
        "ok": True,
        "counts": count(checks),
        "checks": checks,
        "load": [] if loads is None else loads,
        **more,
    }


def edge(*documents: Data, name: str = "edge-1") -> Data:
    return {"name": name, "group": "edge", "url": "https://api.example.com", "documents": list(documents)}


def edge_document(days_left: float = 89.6, status: str = "passed") -> Data:
    """What edge_check finds."""
    ends = {"days_left": days_left, "not_after": "Feb 21 12:00:00 2027 GMT", "issuer": "Let's Encrypt"}
    found = [
        check("api.example.com: name resolves", message="192.0.2.10", group="edge"),
        check(
            "api.example.com: certificate is trusted and good for a while",
            status,
            None if status == "passed" else "tls",
            f"{days_left:.0f} days left, TLSv1.3, issued by Let's Encrypt",
            group="edge",
            details=ends,
        ),
        check("api.example.com: old versions of TLS are refused", message="TLS 1.0 and TLS 1.1 refused", group="edge"),
    ]
    return document(found, client="edge_check at 192.0.2.10", url="https://api.example.com", server_version=None)


def servers_document(down: str = "") -> Data:
    """What endpoint_check finds of the servers of EDGE_TOPOLOGY; one may be down."""
    found = [
        check(
            f"{name} is well",
            "failed" if name == down else "passed",
            "refused" if name == down else None,
            f"{place['url']}/health: cannot connect: Connection refused" if name == down else "HTTP 200, ok",
            group="servers",
            details={"endpoint": name, "url": place["url"], "via": place["via"]},
        )
        for name, place in ((place["name"], place) for place in EDGE_TOPOLOGY if place["group"] == "server")
    ]
    return document(found, client="endpoint_check", url="", server_version=None)


def gateway(*documents: Data, name: str = "gw1") -> Data:
    return {"name": name, "url": "http://192.0.2.1:4000", "documents": list(documents)}
