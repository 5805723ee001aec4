# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client gets through the edge nodes, and what the backends see of it. edge_client.py asks, backend.py answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://edge-backends"]

EDGES = ["edge-bookworm", "edge-trixie"]
both = pytest.mark.parametrize("edge", EDGES)
CHAT = "/v1/chat/completions"


def client(host: Host, command: str, edge: str, **options: Any) -> Any:
    question = json.dumps({"edge": edge, "ca": f"/root/{edge}.crt", **options})
    return json.loads(host.check_output("cd /root && timeout 120 python3 edge_client.py %s %s", command, question))


def ask(host: Host, edge: str, path: str, **options: Any) -> Any:
    (answer,) = client(host, "requests", edge, path=path, **options)
    return answer


def error(answer: Any) -> tuple[int, str]:
    """Status and code of an answer in the shape that clients of the API know."""
    assert answer["headers"]["content-type"] == "application/json"
    body = json.loads(answer["body"])["error"]
    assert set(body) == {"message", "type", "param", "code"}
    return answer["status"], body["code"]


def tls(host: Host, edge: str, *options: str) -> str:
    name = "" if "-noservername" in options else "-servername api.edge.test"
    # With h2 the server begins to speak in bytes that are no text.
    question = f"openssl s_client -connect {edge}:443 {name} {' '.join(options)} </dev/null 2>&1"
    return str(host.run(f"{question} | tr -cd '[:print:]\\n'").stdout)


# --- TLS


@both
def test_the_certificate_is_that_of_the_name(host: Host, edge: str) -> None:
    for name in ("api.edge.test", "chat.edge.test"):
        assert "Verify return code: 0 (ok)" in tls(
            host, edge, f"-CAfile /root/{edge}.crt", f"-verify_hostname {name}", "-verify_return_error"
        )


@both
def test_protocols(host: Host, edge: str) -> None:
    old = "-cipher ALL:@SECLEVEL=0"
    for protocol in ("-tls1", "-tls1_1"):
        assert "Cipher is (NONE)" in tls(host, edge, protocol, old)
    assert ("Cipher is (NONE)" in tls(host, edge, "-tls1_2")) == (edge == "edge-trixie")
    assert "New, TLSv1.3" in tls(host, edge, "-tls1_3")
    assert "ALPN protocol: h2" in tls(host, edge, "-alpn h2,http/1.1")


def test_ciphers(host: Host) -> None:
    assert "Cipher is ECDHE-ECDSA-AES128-GCM-SHA256" in tls(host, "edge-bookworm", "-tls1_2", "-cipher ECDHE-ECDSA-AES128-GCM-SHA256")
    for cipher in ("ECDHE-ECDSA-AES128-SHA", "AES128-SHA", "DHE-RSA-AES128-GCM-SHA256"):
        assert "Cipher is (NONE)" in tls(host, "edge-bookworm", "-tls1_2", f"-cipher {cipher}:@SECLEVEL=0")


@both
def test_hsts_and_nothing_about_the_server(host: Host, edge: str) -> None:
    headers = ask(host, edge, "/v1/models")["headers"]
    assert headers["strict-transport-security"] == "max-age=63072000"
    assert headers["server"] == "nginx"
    assert len(headers["x-request-id"]) == 32
    assert "strict-transport-security" in ask(host, edge, "/", name="chat.edge.test")["headers"]


# --- names and ports


def curl(host: Host, edge: str, url: str, *options: str) -> str:
    words = " ".join(options)
    return str(
        host.run(
            f"curl -sk --noproxy '*' --max-time 20 -o /dev/null -w '%{{http_code}} %{{redirect_url}}' --connect-to ::{edge}: {words} {url}"
        ).stdout
    )


@both
def test_port_80_redirects_and_keeps_the_method(host: Host, edge: str) -> None:
    assert curl(host, edge, "'http://api.edge.test/v1/models?a=b'") == "308 https://api.edge.test/v1/models?a=b"
    assert curl(host, edge, "http://api.edge.test/v1/models", "-X POST -d x") == "308 https://api.edge.test/v1/models"
    assert curl(host, edge, "http://chat.edge.test/") == "308 https://chat.edge.test/"
    assert curl(host, edge, "http://api.edge.test:443/v1/models").strip() == "308 https://api.edge.test/v1/models"


@both
def test_other_names_are_refused(host: Host, edge: str) -> None:
    assert curl(host, edge, "http://other.test/").strip() == "000"
    # With an address among its names a node has to shake hands before it knows; it says then that this is not the place.
    refused = "421" if edge == "edge-bookworm" else "000"
    assert curl(host, edge, "https://other.test/").strip() == refused
    assert curl(host, edge, "https://api.edge.test/", "-H 'Host: other.test'").strip() == "421"
    if edge == "edge-trixie":
        assert "unrecognized name" in tls(host, edge, "-noservername")


