# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one page that needs nothing else: no network, no script."""

from __future__ import annotations

from ansible_collections.selfhosted.llm.plugins.module_utils.report_data import (
    BACKEND_GROUPS,
    Data,
    failed_checks,
    loads,
    place_of,
    place_text,
)
from ansible_collections.selfhosted.llm.plugins.module_utils.report_style import STYLE
from ansible_collections.selfhosted.llm.plugins.module_utils.report_svg import colours, esc, latency_svg, shares_svg
from ansible_collections.selfhosted.llm.plugins.module_utils.report_topology import topology_svg
from ansible_collections.selfhosted.llm.plugins.module_utils.report_words import (
    backend_text,
    certificate_days,
    count_text,
    duration_text,
    headline_load,
    load_sentences,
    percent_text,
    rate_text,
    seconds_text,
    verdict,
)

_SIGNS = {"passed": "✓", "failed": "✕", "skipped": "–"}
_LAYERS = {
    "refused": "nothing listens there",
    "dns": "the name does not resolve",
    "timeout": "no answer in time",
    "tls": "certificate or handshake",
    "auth": "keys and who gets in",
    "model": "what the API offers",
    "backend": "what is behind the API",
    "protocol": "not what the API should say",
}


def _status(status: str) -> str:
    return f'<span class="status {status}"><span aria-hidden="true">{_SIGNS[status]}</span> {status}</span>'


def _layer(layer: str | None) -> str:
    return f'<span class="layer" title="{esc(_LAYERS.get(layer, ""))}">{esc(layer)}</span>' if layer else ""


def _head(report: Data) -> str:
    state = "ok" if report["ok"] else "bad"
    sign = "✓" if report["ok"] else "✕"
    return (
        f'<header><div><p class="over">Verification report</p><h1>{esc(report["title"])}</h1>'
        f'<p class="meta">{esc(report["generated"])}, called from {esc(report["client"])}</p></div>'
        f'<p class="verdict {state}"><span class="sign" aria-hidden="true">{sign}</span>{esc(verdict(report))}</p></header>'
    )


def _tile(value: str, label: str, note: str = "") -> str:
    return f'<div class="tile"><dt>{esc(label)}</dt><dd><b>{esc(value)}</b><span>{esc(note)}</span></dd></div>'


def _tiles(report: Data) -> str:
    counts = report["counts"]
    backends = [node for node in report["nodes"] if node["group"] in BACKEND_GROUPS]
    answering = len([node for node in backends if node["answered"]])
    gateways = len([gateway for gateway in report["gateways"] if gateway["group"] == "litellm"])
    tiles = [
        _tile(
            f"{counts['passed']} of {counts['passed'] + counts['failed']}",
            "Checks passed",
            f"{counts['skipped']} skipped, {seconds_text(report['seconds'])} in all",
        ),
        _tile(f"{answering} of {len(backends)}", "Backends that answered", f"through {count_text(gateways, 'gateway')}"),
    ]
    days = certificate_days(report)
    if days is not None:
        tiles.append(_tile(count_text(int(days), "day"), "Certificate good for", "the one that ends first, if there are several"))
    load = headline_load(report)
    if load:
        slowest = load["slowest"]
        note = f"{load['concurrency']} at a time, up to {rate_text(load['rate'])}"
        tiles.append(_tile(f"{load['answered']} of {load['requests']}", "Requests answered under load", note))
        tiles.append(
            _tile(seconds_text(slowest["latency"].get("p95")), "95th percentile under load", f"of {slowest['model']}, the slowest model")
        )
    return f'<dl class="tiles">{"".join(tiles)}</dl>'


def _failures(report: Data) -> str:
    failed = failed_checks(report)
    if not failed:
        return ""
    items = "".join(
        f"<li><b>{esc(check['name'])}</b> {_layer(check['layer'])}<p>{esc(check['message'])}</p>"
        f"<small>{esc(check['gateway'])}, {esc(check['client'])}</small></li>"
        for check in failed
    )
    return f'<section class="failures"><h2>What failed</h2><ul>{items}</ul></section>'


def _legend(report: Data) -> str:
    bad = "" if report["ok"] else '<li><i class="k bad"></i>calls of which some failed</li>'
    return (
        '<ul class="legend"><li><i class="k used"></i>answers came this way; the width is the share</li>'
        f'<li><i class="k idle"></i>part of the deployment, not measured here</li>{bad}</ul>'
    )


