# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pictures of loads as inline SVG, and what all pictures are made of. Colours come from the style sheet of the page, by variable."""

from __future__ import annotations

import html
import math
import typing as t

from ansible_collections.selfhosted.llm.plugins.module_utils.report_data import BACKEND_GROUPS, Data, place_of
from ansible_collections.selfhosted.llm.plugins.module_utils.report_words import backend_text, percent_text, seconds_text

WIDTH = 1000
SERIES = 8


def esc(text: object) -> str:
    return html.escape(str(text), quote=True)


def short(text: str, limit: int) -> str:
    """The text, its middle left out where it is too long: both ends of a host name tell."""
    if len(text) <= limit:
        return text
    left = (limit - 1) // 2
    return text[:left] + "…" + text[len(text) - (limit - 1 - left) :]


def colours(report: Data) -> dict[str, str]:
    """One colour for each backend host, the same in all pictures."""
    places = [node["name"] for node in report["nodes"] if node["group"] in BACKEND_GROUPS]
    return {place: f"var(--s{index % SERIES})" for index, place in enumerate(places)}


def drawing(height: float, title: str, description: str, body: list[str], width: int = WIDTH) -> str:
    head = f'<svg viewBox="0 0 {width} {math.ceil(height)}" role="img" aria-label="{esc(title)}">'
    return f"{head}<title>{esc(title)}</title><desc>{esc(description)}</desc>{''.join(body)}</svg>"


def text_at(x: float, y: float, text: str, css: str = "", anchor: str = "start", full: str = "") -> str:
    tip = f"<title>{esc(full)}</title>" if full and full != text else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{tip}{esc(text)}</text>'


# Shares

LABEL, LETTERS, ROW = 212, 26, 38


def shares_svg(load: Data, palette: dict[str, str]) -> str:
    """A bar for each backend's share, with lines at the fair share and at the least that was accepted."""
    backends = load["backends"]
    declared = len([entry for entry in backends if entry["declared"]]) or 1
    fair = 1.0 / declared
    least = fair * load.get("min_share", 0.0)
    scale: float = min(1.0, max([entry["share"] for entry in backends] + [fair]) * 1.12)
    right = WIDTH - 150

    def x_of(share: float) -> float:
        return LABEL + (right - LABEL) * share / scale

    body = []
    bottom = 34 + len(backends) * ROW
    marks = [(fair, f"fair share {percent_text(fair)}", "fair")] + ([(least, f"least {percent_text(least)}", "least")] if least else [])
    for share, label, css in marks:
        body.append(f'<line x1="{x_of(share):.1f}" x2="{x_of(share):.1f}" y1="24" y2="{bottom}" class="{css}"/>')
        body.append(text_at(x_of(share), 16, label, "small", "middle"))
    for index, entry in enumerate(backends):
        y = 34 + index * ROW
        body.append(text_at(0, y + 18, short(backend_text(load, entry["backend"]), LETTERS), "label", full=entry["backend"]))
        body.append(f'<rect x="{LABEL}" y="{y}" width="{right - LABEL:.1f}" height="26" rx="4" class="track"/>')
        if entry["requests"]:
            fill = palette.get(place_of(entry["backend"]), "var(--s0)")
            body.append(f'<rect x="{LABEL}" y="{y}" width="{x_of(entry["share"]) - LABEL:.1f}" height="26" rx="4" style="fill:{fill}"/>')
        body.append(text_at(right + 14, y + 18, percent_text(entry["share"]), "value"))
        body.append(text_at(WIDTH - 2, y + 18, str(entry["requests"]), "small", "end"))
    # Above the bars, so that they can be read off.
    lines = [part for part in body if part.startswith("<line")]
    body = [part for part in body if not part.startswith("<line")] + lines
    words = "; ".join(f"{entry['backend']}: {entry['requests']} requests, {percent_text(entry['share'])}" for entry in backends)
    return drawing(bottom + 4, f"Share of the requests of {load['model']} for each backend", words, body)


