# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that put together what the module verify_report takes."""

from __future__ import annotations

import posixpath
import typing as t

Mapping = t.Mapping[str, t.Any]

_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound to

# The rest of a registered result repeats the options of its task, and with them the key.
_KEPT = ("client", "url", "server_version", "listed_models", "ok", "counts", "checks", "load", "stdout", "stderr", "rc", "msg", "skipped")


def verify_gateways(urls: t.Mapping[str, str], *runs: Mapping, further: t.Sequence[Mapping] = ()) -> list[dict[str, t.Any]]:
    """`gateways` of the report, from the registered results of tasks that looped over the names of the gateways.

    `further` documents belong to no gateway by name, and go to the first.
    """
    gateways: list[dict[str, t.Any]] = []
    for name, url in urls.items():
        results = [result for run in runs for result in run.get("results", []) if result.get("item") == name]
        documents = [{key: result[key] for key in _KEPT if key in result} for result in results]
        gateways.append({"name": name, "url": url, "documents": [*documents, *(() if gateways else further)]})
    return gateways


def verify_page_requests(hosts: t.Sequence[str], hostvars: Mapping) -> list[dict[str, t.Any]]:
    """What to ask for of each host of Open WebUI: `local` where only the host itself is known to reach it."""
    requests = []
    for host in hosts:
        given = str(hostvars[host].get("llm_verify_webui_url") or "").rstrip("/")
        bound = str(hostvars[host].get("open_webui_host") or "")
        address = "127.0.0.1" if bound in _EVERYWHERE else f"[{bound}]" if ":" in bound else bound
        url = given or f"http://{address}:{hostvars[host].get('open_webui_port') or 8080}"
        requests += [{"host": host, "url": url, "path": path, "local": not given} for path in ("/health", "/")]
    return requests


def _page_check(result: Mapping) -> dict[str, t.Any]:
    page = result["item"]["path"] == "/"
    status = result.get("status", -1)
    answer = result.get("json")
    if status != 200:
        problem = f"answered {status}" if status > 0 else str(result.get("msg") or "no answer")
    elif page and "text/html" not in str(result.get("content_type")):
        problem = f"answered with {result.get('content_type') or 'no content type'} instead of a page"
    elif not page and not (isinstance(answer, dict) and answer.get("status") is True):
        problem = "does not say that it is well"
    else:
        problem = ""
    layer = "refused" if status < 0 else "protocol" if status == 200 else "backend"
    return {
        "name": "the page opens" if page else "is well",
        "group": "webui",
        "status": "failed" if problem else "passed",
        "layer": layer if problem else None,
        "message": f"{result['item']['url']}{result['item']['path']}: {problem or 'HTTP 200'}",
        "seconds": float(result.get("elapsed") or 0),
        "details": {"http_status": status},
    }


def verify_pages(run: Mapping) -> list[dict[str, t.Any]]:
    """Documents of the report, one for each host of Open WebUI, from the results of a task that looped over {host, url, path}."""
    documents: dict[str, dict[str, t.Any]] = {}
    for result in run.get("results", []):
        # One that is skipped was not asked; an unreachable host is a finding.
        if result.get("skipped"):
            continue
        item = result["item"]
        document = documents.setdefault(item["host"], {"client": f"Open WebUI on {item['host']}", "url": item["url"], "checks": []})
        document["checks"].append(_page_check(result))
    return list(documents.values())


def verify_topology(urls: t.Mapping[str, t.Mapping[str, str]], hostvars: Mapping, register: str) -> list[dict[str, str]]:
    """`topology` of the report, from the URLs of each group's hosts. Versions are those of the links that a task with this register saw."""
    topology = []
    for group, hosts in urls.items():
        for name, url in hosts.items():
            looked = hostvars[name].get(register) or {}
            links = [result.get("stat", {}).get("lnk_target") for result in looked.get("results", []) if result.get("item") == group]
            version = posixpath.basename(links[0]).partition("-")[0] if links and links[0] else ""
            topology.append({"name": name, "group": group, "url": url, "version": version})
    return topology


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "verify_gateways": verify_gateways,
            "verify_page_requests": verify_page_requests,
            "verify_pages": verify_pages,
            "verify_topology": verify_topology,
        }
