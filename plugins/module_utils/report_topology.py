# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture of the service: who calls whom, from the clients to the backends, and where answers came from."""

from __future__ import annotations

import typing as t

from ansible_collections.selfhosted.llm.plugins.module_utils.report_data import BACKEND_GROUPS, Data
from ansible_collections.selfhosted.llm.plugins.module_utils.report_svg import WIDTH, colours, drawing, esc, short, text_at
from ansible_collections.selfhosted.llm.plugins.module_utils.report_words import count_text

HEAD, GAP = 34, 18
# With an edge there is a column more.
WIDE, NODE_WIDTH, NARROW_NODE_WIDTH = 1120, 252, 222
NODE_HEIGHT, LOW_NODE_HEIGHT = 76, 52
# So many nodes in a column are drawn low, without their addresses.
MANY = 8
# Calls that go past a column pass below its nodes, those of this verification below the others.
LANE, LANES = 22, 12

Point = t.Tuple[float, float]


class Column:
    """Nodes of one kind, from top to bottom."""

    def __init__(self, title: str, nodes: list[Data], passed: bool = False) -> None:
        self.title = title
        self.nodes = nodes
        # Whether there are calls that pass it by.
        self.passed = passed
        self.low = len(nodes) > MANY
        self.node_height = LOW_NODE_HEIGHT if self.low else NODE_HEIGHT
        self.gap = 10 if self.low else GAP

    @property
    def height(self) -> float:
        nodes = len(self.nodes) * (self.node_height + self.gap) - self.gap if self.nodes else 0
        return nodes + (LANE + LANES if self.passed else 0)


def _columns(report: Data) -> dict[str, Column]:
    nodes = report["nodes"]
    tester = {"name": report["client"], "group": "client", "url": "", "version": "this verification"}
    edges = [node for node in nodes if node["group"] == "edge"]
    columns = {
        "clients": Column("Clients", [node for node in nodes if node["group"] == "webui"] + [tester]),
        "edge": Column("Edge", edges, passed=True),
        "gateways": Column("Gateways", [node for node in nodes if node["group"] == "litellm"]),
        "backends": Column("Backends", [node for node in nodes if node["group"] in BACKEND_GROUPS]),
    }
    return {name: column for name, column in columns.items() if name != "edge" or edges}


def _state(node: Data) -> tuple[str, str]:
    """A line on what was seen of the node, and its state: ok, bad or plain."""
    version = node["version"]
    if node["group"] in ("litellm", "edge"):
        name = f"{'LiteLLM' if node['group'] == 'litellm' else 'nginx'} {version}".strip()
        if "ok" not in node:
            return (name + " · not called", "plain")
        return (name + (" · passed" if node["ok"] else " · failed"), "ok" if node["ok"] else "bad")
    if node["group"] == "webui":
        return (f"Open WebUI {version}" if version else "Open WebUI", "plain")
    if node["group"] in BACKEND_GROUPS:
        return _backend_state(node)
    return (version, "plain")


def _backend_state(node: Data) -> tuple[str, str]:
    kind = f"Ollama {node['version']}".strip() if node["group"] == "llm" else node["version"]
    said = [count_text(node["answered"], "answer")] if node["answered"] else []
    state = "ok" if node["answered"] else "bad"
    if node.get("well") is False:
        said, state = [*said, "not well"], "bad"
    elif not said:
        # Where no load was put on it, a server that is well had no reason to answer.
        said, state = (["well, no answer"], "plain") if node.get("well") else (["no answer"], "bad")
    parts = [kind, "by tunnel" if node["via"] == "tunnel" else "", *said]
    return (" · ".join(part for part in parts if part), state)


def _node(node: Data, place: Point, width: float, column: Column, colour: str | None) -> str:
    x, y = place
    line, state = _state(node)
    height = column.node_height
    # Its words tell what a low one has no room for.
    tip = f"<title>{esc(' '.join(part for part in (node['name'], node['url'], line) if part))}</title>"
    parts = [f'<g>{tip}<rect x="{x:.1f}" y="{y:.1f}" width="{width}" height="{height}" rx="10" class="node {state}"/>']
    if colour:
        parts.append(f'<rect x="{x + 10:.1f}" y="{y + 14:.1f}" width="5" height="{height - 28}" rx="2.5" style="fill:{colour}"/>')
    left = x + (26 if colour else 16)
    room = x + width - 8 - left
    url = "" if column.low else node["url"]
    parts.append(text_at(left, y + (22 if column.low else 26), short(node["name"], int(room / 9.9)), "name", full=node["name"]))
    parts.append(text_at(left, y + 45, short(url, int(room / 7.5)), "mono", full=url) if url else "")
    below = 40 if column.low else 63 if url else 48
    parts.append(text_at(left, y + below, short(line, int(room / 6.4)), "small " + state, full=line))
    return "".join(parts) + "</g>"