# Latency

STRIP, BINS = 64, 48


def _ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    if logarithmic:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        return [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5) if low <= factor * 10.0**power <= high]
    raw = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw)
    first = math.ceil(low / step)
    return [index * step for index in range(first, int(high / step + 1e-9) + 1)]


def bins(samples: t.Sequence[float], position: t.Callable[[float], float]) -> list[int]:
    """How many samples fall into each of the bins, by their position between 0 and 1."""
    counts = [0] * BINS
    for value in samples:
        counts[min(BINS - 1, max(0, int(position(value) * BINS)))] += 1
    return counts


def latency_svg(load: Data, palette: dict[str, str]) -> str:
    """A histogram for each backend over one common axis, with the median and the 95th percentile. Empty without answers."""
    rows = [entry for entry in load["backends"] if entry["samples"]] or ([dict(load, backend="all answers")] if load["samples"] else [])
    if not rows:
        return ""
    low: float = min(min(entry["samples"]) for entry in rows)
    high: float = max(max(entry["samples"]) for entry in rows)
    # Seconds for a cold host beside milliseconds for a warm one need a logarithmic axis.
    logarithmic = low > 0 and high / low > 12
    if logarithmic:
        low, high = low / 1.15, high * 1.15
    else:
        low, high = (0.0, high * 1.06) if high > 0 else (0.0, 1.0)
    right = WIDTH - 150

    def position(value: float) -> float:
        if logarithmic:
            return math.log(max(value, low) / low) / math.log(high / low)
        return (value - low) / (high - low)

    def x_of(value: float) -> float:
        return LABEL + (right - LABEL) * position(value)

    body = []
    bottom = 8 + len(rows) * STRIP
    for tick in _ticks(low, high, logarithmic):
        body.append(f'<line x1="{x_of(tick):.1f}" x2="{x_of(tick):.1f}" y1="4" y2="{bottom}" class="grid"/>')
        body.append(text_at(x_of(tick), bottom + 20, seconds_text(tick) if tick else "0", "small", "middle"))
    if logarithmic:
        body.append(text_at(0, bottom + 20, "logarithmic axis", "small"))
    counted = [bins(entry["samples"], position) for entry in rows]
    tallest = max(max(row) / float(sum(row)) for row in counted)
    width = (right - LABEL) / float(BINS)
    for index, (entry, row) in enumerate(zip(rows, counted)):
        base = 8 + (index + 1) * STRIP
        fill = palette.get(place_of(entry["backend"]), "var(--s0)")
        body.append(text_at(0, base - 12, short(backend_text(load, entry["backend"]), LETTERS), "label", full=entry["backend"]))
        for number, found in enumerate(row):
            if found:
                tall = max(2.0, (STRIP - 16) * found / float(sum(row)) / tallest)
                where = LABEL + number * width
                body.append(
                    f'<rect x="{where:.1f}" y="{base - tall:.1f}" width="{width - 1.5:.1f}" height="{tall:.1f}" '
                    f'rx="1.5" style="fill:{fill}"/>'
                )
        body.append(f'<line x1="{LABEL}" x2="{right}" y1="{base}" y2="{base}" class="base"/>')
        for key, css in (("p50", "p50"), ("p95", "p95")):
            x = x_of(entry["latency"][key])
            body.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{base - STRIP + 12}" y2="{base}" class="{css}"/>')
        body.append(text_at(right + 14, base - 28, f"p50 {seconds_text(entry['latency']['p50'])}", "value"))
        body.append(text_at(right + 14, base - 8, f"p95 {seconds_text(entry['latency']['p95'])}", "small"))
    words = "; ".join(
        f"{entry['backend']}: median {seconds_text(entry['latency']['p50'])}, "
        f"95th percentile {seconds_text(entry['latency']['p95'])}, slowest {seconds_text(entry['latency']['max'])}"
        for entry in rows
    )
    return drawing(bottom + 28, f"Latency of the answers of {load['model']} for each backend", words, body)
