# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verification report as plain data: what the pages, the table and the JUnit file are made of.

report = {title, client, generated, ok, counts, seconds, gateways: [{name, group, url, ok, counts, version, answered, documents}], nodes}

A gateway's group is litellm; an edge, which is called like one, has the group edge.
"""

from __future__ import annotations

import json
import re
import typing as t

from ansible_collections.selfhosted.llm.plugins.module_utils.checklist import FAILED, count

Data = t.Dict[str, t.Any]

HIDDEN = "[hidden]"
# What looks like a key is hidden even when nobody said so.
_KEY_LIKE = re.compile(r"\b(?:sk|hf|gsk|pk|rk)[-_][A-Za-z0-9_-]{20,}|(?<=Bearer )[A-Za-z0-9._~+/=-]{8,}")
# What XML and HTML cannot hold, and what would control a terminal: servers' messages come through here.
_UNPRINTABLE = re.compile("[^\t\n\r\u0020-\u007e\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_KEY_NAMES = ("api_key", "apikey", "authorization", "master_key", "password", "secret")
_DOCUMENT_KEYS = ("client", "url", "server_version", "listed_models", "ok", "counts", "checks", "load")
BACKEND_GROUPS = ("llm", "server")


def redact(data: t.Any, values: t.Sequence[str] = ()) -> t.Any:
    """The same data without the given values, without anything that looks like a key, and with every text printable."""
    if isinstance(data, dict):
        return {key: HIDDEN if str(key).lower() in _KEY_NAMES else redact(value, values) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [redact(value, values) for value in data]
    if isinstance(data, str):
        for value in values:
            # A shorter one would tear holes into ordinary words.
            if len(value) >= 4:
                data = data.replace(value, HIDDEN)
        return _KEY_LIKE.sub(HIDDEN, _UNPRINTABLE.sub("\ufffd", data))
    return data


def broken_document(client: str, message: str) -> Data:
    """Stands for a client that gave no results. That is a failure: nothing was proven."""
    check = {
        "name": f"{client} ran",
        "group": "client",
        "status": FAILED,
        "layer": "protocol",
        "message": message,
        "seconds": 0.0,
        "details": {},
    }
    return {"client": client, "url": "", "ok": False, "counts": count([check]), "checks": [check], "load": []}


def normalise_document(raw: Data) -> Data | None:
    """One client's results, from its document or from the result of the task that ran it. None for a task that was skipped."""
    if raw.get("skipped") is True:
        return None
    if raw.get("unreachable") is True:
        return broken_document("Ansible on the host", f"the host cannot be reached: {str(raw.get('msg') or '').strip()[-500:]}")
    document: t.Any = raw
    client = str(raw.get("client") or "openai_api_check")
    if "checks" not in raw and "stdout" in raw:
        client = str(raw.get("client") or "OpenAI SDK")
        try:
            document = json.loads(raw["stdout"])
        except ValueError:
            document = {}
    if not isinstance(document, dict) or not isinstance(document.get("checks"), list) or not document["checks"]:
        said = str(raw.get("stderr") or raw.get("msg") or raw.get("stdout") or "nothing").strip()
        return broken_document(client, f"it gave no results (exit code {raw.get('rc', 'unknown')}), but said: {said[-500:]}")
    kept: Data = {key: document.get(key) for key in _DOCUMENT_KEYS}
    kept["load"] = kept["load"] or []
    # The summary is made here, so that it cannot differ from the checks.
    kept["counts"] = count(kept["checks"])
    kept["ok"] = kept["counts"]["failed"] == 0 and kept["counts"]["passed"] > 0
    return kept


def place_of(backend: str) -> str:
    """The host part of a deployment's id "<model>@<host>"."""
    return backend.rpartition("@")[2]


def answered_by(documents: t.Sequence[Data]) -> dict[str, int]:
    """How many answers came from each place."""
    answered: dict[str, int] = {}

    def add(backend: t.Any, number: int) -> None:
        if backend:
            place = place_of(str(backend))
            answered[place] = answered.get(place, 0) + number

    for document in documents:
        for check in document["checks"]:
            add((check.get("details") or {}).get("backend"), 1)
        for load in document["load"]:
            for entry in load["backends"]:
                add(entry["backend"], entry["requests"])
    return answered