def _call(points: t.Sequence[Point], width: float, css: str, tip: str) -> str:
    """A curve from point to point, level at each of them."""
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for start, end in zip(points, points[1:]):
        middle = (start[0] + end[0]) / 2
        path += f" C{middle:.1f} {start[1]:.1f} {middle:.1f} {end[1]:.1f} {end[0]:.1f} {end[1]:.1f}"
    return f'<path d="{path}" class="edge {css}" stroke-width="{width:.1f}"><title>{esc(tip)}</title></path>'


class Picture:
    """Places every node, then draws the calls below and the nodes above."""

    def __init__(self, report: Data) -> None:
        self.report = report
        self.columns = _columns(report)
        self.width = WIDE if "edge" in self.columns else WIDTH
        self.node_width = NARROW_NODE_WIDTH if "edge" in self.columns else NODE_WIDTH
        self.tall = max(column.height for column in self.columns.values())
        gap = (self.width - len(self.columns) * self.node_width - 4) / (len(self.columns) - 1)
        self.left = {name: 2 + number * (self.node_width + gap) for number, name in enumerate(self.columns)}
        # By column and name, as one machine may be several things.
        self.at: dict[tuple[str, str], Point] = {}
        self.lane = 0.0
        for name, column in self.columns.items():
            y = HEAD + (self.tall - column.height) / 2
            for node in column.nodes:
                self.at[name, node["name"]] = (self.left[name], y)
                y += column.node_height + column.gap
            if column.passed:
                self.lane = y - column.gap + LANE

    def _side(self, column: str, node: str, right: bool) -> Point:
        x, y = self.at[column, node]
        return (x + (self.node_width if right else 0), y + self.columns[column].node_height / 2)

    def _boxes(self) -> list[str]:
        palette = colours(self.report)
        boxes = []
        for name, column in self.columns.items():
            boxes.append(text_at(self.left[name], 16, column.title, "head"))
            for node in column.nodes:
                colour = palette.get(node["name"]) if name == "backends" else None
                boxes.append(_node(node, self.at[name, node["name"]], self.node_width, column, colour))
        return boxes

    def _to_gateway(self, client: Data, gateway: str) -> list[Point]:
        start, end = self._side("clients", client["name"], True), self._side("gateways", gateway, False)
        if "edge" not in self.columns:
            return [start, end]
        left, lane = self.left["edge"], self.lane + (0 if client["group"] == "webui" else LANES)
        return [start, (left, lane), (left + self.node_width, lane), end]

    def _calls(self) -> list[str]:
        calls = []
        gateways = self.columns["gateways"].nodes
        for client in self.columns["clients"].nodes:
            for gateway in gateways:
                css = "idle" if client["group"] == "webui" else "used" if gateway.get("ok") else "bad"
                path = self._to_gateway(client, gateway["name"])
                calls.append(_call(path, 2, css, f"{client['name']} to {gateway['name']}"))
        for edge in self.columns["edge"].nodes if "edge" in self.columns else []:
            css = "used" if edge.get("ok") else "bad" if "ok" in edge else "idle"
            path = [self._side("clients", self.report["client"], True), self._side("edge", edge["name"], False)]
            calls.append(_call(path, 2, css, f"{self.report['client']} to {edge['name']}"))
            for gateway in gateways:
                # Which of several gateways answered is not told.
                css = "used" if len(gateways) == 1 and edge.get("ok") else "idle"
                path = [self._side("edge", edge["name"], True), self._side("gateways", gateway["name"], False)]
                calls.append(_call(path, 2, css, f"{edge['name']} to {gateway['name']}"))
        return calls + self._answers()

    def _answers(self) -> list[str]:
        calls = []
        for gateway in self.report["gateways"]:
            if gateway["group"] != "litellm":
                continue
            total = sum(gateway["answered"].values())
            for backend in self.columns["backends"].nodes:
                answered = gateway["answered"].get(backend["name"], 0)
                width = 1.5 + 6.5 * answered / total if answered else 1.5
                tip = f"{backend['name']} through {gateway['name']}: {count_text(answered, 'answer')}"
                path = [self._side("gateways", gateway["name"], True), self._side("backends", backend["name"], False)]
                calls.append(_call(path, width, "used" if answered else "idle", tip))
        return calls

    def svg(self) -> str:
        words = "; ".join(
            f"{column.title}: {', '.join(node['name'] for node in column.nodes) or 'none'}" for column in self.columns.values()
        )
        title = "Topology with the number of answers seen from each backend"
        return drawing(HEAD + self.tall + 4, title, words, self._calls() + self._boxes(), self.width)


def topology_svg(report: Data) -> str:
    return Picture(report).svg()
