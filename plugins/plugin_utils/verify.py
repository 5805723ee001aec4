# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What verify.yml asks for, and how it puts together what the module verify_report takes."""

from __future__ import annotations

import posixpath
import typing as t

from ansible_collections.selfhosted.llm.plugins.module_utils.pages import PATHS, page_problem

Mapping = t.Mapping[str, t.Any]

_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound to

# The rest of a registered result repeats the options of its task, and with them the key.
_KEPT = (
    *("client", "url", "server_version", "listed_models", "ok", "counts", "checks", "load"),
    *("stdout", "stderr", "rc", "msg", "skipped", "unreachable"),
)


# What only administrators of a gateway need, one path of each kind: dashboard, keys, configuration, and a check that calls every model.
_ADMIN_PATHS = ("/ui/", "/key/list", "/model/info", "/health")


def _name_of(result: Mapping) -> t.Any:
    """The gateway that a task's loop was at: its name, or a mapping that has it."""
    item = result.get("item")
    return item.get("name") if isinstance(item, t.Mapping) else item


def verify_gateways(
    urls: t.Mapping[str, str], *runs: Mapping, further: t.Sequence[Mapping] = (), group: str = "litellm"
) -> list[dict[str, t.Any]]:
    """`gateways` of the report, from the registered results of tasks that looped over the gateways.

    `further` documents belong to no gateway by name, and go to the first.
    """
    gateways: list[dict[str, t.Any]] = []
    for name, url in urls.items():
        results = [result for run in runs for result in run.get("results", []) if _name_of(result) == name]
        documents = [{key: result[key] for key in _KEPT if key in result} for result in results]
        gateways.append({"name": name, "group": group, "url": url, "documents": [*documents, *(() if gateways else further)]})
    return gateways


def _sites(values: Mapping, api: str, pages: str) -> list[dict[str, t.Any]]:
    """The names of one edge, for edge_check."""
    port = values.get("reverse_proxy_http_port") or 80
    public = [str(path) for path in values.get("reverse_proxy_public_paths") or []]
    paths = [path for path in _ADMIN_PATHS if not any(path.startswith(prefix) for prefix in public)]
    admitted = list(values.get("reverse_proxy_admin_networks") or [])
    sites = [
        {"url": api, "kind": "api", "http_port": port, "refused_paths": paths, "admitted_networks": admitted},
        {"url": pages, "kind": "webui", "http_port": port},
    ]
    return [site for site in sites if site["url"]]


def verify_edges(
    urls: t.Mapping[str, str], hostvars: Mapping, addresses: t.Mapping[str, str], webui_urls: t.Mapping[str, str] | None = None
) -> list[dict[str, t.Any]]:
    """What to ask of each edge, at its own address, and of each address that edges share."""
    pages = webui_urls or {}
    edges: list[dict[str, t.Any]] = []
    shared: list[dict[str, t.Any]] = []
    for name in {**urls, **pages}:
        values = hostvars[name]
        given = values.get("llm_verify_edge_address")
        edge = {
            "name": name,
            "url": urls.get(name, ""),
            # Empty: by the name alone, as DNS knows it.
            "connect_to": str(addresses[name] if given is None else given),
            "sites": _sites(values, urls.get(name, ""), pages.get(name, "")),
            "hsts": int(values.get("reverse_proxy_hsts_max_age", 1)) > 0,
            "shared": False,
        }
        edges.append(edge)
        vip = str(values.get("reverse_proxy_vip") or "").partition("/")[0]
        if vip and vip not in [other["connect_to"] for other in shared]:
            shared.append({**edge, "connect_to": vip, "shared": True})
    return edges + shared


def verify_page_requests(hosts: t.Sequence[str], hostvars: Mapping) -> list[dict[str, t.Any]]:
    """What to ask for of each host of Open WebUI: `local` where only the host itself is known to reach it."""
    requests = []
    for host in hosts:
        given = str(hostvars[host].get("llm_verify_webui_url") or "").rstrip("/")
        bound = str(hostvars[host].get("open_webui_host") or "")
        address = "127.0.0.1" if bound in _EVERYWHERE else f"[{bound}]" if ":" in bound else bound
        url = given or f"http://{address}:{hostvars[host].get('open_webui_port') or 8080}"
        requests += [{"host": host, "url": url, "path": path, "local": not given} for path in PATHS]
    return requests


def _page_check(result: Mapping) -> dict[str, t.Any]:
    path = result["item"]["path"]
    status = result.get("status", -1)
    if status < 0:
        problem: tuple[str, str] | None = ("refused", str(result.get("msg") or "no answer"))
    else:
        problem = page_problem(path, status, str(result.get("content_type") or ""), result.get("json"))
    layer, words = problem or (None, "HTTP 200")
    return {
        "name": PATHS[path],
        "group": "webui",
        "status": "failed" if problem else "passed",
        "layer": layer,
        "message": f"{result['item']['url']}{path}: {words}",
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


def verify_topology(
    urls: t.Mapping[str, t.Mapping[str, str]], hostvars: Mapping, register: str, endpoints: t.Sequence[Mapping] = ()
) -> list[dict[str, str]]:
    """`topology` of the report, from the URLs of each group's hosts, and from the servers that gateways are asked about.

    Versions are those of the links that a task with this register saw.
    """
    topology = []
    for group, hosts in urls.items():
        for name, url in hosts.items():
            looked = hostvars[name].get(register) or {}
            links = [result.get("stat", {}).get("lnk_target") for result in looked.get("results", []) if result.get("item") == group]
            version = posixpath.basename(links[0]).partition("-")[0] if links and links[0] else ""
            topology.append({"name": name, "group": group, "url": url, "version": version})
    servers = [
        {"name": endpoint["name"], "group": "server", "url": endpoint["url"], "version": "", "via": endpoint.get("via") or "lan"}
        for endpoint in endpoints
    ]
    return topology + servers
