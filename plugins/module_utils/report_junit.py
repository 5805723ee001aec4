# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as JUnit XML, as CI systems read it."""

from __future__ import annotations

from xml.etree import ElementTree

from ansible_collections.selfhosted.llm.plugins.module_utils.report_data import Data, place_text


def _totals(counts: Data, seconds: float) -> dict[str, str]:
    return {
        "tests": str(sum(counts.values())),
        "failures": str(counts["failed"]),
        "errors": "0",
        "skipped": str(counts["skipped"]),
        "time": f"{seconds:.3f}",
    }


def junit(report: Data) -> str:
    root = ElementTree.Element("testsuites", {"name": report["title"], **_totals(report["counts"], report["seconds"])})
    for gateway in report["gateways"]:
        for document in gateway["documents"]:
            seconds = sum(check["seconds"] for check in document["checks"])
            suite = ElementTree.SubElement(
                root,
                "testsuite",
                {
                    "name": f"{place_text(gateway)}: {document['client']}",
                    "hostname": gateway["name"],
                    "timestamp": report["generated"][:19].replace(" ", "T"),
                    **_totals(document["counts"], seconds),
                },
            )
            properties = ElementTree.SubElement(suite, "properties")
            for name in ("url", "version"):
                ElementTree.SubElement(properties, "property", {"name": name, "value": gateway[name] or ""})
            for check in document["checks"]:
                case = ElementTree.SubElement(
                    suite,
                    "testcase",
                    {"classname": f"{gateway['name']}.{check['group']}", "name": check["name"], "time": f"{check['seconds']:.3f}"},
                )
                if check["status"] == "failed":
                    failure = ElementTree.SubElement(case, "failure", {"type": check["layer"] or "unknown", "message": check["message"]})
                    failure.text = f"[{check['layer']}] {check['message']}"
                elif check["status"] == "skipped":
                    ElementTree.SubElement(case, "skipped", {"message": check["message"]})
                else:
                    ElementTree.SubElement(case, "system-out").text = check["message"]
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"