def test_an_address_as_a_name(host: Host) -> None:
    address = host.check_output("getent ahostsv4 edge-bookworm | head -n 1 | cut -d' ' -f1")
    answer = ask(host, "edge-bookworm", "/v1/models", name=address)
    assert (answer["status"], json.loads(answer["body"])["headers"]["host"]) == (200, address)
    assert curl(host, "edge-bookworm", f"http://{address}/") == f"308 https://{address}/"


@both
def test_health_of_the_node_itself(host: Host, edge: str) -> None:
    for url in ("http://anything.test/edge/health", "http://api.edge.test/edge/health", "https://api.edge.test/edge/health"):
        assert curl(host, edge, url).strip() == "200"
    # Its configuration is nobody's business.
    assert curl(host, edge, "http://anything.test/edge/config").strip() == "000"
    assert curl(host, edge, "http://anything.test/edge/config", "-H 'X-Forwarded-For: 127.0.0.1'").strip() == "000"


# --- what passes


@both
def test_what_the_gateway_sees(host: Host, edge: str) -> None:
    claims = {
        "X-Forwarded-For": "192.0.2.66",
        "X-Real-IP": "192.0.2.66",
        "X-Forwarded-Proto": "http",
        "Upgrade": "h2c",
        "Authorization": "Bearer k",
    }
    seen = json.loads(ask(host, edge, f"{CHAT}?x=1", size=5, headers=claims)["body"])
    assert (seen["path"], seen["length"]) == (f"{CHAT}?x=1", 5)
    # Only the node that has a balancer in front believes it.
    client_address = "192.0.2.66" if edge == "edge-bookworm" else host.check_output("hostname -I").split()[0]
    assert seen["headers"]["x-forwarded-for"] == seen["headers"]["x-real-ip"] == client_address
    assert seen["headers"]["x-forwarded-proto"] == "https"
    assert seen["headers"]["host"] == "api.edge.test"
    assert seen["headers"]["authorization"] == "Bearer k"
    assert "upgrade" not in seen["headers"]
    assert "connection" not in seen["headers"]


@both
def test_a_stream_arrives_piece_by_piece(host: Host, edge: str) -> None:
    """The backend sends no piece before the client has the one before: a buffer on the way would stop it."""
    answer = client(host, "stream", edge, path=CHAT, size=10)
    assert (answer["status"], answer["pieces"], answer["broken"]) == (200, [0, 1, 2, 3, 4], False)


@both
def test_websockets(host: Host, edge: str) -> None:
    for name, path in (("chat.edge.test", "/ws/socket.io/?EIO=4&transport=websocket"), ("api.edge.test", "/v1/realtime?model=x")):
        words = client(host, "websocket", edge, name=name, path=path, words=["one", "two"])
        assert words == ["HTTP/1.1 101 Switching Protocols", "one", "two"]


@both
def test_requests_are_shared(host: Host, edge: str) -> None:
    answers = client(host, "requests", edge, path="/v1/models", times=10)
    assert {json.loads(answer["body"])["backend"] for answer in answers} == {"one", "two"}


@both
def test_open_webui_by_its_name(host: Host, edge: str) -> None:
    assert json.loads(ask(host, edge, "/admin/settings", name="chat.edge.test")["body"])["backend"] == "web"


@both
def test_the_gateways_own_errors_pass(host: Host, edge: str) -> None:
    answer = ask(host, edge, CHAT, size=5, headers={"X-Do": "refuse"})
    assert (answer["status"], json.loads(answer["body"])["error"]["message"]) == (503, "the gateway's own words")


# --- what does not


def test_too_large(host: Host) -> None:
    assert error(ask(host, "edge-bookworm", CHAT, size=2_000_000)) == (413, "request_too_large")
    assert ask(host, "edge-bookworm", CHAT, size=900_000)["status"] == 200
    assert json.loads(ask(host, "edge-bookworm", "/api/v1/files/", name="chat.edge.test", size=3_000_000)["body"])["length"] == 3_000_000
    assert ask(host, "edge-bookworm", "/api/v1/files/", name="chat.edge.test", size=5_000_000)["status"] == 413


def test_too_many(host: Host) -> None:
    answers = client(host, "requests", "edge-bookworm", path="/v1/models", times=60)
    assert [answer["status"] for answer in answers[:20]] == [200] * 20
    limited = [answer for answer in answers if answer["status"] != 200]
    assert limited
    assert {error(answer) for answer in limited} == {(429, "rate_limit_exceeded")}
    assert limited[0]["headers"]["retry-after"] == "1"
    # Another client has a limit of its own.
    assert ask(host, "edge-bookworm", "/v1/models")["status"] == 200


def test_too_many_at_once(host: Host) -> None:
    assert client(host, "at_once", "edge-bookworm", path=CHAT, size=5, times=5) == [200, 200, 200, 200, 429]


def test_guessing_passwords(host: Host) -> None:
    answers = client(host, "requests", "edge-bookworm", name="chat.edge.test", path="/api/v1/auths/signin", size=5, times=20)
    assert [answer["status"] for answer in answers[:3]] == [200] * 3
    assert answers[-1]["status"] == 429


ADMINISTRATION = [
    "/",
    "/ui/",
    "/key/generate",
    "/user/new",
    "/team/new",
    "/model/new",
    "/model/info",
    "/config/update",
    "/metrics",
    "/health",
    "/sso/key/generate",
]


@both
@pytest.mark.parametrize("path", ADMINISTRATION)
def test_administration_is_closed(host: Host, edge: str, path: str) -> None:
    answer = client(host, "counted", edge, path=path, size=5)
    assert error(answer) == (403, "path_not_open")
    assert set(answer["counts"].values()) == {0}


def test_administration_is_open_to_its_networks(host: Host) -> None:
    office = {"X-Forwarded-For": "203.0.113.9"}
    assert json.loads(ask(host, "edge-bookworm", "/key/generate", size=5, headers=office)["body"])["path"] == "/key/generate"
    # Not to who only says so: the balancer adds whom it saw.
    assert ask(host, "edge-bookworm", "/key/generate", size=5, headers={"X-Forwarded-For": "203.0.113.9, 192.0.2.1"})["status"] == 403
    assert ask(host, "edge-trixie", "/key/generate", size=5, headers=office)["status"] == 403
    assert ask(host, "edge-trixie", "/key/generate", size=5, headers={"X-Forwarded-For": "127.0.0.1"})["status"] == 403


@both
@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/../../key/generate",
        "/v1/models/%2e%2e/%2E./key/generate",
        "/v1/models%2f..%2f..%2fkey/generate",
        "//key/generate",
        "/v1/models/./x",
    ],
)
def test_no_way_around(host: Host, edge: str, path: str) -> None:
    assert error(ask(host, edge, path))[0] == 400


def test_more_paths_where_declared(host: Host) -> None:
    assert ask(host, "edge-trixie", "/mcp/tools")["status"] == 200
    assert ask(host, "edge-bookworm", "/mcp/tools")["status"] == 403


# --- when a gateway dies


@both
def test_a_completion_whose_gateway_dies_silently_is_asked_again(host: Host, edge: str) -> None:
    answer = client(host, "counted", edge, path=CHAT, size=5, headers={"X-Do": "die_first"})
    assert (answer["status"], answer["counts"]) == (200, {"one": 1, "two": 1})


@both
def test_what_makes_something_is_asked_once(host: Host, edge: str) -> None:
    answer = client(host, "counted", edge, path="/v1/files", size=5, headers={"X-Do": "die_first"})
    assert error(answer) == (502, "gateway_unavailable")
    assert sum(answer["counts"].values()) == 1


@both
def test_half_an_answer_is_not_begun_again(host: Host, edge: str) -> None:
    answer = client(host, "stream", edge, path=CHAT, size=10, do="break_off")
    assert (answer["pieces"], answer["broken"]) == ([0], True)
    assert sum(answer["counts"].values()) == 1


@both
def test_a_killed_gateway(host: Host, edge: str) -> None:
    answer = client(host, "killed", edge, path=CHAT, size=10, repeated=True)
    assert (answer["status"], answer["others"]) == (200, 1)
    assert json.loads(answer["body"])["backend"] != answer["victim"]
    answer = client(host, "killed", edge, path="/v1/files", size=10, repeated=False)
    assert error(answer) == (502, "gateway_unavailable")
    assert answer["others"] == 0


@both
def test_a_gateway_that_is_down_is_not_noticed(host: Host, edge: str) -> None:
    host.check_output("systemctl stop backend-one")
    try:
        answers = client(host, "requests", edge, path="/v1/files", size=5, times=12)
        assert [answer["status"] for answer in answers] == [200] * 12
        assert {json.loads(answer["body"])["backend"] for answer in answers} == {"two"}
        host.check_output("systemctl stop backend-two")
        assert error(ask(host, edge, CHAT, size=5)) == (502, "gateway_unavailable")
    finally:
        host.check_output("systemctl start backend-one backend-two")
        for port in (4001, 4002):
            host.check_output(f"curl -s --noproxy '*' --retry 50 --retry-connrefused --retry-delay 1 http://127.0.0.1:{port}/_test/count")
