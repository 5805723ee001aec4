# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers and sentences of the report, in words for people."""

from __future__ import annotations

import typing as t

from ansible_collections.selfhosted.llm.plugins.module_utils.report_data import Data

NBSP = "\u00a0"


def backend_text(load: Data, backend: str) -> str:
    """A deployment "<model>@<host>" by its host alone, where the model is said already; its name there may be an internal one."""
    models = {entry["backend"].rpartition("@")[0] for entry in load["backends"] if entry["declared"]}
    prefix = f"{models.pop() if len(models) == 1 else load['model']}@"
    return backend[len(prefix) :] if backend.startswith(prefix) and len(backend) > len(prefix) else backend


def seconds_text(value: float | None) -> str:
    """A number and its unit, with a space between them that does not break."""
    if value is None:
        return "–"
    if value < 0.9995:
        text = f"{value * 1000:.0f} ms" if value >= 0.00995 else f"{value * 1000:.1f} ms"
    elif value < 120:
        text = f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    else:
        text = "{} min {:02d} s".format(*divmod(round(value), 60))
    return text.replace(" ", NBSP)


def duration_text(check: Data) -> str:
    """How long a check took; nothing for those that made no call."""
    return seconds_text(check["seconds"]) if check["seconds"] >= 0.0005 else ""


def percent_text(share: float) -> str:
    percent = share * 100
    # One decimal where it tells something: for small shares, and for halves.
    fine = 0 < percent < 9.95 or abs(percent - round(percent)) > 0.45
    return f"{percent:.{1 if fine else 0}f}{NBSP}%"


def count_text(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def rate_text(rate: float) -> str:
    return f"{rate:.1f}/s" if rate < 99.95 else f"{rate:.0f}/s"


def certificate_days(report: Data) -> float | None:
    """How long the certificate that ends first is still good; None where none was seen."""
    checks = [check for gateway in report["gateways"] for document in gateway["documents"] for check in document["checks"]]
    days = [(check.get("details") or {}).get("days_left") for check in checks]
    return min((float(number) for number in days if number is not None), default=None)


def verdict(report: Data) -> str:
    counts = report["counts"]
    total = counts["passed"] + counts["failed"]
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    if counts["failed"]:
        return f"{counts['failed']} of {count_text(total, 'check')} failed{skipped}"
    if not report["ok"]:
        return f"Nothing was proven{skipped}"
    return f"All {count_text(total, 'check')} passed{skipped}"


def load_sentences(load: Data) -> list[str]:
    """What was measured of one model under load; no claim that the numbers do not make."""

    def who(entry: Data) -> str:
        return backend_text(load, entry["backend"])

    kind = "streamed chats" if load.get("streamed") else "embeddings" if load.get("mode") == "embedding" else "requests"
    first = (
        f"{load['requests']} {kind} were sent, {load['concurrency']} at a time, after a warm-up of {load['concurrency']} that is not "
        f"counted: {load['answered']} answered in {seconds_text(load['seconds'])}, {rate_text(load['rate'])}."
    )
    sentences = [first]
    if load["failed"]:
        errors = ", ".join(f"{layer} {number}" for layer, number in sorted(load["errors"].items()))
        unsent = f" {load['unsent']} were not sent any more." if load["unsent"] else ""
        sentences.append(f"{load['failed']} failed ({errors}).{unsent}")
    elif load["unsent"]:
        sentences.append(f"{load['unsent']} more were not sent, as the time for it was over.")
    if load.get("first_load"):
        sentences.append(f"This is the last of {load['loads']} loads, those after the first twice as big.")
        sentences.append(f"Under the first, {', and '.join(load['first_load'])}.")
    seen = [entry for entry in load["backends"] if entry["requests"]]
    idle = [who(entry) for entry in load["backends"] if not entry["requests"]]
    if len(seen) > 1:
        by_speed = sorted(seen, key=lambda entry: t.cast(float, entry["latency"]["p50"]))
        fast, slow = by_speed[0], by_speed[-1]
        by_share = sorted(seen, key=lambda entry: -entry["requests"])
        most, fewest = by_share[0], by_share[-1]
        if most["requests"] == fewest["requests"] and not idle:
            sentences.append("Each backend got the same number of requests.")
        else:
            first, last = percent_text(most["share"]), percent_text(fewest["share"])
            sentences.append(f"The most went to {who(most)} ({first}), the fewest to {who(fewest)} ({last}).")
        median, other = seconds_text(fast["latency"]["p50"]), seconds_text(slow["latency"]["p50"])
        sentences.append(f"Fastest was {who(fast)} (median {median}), slowest {who(slow)} ({other}).")
    if idle:
        sentences.append(f"No answer came from {', '.join(idle)}.")
    if load["unnamed"]:
        sentences.append(f"{load['unnamed']} answers did not name their backend.")
    return sentences


def headline_load(report: Data) -> Data:
    """Sums over every load of the report; empty when there was none."""
    found = [load for gateway in report["gateways"] for document in gateway["documents"] for load in document["load"]]
    if not found:
        return {}
    return {
        "requests": sum(load["requests"] for load in found),
        "answered": sum(load["answered"] for load in found),
        "concurrency": max(load["concurrency"] for load in found),
        "rate": max(load["rate"] for load in found),
        "loads": len(found),
        # Of several models the slowest one counts: percentiles of different models cannot be merged.
        "slowest": max(found, key=lambda load: load["latency"].get("p95", 0.0)),
        "ttft": max([load["ttft"].get("p50", 0.0) for load in found]),
    }