def _load_table(load: Data, palette: dict[str, str]) -> str:
    rows = []
    first_token = bool(load["ttft"].get("count"))

    def times(numbers: Data) -> list[str]:
        shown = [seconds_text(numbers["latency"].get(key)) for key in ("p50", "p95", "p99", "max")]
        return shown + ([seconds_text(numbers["ttft"].get("p50"))] if first_token else [])

    for entry in load["backends"]:
        dot = f'<i class="dot" style="background:{palette.get(place_of(entry["backend"]), "var(--s0)")}"></i>'
        note = "" if entry["declared"] else " (not declared)"
        cells = [str(entry["requests"]), percent_text(entry["share"]), f"{entry['in_flight']:.1f}", *times(entry)]
        rows.append(
            '<tr><th scope="row">{}{}{}</th>{}</tr>'.format(
                dot, esc(backend_text(load, entry["backend"])), note, "".join(f"<td>{esc(cell)}</td>" for cell in cells)
            )
        )
    cells = [str(load["answered"]), "", "", *times(load)]
    rows.append('<tr class="total"><th scope="row">all answers</th>{}</tr>'.format("".join(f"<td>{esc(cell)}</td>" for cell in cells)))
    heads = ["Backend", "Answers", "Share", "In flight", "p50", "p95", "p99", "Slowest"] + (["First token p50"] if first_token else [])
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    caption = f"Backends of {esc(load['model'])} under load"
    return (
        f'<div class="wide"><table class="numbers"><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _load(gateway: Data, load: Data, palette: dict[str, str]) -> str:
    parts = [f"<article><h3>{esc(load['model'])} <small>through {esc(place_text(gateway))}</small></h3>"]
    parts.append(f"<p>{esc(' '.join(load_sentences(load)))}</p>")
    if load["backends"]:
        parts.append(f'<figure><figcaption>Share of the requests</figcaption><div class="wide">{shares_svg(load, palette)}</div></figure>')
    picture = latency_svg(load, palette)
    if picture:
        caption = 'Latency <span class="key"><i class="p50"></i>median <i class="p95"></i>95th percentile</span>'
        parts.append(f'<figure><figcaption>{caption}</figcaption><div class="wide">{picture}</div></figure>')
    if load["backends"]:
        parts.append(_load_table(load, palette))
    return "".join(parts) + "</article>"


def _loads(report: Data) -> str:
    palette = colours(report)
    articles = [_load(gateway, load, palette) for gateway in report["gateways"] for load in loads(gateway)]
    if not articles:
        return (
            '<section><h2>Under load</h2><p class="none">No load was put on any model, so nothing is known about the balance.</p></section>'
        )
    note = (
        '<p class="note">Measured from the client: the share is counted from the backend each answer names. '
        "In flight is the mean number of requests a backend had open; that is what least-busy evens out, "
        "so that a faster host rightly gets more. "
        "Latency is that of the whole answer.</p>"
    )
    return f"<section><h2>Under load</h2>{note}{''.join(articles)}</section>"


def _checks(gateway: Data, document: Data) -> str:
    rows = "".join(
        f'<tr class="{esc(check["status"])}"><td>{_status(check["status"])}</td><th scope="row">{esc(check["name"])}</th>'
        f'<td>{_layer(check["layer"])}{esc(check["message"])}</td><td class="time">{duration_text(check)}</td></tr>'
        for check in document["checks"]
    )
    counts = document["counts"]
    title = f"{esc(place_text(gateway))}, by {esc(document['client'])}"
    summary = f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped"
    heads = "".join(f'<th scope="col">{name}</th>' for name in ("Result", "Check", "Finding", "Time"))
    return (
        f'<article><h3>{title} <small>{summary}</small></h3><p class="mono">{esc(document["url"] or gateway["url"])}</p>'
        f'<div class="wide"><table class="checks"><caption>Checks of {title}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div></article>"
    )


def page(report: Data) -> str:
    checks = "".join(_checks(gateway, document) for gateway in report["gateways"] for document in gateway["documents"])
    body = [
        _head(report),
        "<main>",
        _tiles(report),
        _failures(report),
        f'<section><h2>Topology</h2><figure class="card"><div class="wide">{topology_svg(report)}</div>',
        f"{_legend(report)}</figure></section>",
        _loads(report),
        f"<section><h2>Checks</h2>{checks}</section>",
        "</main>",
        "<footer>Also here: <a href='report.json'>report.json</a>, <a href='junit.xml'>junit.xml</a></footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{esc(report['title'])}: {esc(verdict(report))}</title><style>{STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )
