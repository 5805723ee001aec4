# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re
import typing as t
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from ansible_collections.selfhosted.llm.plugins.module_utils import report_data, report_svg, report_topology, report_words
from ansible_collections.selfhosted.llm.plugins.module_utils.report_data import build_report, normalise_document, redact
from ansible_collections.selfhosted.llm.plugins.module_utils.report_html import page
from ansible_collections.selfhosted.llm.plugins.module_utils.report_junit import junit
from ansible_collections.selfhosted.llm.plugins.module_utils.report_text import table
from ansible_collections.selfhosted.llm.tests.unit.plugins.module_utils.report_samples import (
    EDGE_TOPOLOGY,
    TOPOLOGY,
    check,
    document,
    edge,
    edge_document,
    gateway,
    load,
    servers_document,
)

KEY = "sk-0123456789abcdef0123456789abcdef"
parse = ElementTree.fromstring  # what is parsed here was written by the code under test
NASTY = '<script>alert("x")</script> & \x00\x1b[31m \ud800'


def report(*gateways: t.Any, hide: tuple[str, ...] = ()) -> t.Any:
    return build_report("HX & co", "2026-11-20 12:00:00+00:00", "localhost", gateways or [gateway(document())], TOPOLOGY, hide)


class _Page(HTMLParser):
    """Fails where a tag is not closed; collects tags and what they would fetch."""

    VOID = ("meta", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: t.Any) -> None:
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: t.Any) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_everything_passed() -> None:
    found = report(gateway(document(loads=[load()])))
    assert found["ok"]
    assert found["counts"] == {"passed": 1, "failed": 0, "skipped": 0}
    assert report_words.verdict(found) == "All 1 check passed"
    assert found["gateways"][0]["version"] == "1.106.2"
    assert found["gateways"][0]["answered"] == {"llm01": 31, "llm02": 10}


def test_counts_are_made_from_the_checks_and_not_believed() -> None:
    found = report(gateway(document([check("a", "failed", "auth"), check("b", "skipped")], ok=True, counts={"passed": 9})))
    assert not found["ok"]
    assert found["counts"] == {"passed": 0, "failed": 1, "skipped": 1}


def test_skipped_alone_proves_nothing() -> None:
    found = report(gateway(document([check("a", "skipped")])))
    assert not found["ok"]
    assert report_words.verdict(found) == "Nothing was proven, 1 skipped"


def test_no_gateway_and_no_document_prove_nothing() -> None:
    assert not build_report("x", "now", "here", [], [])["ok"]
    found = report(gateway({"skipped": True}))
    assert not found["ok"]
    assert found["counts"]["failed"] == 1


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"stdout": "", "stderr": "python3: not found", "rc": 127}, "exit code 127), but said: python3: not found"),
        ({"stdout": "Traceback", "rc": 1}, "Traceback"),
        ({"stdout": "[]", "rc": 0}, "gave no results"),
        ({"stdout": '{"checks": []}', "rc": 0}, "gave no results"),
        ({"failed": True, "msg": "Unable to import"}, "Unable to import"),
        ({"unreachable": True, "msg": "ssh"}, "the host cannot be reached: ssh"),
    ],
)
def test_a_client_without_results_has_failed(raw: t.Any, words: str) -> None:
    found = normalise_document(raw)
    assert found
    assert not found["ok"]
    assert words in found["checks"][0]["message"]
    assert found["counts"]["failed"] == 1


def test_a_document_in_the_output_of_a_command() -> None:
    found = normalise_document({"stdout": json.dumps(document(client="openai-python 3")), "rc": 1, "stderr": "a warning"})
    assert found
    assert found["client"] == "openai-python 3"
    assert found["ok"]


def test_nothing_but_the_document_is_kept() -> None:
    found = normalise_document(document(invocation={"module_args": {"api_key": KEY}}))
    assert found
    assert "invocation" not in found


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"Incorrect key {KEY}.", "Incorrect key [hidden]."),
        ("Authorization: Bearer abcdefgh12345", "Authorization: Bearer [hidden]"),
        ("token hf_abcdefghijklmnopqrstuvwx", "token [hidden]"),
        ("sk-gpu-host answered", "sk-gpu-host answered"),
        ("it is my-secret-word here", "it is [hidden] here"),
        ("a ab abc", "a ab abc"),
    ],
)
def test_redact(text: str, left: str) -> None:
    assert redact({"a": [text]}, ["my-secret-word", "ab", ""]) == {"a": [left]}


def test_redact_by_name() -> None:
    assert redact({"api_key": "short", "tokens": 4, "n": None}) == {"api_key": "[hidden]", "tokens": 4, "n": None}


def test_no_key_in_any_output() -> None:
    secret = "correct horse battery"
    leaky = document(
        [check(f"leak of {secret}", "failed", "auth", f"got {KEY} and {secret}", details={"sent": secret})], url="http://x/" + secret
    )
    found = report(gateway(leaky, {"stdout": "", "stderr": f"{secret} {KEY}"}, name=secret), hide=(secret,))
    for text in (json.dumps(found), page(found), junit(found), "\n".join(table(found))):
        assert secret not in text
        assert KEY not in text
        assert "[hidden]" in text


def test_topology_knows_hosts_that_only_answers_tell_of() -> None:
    found = report(gateway(document(loads=[load(shares={"m@gpu:8080": 4}, declared=["m@gpu:8080", "m@dead:1"])]), name="gw9"))
    nodes = {node["name"]: node for node in found["nodes"]}
    assert nodes["gpu:8080"]["group"] == "server"
    assert nodes["gpu:8080"]["answered"] == 4
    assert nodes["dead:1"]["answered"] == 0
    assert nodes["gw9"]["group"] == "litellm"
    assert nodes["llm02"]["answered"] == 0


def test_topology_picture() -> None:
    svg = parse(report_topology.topology_svg(report(gateway(document(loads=[load()])))))
    text = " ".join("".join(part.itertext()) for part in svg.iter("text"))
    assert "Open WebUI 0.12.4" in text
    assert "Ollama 0.32.15 · 31 answers" in text
    assert "Ollama · 10 answers" in text
    assert "LiteLLM 1.106.2 · passed" in text
    used = [path for path in svg.iter("path") if path.get("class") == "edge used"]
    assert len(used) == 3


def deployment(*more: t.Any, down: str = "") -> t.Any:
    """An edge, its gateways, and servers of which some answered."""
    sfw = document([check("chat", details={"backend": "sfw@gpu-1:8080"}), check("chat", details={"backend": "phi3@llm01"})])
    found = [gateway(sfw, servers_document(down)), gateway(sfw, servers_document(), name="gw2"), *more]
    return build_report("HeartCode", "2026-11-24 07:00:00+00:00", "localhost", found, EDGE_TOPOLOGY)


def words_of(svg: t.Any) -> list[str]:
    return ["".join(part.itertext()) for part in svg.iter("text")]


def calls_of(svg: t.Any) -> dict[str, str]:
    return {"".join(path.itertext()): path.get("class").split()[-1] for path in svg.iter("path")}


def test_topology_with_an_edge() -> None:
    svg = parse(report_topology.topology_svg(deployment(edge(edge_document()), edge(edge_document(3, "failed"), name="edge-2"))))
    words = words_of(svg)
    assert [word for word in words if word in ("Clients", "Edge", "Gateways", "Backends")] == ["Clients", "Edge", "Gateways", "Backends"]
    assert "nginx · passed" in words
    assert "nginx · failed" in words
    calls = calls_of(svg)
    assert (calls["localhost to edge-1"], calls["localhost to edge-2"], calls["localhost to gw1"]) == ("used", "bad", "used")
    # Which gateway answered through an edge is not told, so it is not claimed.
    assert (calls["edge-1 to gw1"], calls["webui to gw1"]) == ("idle", "idle")
    assert calls["gpu-1:8080 through gw2: 1 answer"] == "used"
    assert svg.get("viewBox") == "0 0 1120 " + svg.get("viewBox", "").split()[3]


def test_topology_with_an_edge_before_one_gateway() -> None:
    found = build_report("x", "now", "here", [gateway(document()), edge(edge_document())], EDGE_TOPOLOGY[1:2])
    assert calls_of(parse(report_topology.topology_svg(found)))["edge-1 to gw1"] == "used"
    assert found["nodes"][0] == {"name": "edge-1", "group": "edge", "url": "https://api.example.com", "version": "", "ok": True}


def test_one_machine_that_is_edge_and_gateway() -> None:
    topology = [{"name": "gw1", "group": group, "url": f"https://{group}", "version": None} for group in ("edge", "litellm")]
    found = build_report("x", "now", "here", [gateway(document()), edge(edge_document(3, "failed"), name="gw1")], topology)
    assert [(node["group"], node["name"], node["ok"]) for node in found["nodes"][:2]] == [("edge", "gw1", False), ("litellm", "gw1", True)]
    assert report_data.failed_checks(found)[0]["gateway"] == "gw1 (edge)"
    assert "gw1 (edge)  https://api.example.com" in "\n".join(table(found))
    assert [suite.get("name") for suite in parse(junit(found).encode()).findall("testsuite")] == [
        "gw1: openai_api_check",
        "gw1 (edge): edge_check at 192.0.2.10",
    ]
    parse(report_topology.topology_svg(found))


