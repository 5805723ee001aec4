# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables for the terminal."""

from __future__ import annotations

import typing as t


def text_table(header: t.Sequence[str], rows: t.Iterable[t.Sequence[t.Any]]) -> list[str]:
    """Lines with columns as wide as their widest cell."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def status_table(hosts: t.Sequence[str], hostvars: t.Mapping[str, t.Any], variable: str, endpoints: str = "") -> list[str]:
    """The results of service_status, registered under `variable`, as one table. A host without a result is a line as well.

    Of a host that asked servers for their health, the results of endpoint_check, registered under `endpoints`, are further lines.
    """
    rows = []
    for host in hosts:
        result = hostvars[host].get(variable) or {}
        if "services" not in result:
            rows.append((host, "-", "unreachable", "-", "-", "-"))
        for service in result.get("services", []):
            unit = service["unit"] + ("" if service["enabled"] or service["unit"] == "not installed" else ", not enabled")
            unit += f", {service['restarts']} restarts" if service["restarts"] else ""
            rows.append((host, service["name"], unit, service["release"] or "-", ", ".join(service["models"]) or "-", service["health"]))
        for check in (hostvars[host].get(endpoints) or {}).get("checks", []) if endpoints else []:
            asked = check["details"]
            rows.append((host, asked["endpoint"], f"by {asked['via']}", "-", "-", check["message"]))
    return text_table(("HOST", "SERVICE", "UNIT", "RELEASE", "MODELS", "HEALTH"), rows)
