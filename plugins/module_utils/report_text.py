# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as lines for a terminal."""

from __future__ import annotations

import textwrap

from ansible_collections.selfhosted.llm.plugins.module_utils.report_data import Data, place_text
from ansible_collections.selfhosted.llm.plugins.module_utils.report_words import (
    NBSP,
    backend_text,
    duration_text,
    load_sentences,
    percent_text,
    seconds_text,
    verdict,
)

_MARKS = {"passed": "PASS", "failed": "FAIL", "skipped": "skip"}
_BAR = 20


def _check_lines(document: Data, width: int) -> list[str]:
    names = min(60, max(len(check["name"]) for check in document["checks"]))
    lines = []
    for check in document["checks"]:
        layer = f"[{check['layer']}] " if check["layer"] else ""
        head = f"  {_MARKS[check['status']]}  {check['name']:<{names}}  {duration_text(check):>8}  "
        text = textwrap.wrap(layer + check["message"], max(30, width - len(head)), break_on_hyphens=False) or [""]
        lines.append(head + text[0])
        lines += [" " * len(head) + rest for rest in text[1:]]
    return lines


def _load_lines(load: Data, width: int) -> list[str]:
    lines = [f"  {load['model']} under load"]
    lines += ["  " + line for line in textwrap.wrap(" ".join(load_sentences(load)), width - 2, break_on_hyphens=False)]
    names = max(len(backend_text(load, entry["backend"])) for entry in load["backends"]) if load["backends"] else 0
    for entry in load["backends"]:
        numbers = "no answer"
        if entry["requests"]:
            numbers = "  ".join(f"{key} {seconds_text(entry['latency'][key])}" for key in ("p50", "p95", "p99"))
            if entry["ttft"].get("count"):
                numbers += f"  first token {seconds_text(entry['ttft']['p50'])}"
        drawn = "#" * round(entry["share"] * _BAR)
        who, share = backend_text(load, entry["backend"]), percent_text(entry["share"])
        lines.append(f"    {who:<{names}}  {drawn:<{_BAR}} {share:>6}  {entry['requests']:4}  {numbers}")
    return lines


def table(report: Data, width: int = 140) -> list[str]:
    lines = [f"{report['title']}: {verdict(report)}"]
    for gateway in report["gateways"]:
        version = f" (LiteLLM {gateway['version']})" if gateway["version"] else ""
        for document in gateway["documents"]:
            lines += ["", f"{place_text(gateway)}  {gateway['url']}{version}  by {document['client']}"]
            lines += _check_lines(document, width)
            for load in document["load"]:
                lines += ["", *_load_lines(load, width)]
    # A trailing blank would keep YAML output from being a plain block.
    return [line.replace(NBSP, " ").rstrip() for line in lines]
