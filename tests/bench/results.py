# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what was measured to the tables of docs/benchmarks.md: ratios inside one round, their median and their spread over the rounds."""

from __future__ import annotations

import itertools
import re
import statistics
import typing as t

Values = t.Sequence[float]

PLAY = re.compile(r"^PLAY \[(.*?)\] \**$")
RECAP = re.compile(r"^\S+ +: ok=\d+ +changed=(\d+) ")


def number(value: float) -> str:
    """Three digits, as many as a measurement of this kind is worth."""
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def spread(values: Values, show: t.Callable[[float], str] = number) -> str:
    """The median, and the lowest and the highest where they differ."""
    middle, low, high = show(statistics.median(values)), show(min(values)), show(max(values))
    return middle if low == high else f"{middle} ({low}–{high})"


def percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def table(header: t.Sequence[str], rows: t.Iterable[t.Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def replace_block(text: str, name: str, body: str) -> str:
    """The text with another body between the markers of that name."""
    begin, end = f"<!-- BEGIN {name} -->", f"<!-- END {name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"expected {begin} and after it {end}, once each")
    return text[: text.index(begin) + len(begin)] + "\n" + body.strip("\n") + "\n" + text[text.index(end) :]


def play_name(line: str) -> str | None:
    match = PLAY.match(line)
    return match.group(1) if match else None


def changed_tasks(output: t.Iterable[str]) -> int:
    """Of all hosts of a playbook's recap."""
    return sum(int(match.group(1)) for match in map(RECAP.match, output) if match)


def durations(marks: t.Sequence[tuple[str, float]], end: float) -> dict[str, float]:
    """From when each step began to how long it took. A step that came twice counts with its sum."""
    found: dict[str, float] = {}
    for (name, begun), (_next, ended) in itertools.pairwise([*marks, ("", end)]):
        found[name] = found.get(name, 0.0) + ended - begun
    return found


def in_window(latencies: Values, finished: Values, begin: float, end: float) -> list[float]:
    """Latencies of the requests that ended in the window: neither the start of a load nor its last stragglers."""
    return [latency for latency, when in zip(latencies, finished, strict=True) if begin <= when < end]


def shares(counts: t.Mapping[str, int]) -> dict[str, float]:
    total = sum(counts.values())
    return {name: count / total if total else 0.0 for name, count in counts.items()}


# --- tables ---------------------------------------------------------------------------------------

DeployRound = t.Mapping[str, t.Any]
LoadRound = t.Mapping[str, t.Mapping[str, t.Any]]


def deploy_ratios(rounds: t.Sequence[DeployRound]) -> dict[str, list[float]]:
    """`first` and `bare` are seconds of one run each; `second` and `ping` of several, of which the median counts."""
    found: dict[str, list[float]] = {
        "first / ping": [],
        "first / bare": [],
        "second / ping": [],
        "second / bare": [],
        "second / first": [],
    }
    for item in rounds:
        seconds = {
            name: statistics.median(item[name]) if isinstance(item[name], list) else item[name]
            for name in ("first", "second", "ping", "bare")
        }
        for name, values in found.items():
            above, below = name.split(" / ")
            values.append(seconds[above] / seconds[below])
    return found


def deploy_tables(rounds: t.Sequence[DeployRound]) -> str:
    ratios = {name: spread(values) for name, values in deploy_ratios(rounds).items()}
    compared = table(
        ["`playbooks/site.yml`", "÷ one ping task", "÷ bare installation", "÷ first run"],
        [
            ["first run", ratios["first / ping"], ratios["first / bare"], "1"],
            ["second run", ratios["second / ping"], ratios["second / bare"], ratios["second / first"]],
        ],
    )
    plays = table(
        ["play", "of the first run", "of the second run"],
        [[name, part(rounds, "first_plays", name), part(rounds, "second_plays", name)] for name in rounds[0]["first_plays"]],
    )
    steps = table(
        ["step of the bare installation", "of it"], [[name, part(rounds, "bare_steps", name)] for name in rounds[0]["bare_steps"]]
    )
    changed = max(item["second_changed"] for item in rounds)
    return "\n\n".join(
        [compared, f"Tasks that changed something in a second run: {changed}.", "Where the time goes, as shares of each run:", plays, steps]
    )


def keys_table(rounds: t.Sequence[DeployRound]) -> str:
    """`first` is seconds of one run; `second` and `ping` of several, of which the median counts."""
    medians = [{name: statistics.median(item[name]) for name in ("second", "ping")} | {"first": item["first"]} for item in rounds]

    def ratio(above: str, below: str) -> str:
        return spread([item[above] / item[below] for item in medians])

    compared = table(
        ["`playbooks/keys.yml`", "÷ one ping task", "÷ first run"],
        [["first run", ratio("first", "ping"), "1"], ["second run", ratio("second", "ping"), ratio("second", "first")]],
    )
    return f"{compared}\n\nTasks that changed something in a second run: {max(item['second_changed'] for item in rounds)}."


def part(rounds: t.Sequence[DeployRound], group: str, name: str) -> str:
    return spread([item[group].get(name, 0.0) / sum(item[group].values()) for item in rounds], percent)


def relative(rounds: t.Sequence[LoadRound], one: str, other: str, key: str) -> str:
    return spread([item[one][key] / item[other][key] for item in rounds])


def balance_tables(rounds: t.Sequence[LoadRound], labels: t.Mapping[str, str], limits: t.Mapping[str, float]) -> str:
    """`limits`: answers a second that each backend can give. The first label is what is compared with the others."""
    total = sum(limits.values())
    hosts = [f"{name} (fair: {percent(limit / total)})" for name, limit in limits.items()]
    reached = table(
        ["through", "requests/s ÷ what the hosts can answer", *hosts],
        [
            [
                label,
                spread([item[name]["rate"] / total for item in rounds]),
                *(spread([item[name]["shares"][host] for item in rounds], percent) for host in limits),
            ]
            for name, label in labels.items()
        ],
    )
    subject, *others = labels
    against = table(
        [f"{labels[subject]} ÷", "requests/s", "p50", "p99"],
        [[labels[other], *(relative(rounds, subject, other, key) for key in ("rate", "p50", "p99"))] for other in others],
    )
    return f"{reached}\n\n{against}"


def against_table(rounds: t.Sequence[LoadRound], labels: t.Mapping[str, str], base: str, columns: t.Mapping[str, str]) -> str:
    """Each of the labels divided by `base`. Columns: key to heading."""
    return table(
        ["", *columns.values()],
        [[label, *(relative(rounds, name, base, key) for key in columns)] for name, label in labels.items() if name != base],
    )