def test_an_edge_that_nobody_named_is_shown_all_the_same() -> None:
    found = build_report("x", "now", "here", [gateway(document()), edge(edge_document(), name="edge-9")], [])
    assert [(node["group"], node["name"]) for node in found["nodes"]] == [("litellm", "gw1"), ("edge", "edge-9"), ("server", "llm01")]


def test_servers_say_how_they_are() -> None:
    found = deployment(down="gpu-2:8091")
    nodes = {node["name"]: node for node in found["nodes"]}
    # One gateway that does not reach it is enough.
    assert (nodes["gpu-2:8091"]["well"], nodes["gpu-2:8090"]["well"]) == (False, True)
    assert "well" not in nodes["llm01"]
    svg = parse(report_topology.topology_svg(found))
    words = words_of(svg)
    assert "2 answers" in words
    assert "well, no answer" in words
    assert "by tunnel · not well" in words
    # So many are drawn low, and the address is in the tip.
    assert "http://127.0.0.1:8091" not in words
    assert "gpu-2:8091 http://127.0.0.1:8091 by tunnel · not well" in ["".join(title.itertext()) for title in svg.iter("title")]
    assert report_topology._backend_state({**nodes["gpu-1:8080"], "well": False}) == ("2 answers · not well", "bad")
    del nodes["gpu-2:8090"]["well"]
    assert report_topology._backend_state(nodes["gpu-2:8090"]) == ("by tunnel · no answer", "bad")


@pytest.mark.parametrize("number", [1, 3, 8, 9, 40])
@pytest.mark.parametrize("edges", [0, 1, 5])
def test_topology_stays_in_its_frame(number: int, edges: int) -> None:
    topology: list[t.Any] = [{"name": f"gpu:{port}", "group": "server", "url": "http://x", "version": ""} for port in range(number)]
    topology += [{"name": f"edge-{index}", "group": "edge", "url": "https://x", "version": ""} for index in range(edges)]
    svg = parse(report_topology.topology_svg(build_report("x", "now", "here", [gateway(document())], topology)))
    width, height = (float(part) for part in svg.get("viewBox", "").split()[2:])
    for box in svg.iter("rect"):
        assert 0 <= float(box.get("x", 0)) <= width - float(box.get("width", 0))
        assert 0 <= float(box.get("y", 0)) <= height - float(box.get("height", 0))
    for path in svg.iter("path"):
        points = re.findall(r"(-?[\d.]+) (-?[\d.]+)", path.get("d", ""))
        assert all(0 <= float(x) <= width and 0 <= float(y) <= height for x, y in points)


def test_the_certificate_that_ends_first_is_on_the_page() -> None:
    found = deployment(edge(edge_document(89.6)), edge(edge_document(12.9), name="edge-2"))
    assert report_words.certificate_days(found) == 12.9
    text = page(found)
    _Page(text)
    assert "<dt>Certificate good for</dt><dd><b>12 days</b>" in text
    assert "through 2 gateways" in text
    assert "Certificate" not in page(deployment())


def test_topology_grows_with_the_hosts() -> None:
    shares = {f"m@host-{number:02}.example.com": 2 for number in range(30)}
    svg = parse(report_topology.topology_svg(report(gateway(document(loads=[load(shares=shares)])))))
    height = float(svg.get("viewBox", "").split()[3])
    bottoms = [float(box.get("y", 0)) + float(box.get("height", 0)) for box in svg.iter("rect")]
    assert max(bottoms) <= height


def test_a_second_load_is_told() -> None:
    numbers = {**load(), "first_load": ["phi3@llm02 answered 0 of 20 requests"], "loads": 3, "unsent": 7}
    words = " ".join(report_words.load_sentences(numbers)).replace(report_words.NBSP, " ")
    assert "7 more were not sent, as the time for it was over." in words
    assert (
        "This is the last of 3 loads, those after the first twice as big. Under the first, phi3@llm02 answered 0 of 20 requests." in words
    )


def test_backends_with_an_internal_name_of_the_model() -> None:
    numbers = load("public", {"internal@gpu-1:8080": 3, "internal@gpu-2:8080": 3})
    assert [report_words.backend_text(numbers, entry["backend"]) for entry in numbers["backends"]] == ["gpu-1:8080", "gpu-2:8080"]
    strange = load("public", {"internal@a": 3, "other@a": 3}, ["internal@a"])
    assert [report_words.backend_text(strange, entry["backend"]) for entry in strange["backends"]] == ["a", "other@a"]