def _gateway(raw: Data) -> Data:
    documents = [document for document in (normalise_document(item) for item in raw.get("documents") or []) if document]
    if not documents:
        documents = [broken_document("verification", "no client reported on this gateway")]
    counts = count([check for document in documents for check in document["checks"]])
    return {
        "name": raw["name"],
        "group": raw.get("group") or "litellm",
        "url": raw.get("url") or documents[0]["url"],
        "ok": all(document["ok"] for document in documents),
        "counts": counts,
        "version": next((document["server_version"] for document in documents if document.get("server_version")), None),
        "answered": answered_by(documents),
        "documents": documents,
    }


def well_servers(gateways: t.Sequence[Data]) -> dict[str, bool]:
    """Of each server that was asked for its health, whether all who asked found it well."""
    found: dict[str, bool] = {}
    for check in (check for gateway in gateways for document in gateway["documents"] for check in document["checks"]):
        endpoint = (check.get("details") or {}).get("endpoint")
        if endpoint:
            found[str(endpoint)] = found.get(str(endpoint), True) and check["status"] != FAILED
    return found


def _nodes(gateways: t.Sequence[Data], topology: t.Sequence[Data]) -> list[Data]:
    """The hosts of the topology with what was seen of them, and the backends that only the answers tell of."""
    total: dict[str, int] = {}
    for gateway in gateways:
        for place, number in gateway["answered"].items():
            total[place] = total.get(place, 0) + number
    called = {(gateway["group"], gateway["name"]): gateway for gateway in gateways}
    well = well_servers(gateways)
    nodes = []
    for host in topology:
        node = {"name": host["name"], "group": host["group"], "url": host.get("url") or "", "version": host.get("version") or ""}
        gateway = called.pop((node["group"], node["name"]), {})
        if gateway:
            node.update(ok=gateway["ok"], url=node["url"] or gateway["url"])
            node["version"] = gateway["version"] if node["group"] == "litellm" and gateway["version"] else node["version"]
        if node["group"] in BACKEND_GROUPS:
            node.update(answered=total.get(node["name"], 0), via=host.get("via") or "")
            node.update({"well": well[node["name"]]} if node["name"] in well else {})
        nodes.append(node)
    nodes += [
        {"name": name, "group": group, "url": gateway["url"], "version": gateway["version"] or "", "ok": gateway["ok"]}
        for (group, name), gateway in called.items()
    ]
    named = [node["name"] for node in nodes if node["group"] in BACKEND_GROUPS]
    declared = [place_of(entry["backend"]) for gateway in gateways for load in loads(gateway) for entry in load["backends"]]
    for place in list(total) + declared:
        if place not in named:
            named.append(place)
            nodes.append({"name": place, "group": "server", "url": "", "version": "", "via": "", "answered": total.get(place, 0)})
    return nodes


def place_text(gateway: Data) -> str:
    """How a gateway is called in the report; one machine may be an edge as well."""
    return f"{gateway['name']} ({gateway['group']})" if gateway["group"] != "litellm" else str(gateway["name"])


def loads(gateway: Data) -> list[Data]:
    return [load for document in gateway["documents"] for load in document["load"]]


def failed_checks(report: Data) -> list[Data]:
    """The failed checks, each with its gateway and client."""
    return [
        dict(check, gateway=place_text(gateway), client=document["client"])
        for gateway in report["gateways"]
        for document in gateway["documents"]
        for check in document["checks"]
        if check["status"] == FAILED
    ]


def build_report(
    title: str, generated: str, client: str, gateways: t.Sequence[Data], topology: t.Sequence[Data], hide: t.Sequence[str] = ()
) -> Data:
    done = [_gateway(redact(gateway, hide)) for gateway in gateways]
    counts = {status: sum(gateway["counts"][status] for gateway in done) for status in ("passed", "failed", "skipped")}
    seconds = sum(check["seconds"] for gateway in done for document in gateway["documents"] for check in document["checks"])
    report = {
        "title": title,
        "client": client,
        "generated": generated,
        "ok": bool(done) and all(gateway["ok"] for gateway in done),
        "counts": counts,
        "seconds": round(seconds, 2),
        "gateways": done,
        "nodes": _nodes(done, redact(list(topology), hide)),
    }
    return t.cast(Data, redact(report, hide))
