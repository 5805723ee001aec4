# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that put together what the module verify_report takes."""

from __future__ import annotations

import posixpath
import typing as t

Mapping = t.Mapping[str, t.Any]

# The rest of a registered result repeats the options of its task, and with them the key.
_KEPT = ("client", "url", "server_version", "listed_models", "ok", "counts", "checks", "load", "stdout", "stderr", "rc", "msg", "skipped")


def verify_gateways(urls: t.Mapping[str, str], *runs: Mapping) -> list[dict[str, t.Any]]:
    """`gateways` of the report, from the registered results of tasks that looped over the names of the gateways."""
    gateways = []
    for name, url in urls.items():
        results = [result for run in runs for result in run.get("results", []) if result.get("item") == name]
        documents = [{key: result[key] for key in _KEPT if key in result} for result in results]
        gateways.append({"name": name, "url": url, "documents": documents})
    return gateways


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
        return {"verify_gateways": verify_gateways, "verify_topology": verify_topology}