def test_share_bars_are_as_long_as_the_shares() -> None:
    found = report(gateway(document(loads=[load()])))
    svg = parse(report_svg.shares_svg(found["gateways"][0]["documents"][0]["load"][0], report_svg.colours(found)))
    bars = [float(bar.get("width", 0)) for bar in svg.iter("rect") if bar.get("style")]
    assert bars[0] / bars[1] == pytest.approx(3.0, rel=0.01)
    text = " ".join("".join(part.itertext()) for part in svg.iter("text"))
    assert "fair share 50" in text
    assert "least 12.5" in text
    assert "30" in text
    assert "10" in text


def test_histogram_counts_every_sample() -> None:
    assert sum(report_svg.bins([0.1, 0.2, 0.2, 9.0, -1.0], lambda value: value)) == 5
    assert report_svg.bins([0.0], lambda value: value)[0] == 1
    assert report_svg.bins([1.0], lambda value: value)[-1] == 1


@pytest.mark.parametrize("spread", [1.0, 100.0])
def test_latency_picture_stays_in_its_frame(spread: float) -> None:
    numbers = load()
    numbers["backends"][1]["samples"] = [value * spread for value in numbers["backends"][1]["samples"]]
    numbers["backends"][1]["latency"] = {key: value * spread for key, value in numbers["backends"][1]["latency"].items()}
    svg = parse(report_svg.latency_svg(numbers, {}))
    for line in svg.iter("line"):
        assert report_svg.LABEL - 0.1 <= float(line.get("x1", 0)) <= report_svg.WIDTH - 149.9
    text = "".join(svg.itertext())
    assert ("logarithmic" in text) == (spread > 1)


def test_latency_picture_of_nothing() -> None:
    numbers = load(shares={"m@a": 0}, failed=3)
    assert report_svg.latency_svg(numbers, {}) == ""
    page(report(gateway(document(loads=[numbers]))))


def test_equal_and_zero_latencies() -> None:
    numbers = load(shares={"m@a": 1})
    for value in (0.0, 0.2):
        numbers["backends"][0]["samples"] = [value]
        parse(report_svg.latency_svg(numbers, {}))


@pytest.mark.parametrize("length", [3, 26, 27, 200])
def test_short_names(length: int) -> None:
    text = "".join(chr(ord("a") + index % 26) for index in range(length))
    found = report_svg.short(text, 26)
    assert len(found) == min(length, 26)
    assert found[:3] == text[:3]
    assert found[-3:] == text[-3:]


def test_page_is_whole_and_needs_no_network() -> None:
    found = report(
        gateway(document([check("a"), check("b", "failed", "tls", NASTY), check("c", "skipped")], [load(failed=2)])), gateway(name="gw2")
    )
    text = page(found)
    text.encode("utf-8")
    assert "\x00" not in text
    assert "\x1b" not in text
    parsed = _Page(text)
    assert "script" not in parsed.tags
    assert "img" not in parsed.tags
    assert set(parsed.fetched) == {"data:,", "report.json", "junit.xml"}
    assert "url(" not in text
    assert "@import" not in text
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;" in text
    assert "HX &amp; co" in text
    assert parsed.tags.count("svg") == 3
    assert text.count('role="img"') == 3


def test_names_from_the_inventory_are_escaped_too() -> None:
    nasty = "<b onclick='x'>\"&"
    node = {"name": nasty, "group": "llm", "url": nasty, "version": nasty}
    bad = gateway(
        document([check(nasty, "failed", nasty, nasty)], [load(model=nasty, shares={nasty + "@" + nasty: 3})], client=nasty, url=nasty),
        name=nasty,
    )
    text = page(build_report(nasty, nasty, nasty, [bad], [node]))
    _Page(text)
    assert "<b onclick" not in text
    assert "onclick='" not in text


def test_every_colour_of_the_style_sheet_exists_in_both_schemes() -> None:
    style = page(report()).split("<style>")[1].split("</style>")[0]
    light, dark = (set(re.findall(r"(--\w+):", part)) for part in style.split("@media (prefers-color-scheme:dark)")[:2])
    assert set(re.findall(r"var\((--\w+)\)", page(report()))) <= light
    assert light == dark & light


def _contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        full = colour * 2 if len(colour) == 3 else colour
        parts = [int(full[index : index + 2], 16) / 255.0 for index in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_contrast_of_text_and_bars() -> None:
    style = page(report()).split("<style>")[1]
    light, dark = style.split("@media (prefers-color-scheme:dark)")[:2]
    for part in (light, dark.split("}}")[0]):
        colours = dict(re.findall(r"--(\w+):#([0-9a-f]{3,6})", part))
        for front, back in (
            ("text", "bg"),
            ("text", "card"),
            ("soft", "bg"),
            ("soft", "card"),
            ("ok", "card"),
            ("ok", "okbg"),
            ("bad", "card"),
            ("bad", "badbg"),
            ("link", "bg"),
        ):
            assert _contrast(colours[front], colours[back]) >= 4.5, (front, back)
        for number in range(report_svg.SERIES):
            assert _contrast(colours[f"s{number}"], colours["card"]) >= 3.0, number


def test_junit() -> None:
    found = report(
        gateway(document([check("a"), check("b", "failed", "tls", NASTY), check("c", "skipped", message="why")]), document(client="sdk")),
        gateway(name="gw2"),
    )
    root = parse(junit(found).encode("utf-8"))
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("5", "2", "1")
    suites = root.findall("testsuite")
    assert [suite.get("name") for suite in suites] == ["gw1: openai_api_check", "gw1: sdk", "gw2: verification"]
    assert [suite.get("tests") for suite in suites] == ["3", "1", "1"]
    failure = root.find(".//testcase[@name='b']/failure")
    assert failure is not None
    assert failure.get("type") == "tls"
    assert "<script>" in str(failure.text)
    skipped = root.find(".//testcase[@name='c']/skipped")
    assert skipped is not None
    assert skipped.get("message") == "why"
    assert suites[0].get("time") == "0.750"
    assert float(root.get("time", 0)) == pytest.approx(1.0)


def test_table() -> None:
    lines = table(
        report(gateway(document([check("a"), check("b", "failed", "tls", "word " * 60), check("c", "skipped")], [load(failed=1)]))),
        width=100,
    )
    text = "\n".join(lines)
    assert lines[0] == "HX & co: 1 of 2 checks failed, 1 skipped"
    assert "gw1  http://192.0.2.1:4000 (LiteLLM 1.106.2)  by openai_api_check" in lines
    assert re.search(r"^  PASS  a +250 ms  fine$", text, re.MULTILINE)
    assert re.search(r"^  FAIL  b +250 ms  \[tls\] word", text, re.MULTILINE)
    assert re.search(r"^    llm01  #{15} +75 %    30  p50 345 ms", text, re.MULTILINE)
    assert "1 failed (timeout 1)." in text
    assert all(line == line.rstrip() and "\u00a0" not in line for line in lines)
    assert max(len(line) for line in lines) <= 100


def test_sentences_say_what_was_measured() -> None:
    words = " ".join(report_words.load_sentences(load(failed=2))).replace(report_words.NBSP, " ")
    assert "42 streamed chats were sent, 8 at a time" in words
    assert "40 answered in 4.00 s, 10.0/s." in words
    assert "The most went to llm01 (75 %), the fewest to llm02 (25 %)." in words
    assert "Fastest was llm01 (median 345 ms), slowest llm02 (445 ms)." in words
    assert "2 failed (timeout 2)." in words
    assert "least-busy" not in words
    words = " ".join(report_words.load_sentences(load(shares={"phi3@a": 5}, declared=["phi3@a", "phi3@b"])))
    assert "No answer came from b." in words
    assert "Fastest" not in words
    assert "same number" in " ".join(report_words.load_sentences(load(shares={"phi3@a": 5, "phi3@b": 5})))


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0.0 ms"), (0.0042, "4.2 ms"), (0.25, "250 ms"), (0.9996, "1.00 s"), (12.34, "12.3 s"), (125.2, "2 min 05 s")],
)
def test_seconds_text(value: float | None, text: str) -> None:
    assert report_words.seconds_text(value).replace(report_words.NBSP, " ") == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0 %"), (0.034, "3.4 %"), (0.125, "12.5 %"), (0.5, "50 %"), (0.531, "53 %"), (1.0, "100 %")]
)
def test_percent_text(share: float, text: str) -> None:
    assert report_words.percent_text(share).replace(report_words.NBSP, " ") == text


@pytest.mark.parametrize(("backend", "place"), [("m@h", "h"), ("org/m@h:80", "h:80"), ("http://h:11434", "http://h:11434"), ("a@b@c", "c")])
def test_place_of(backend: str, place: str) -> None:
    assert report_data.place_of(backend) == place
