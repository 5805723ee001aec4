# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.selfhosted.llm.plugins.plugin_utils import tunnels


def key(seed: int) -> str:
    data = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20" + bytes([seed]) * 32
    return f"ssh-ed25519 {base64.b64encode(data).decode()}"


ONE, TWO, HOST = key(1), key(2), key(9)
SERVERS: list[dict[str, t.Any]] = [
    {"host": "gpu-1", "port": 8080},
    {"host": "gpu-1", "port": 8090, "tunnel_port": None, "scheme": "https"},
    {"host": "gpu-2", "port": 8080, "tunnel_port": 18080},
]
GATEWAYS = {"gw-1": {"address": "192.0.2.10", "ssh_port": 2222, "host_keys": [HOST]}, "gw-2": {"address": "gw-2.example"}}


# --- from one list to both ends -----------------------------------------------------------------


def test_the_tunnels_of_a_host() -> None:
    first, second = tunnels.host_tunnels(SERVERS, "gpu-1", GATEWAYS)
    assert first == {
        "name": "gw-1",
        "host": "192.0.2.10",
        "port": 2222,
        "host_keys": [HOST],
        "forwards": [
            {"direction": "reverse", "listen": "127.0.0.1:8080", "target": "127.0.0.1:8080", "health": "/health"},
            {"direction": "reverse", "listen": "127.0.0.1:8090", "target": "127.0.0.1:8090", "health": "tcp"},
        ],
    }
    assert (second["name"], second["host"], second["port"], second["host_keys"]) == ("gw-2", "gw-2.example", 22, [])
    assert second["forwards"] == first["forwards"]
    (forward,) = tunnels.host_tunnels(SERVERS, "gpu-2", GATEWAYS)[0]["forwards"]
    assert (forward["listen"], forward["target"]) == ("127.0.0.1:18080", "127.0.0.1:8080")
    assert tunnels.host_tunnels(SERVERS, "gpu-3", GATEWAYS) == []
    assert tunnels.host_tunnels([], "gpu-1", GATEWAYS) == []


def test_what_is_extra() -> None:
    extra = [
        {"to": "gw-2", "direction": "forward", "listen": "127.0.0.1:5432", "target": "127.0.0.1:5432"},
        {"to": "jump", "listen": "127.0.0.1:9000", "target": "10.0.0.7:9000", "health": "/x"},
    ]
    bastions = {"jump": {"address": "198.51.100.1", "user": "tunnels", "host_keys": [HOST]}}
    made = tunnels.host_tunnels(SERVERS, "gpu-2", GATEWAYS, extra, bastions)
    assert [(tunnel["name"], len(tunnel["forwards"]), tunnel.get("user")) for tunnel in made] == [
        ("gw-1", 1, None),
        ("gw-2", 2, None),
        # The servers of models go to gateways only.
        ("jump", 1, "tunnels"),
    ]
    assert made[1]["forwards"][1] == {"direction": "forward", "listen": "127.0.0.1:5432", "target": "127.0.0.1:5432", "health": "tcp"}
    assert made[2]["forwards"][0] == {"direction": "reverse", "listen": "127.0.0.1:9000", "target": "10.0.0.7:9000", "health": "/x"}
    with pytest.raises(ValueError, match=r"llm_extra_tunnels of gpu-2 goes to jump. Known are: gw-1, gw-2. .*llm_tunnel_bastions"):
        tunnels.host_tunnels(SERVERS, "gpu-2", GATEWAYS, extra)


def test_a_gateway_needs_no_tunnel_to_itself() -> None:
    servers = [{"host": "gw-2", "port": 8080}]
    assert [tunnel["name"] for tunnel in tunnels.host_tunnels(servers, "gw-2", GATEWAYS)] == ["gw-1"]
    assert tunnels.tunnel_clients(servers, {}, "gw-2") == []
    elsewhere = [{"host": "gw-2", "port": 8080, "tunnel_port": 8081}]
    assert [tunnel["name"] for tunnel in tunnels.host_tunnels(elsewhere, "gw-2", GATEWAYS)] == ["gw-1", "gw-2"]


def test_the_clients_of_a_gateway() -> None:
    extra = {
        "gpu-2": [{"to": "gw-2", "direction": "forward", "listen": "127.0.0.1:5432", "target": "127.0.0.1:6432"}],
        "gpu-3": [{"to": "gw-1", "listen": "127.0.0.1:9000", "target": "127.0.0.1:9000"}],
    }
    clients = tunnels.tunnel_clients(SERVERS, {"gpu-1": ONE, "gpu-2": TWO}, "gw-1", extra)
    assert clients == [
        {"name": "gpu-1", "public_key": ONE, "listen": ["127.0.0.1:8080", "127.0.0.1:8090"], "open": []},
        {"name": "gpu-2", "public_key": TWO, "listen": ["127.0.0.1:18080"], "open": []},
        {"name": "gpu-3", "public_key": "", "listen": ["127.0.0.1:9000"], "open": []},
    ]
    assert tunnels.tunnel_clients(SERVERS, {}, "gw-2", extra)[1]["open"] == ["127.0.0.1:6432"]
    assert tunnels.tunnel_clients([], {}, "gw-2", {"gpu-1": []}) == []


def test_both_ends_agree() -> None:
    """What a client asks for is what the server permits."""
    clients = {client["name"]: client for client in tunnels.tunnel_clients(SERVERS, {"gpu-1": ONE, "gpu-2": TWO}, "gw-1")}
    for host in ("gpu-1", "gpu-2"):
        wanted = tunnels.permissions(tunnels.host_tunnels(SERVERS, host, GATEWAYS)[0]["forwards"])
        assert {key: clients[host][key] for key in ("listen", "open")} == wanted


def test_gateways_of_an_inventory() -> None:
    hostvars = {
        "a": {"ansible_host": "10.0.0.1", "ansible_port": "2222", "ssh_tunnel_host_keys": [HOST]},
        "b": {"ansible_host": "10.0.0.2", "llm_tunnel_address": "gw.example", "llm_tunnel_port": 443, "ssh_tunnel_server_user": "ends"},
    }
    assert tunnels.tunnel_gateways(["a", "b"], hostvars) == {
        "a": {"address": "10.0.0.1", "ssh_port": 2222, "host_keys": [HOST]},
        "b": {"address": "gw.example", "ssh_port": 443, "host_keys": [], "user": "ends"},
    }


# --- what cannot work ---------------------------------------------------------------------------


def tunnel(**changes: t.Any) -> dict[str, t.Any]:
    forward = {"direction": "reverse", "listen": "127.0.0.1:8080", "target": "127.0.0.1:8080", "health": "/health"}
    forward.update({name: changes.pop(name) for name in list(changes) if name in forward})
    return {"name": "gw-1", "host": "192.0.2.10", "port": 22, "user": "ends", "host_keys": [HOST], "forwards": [forward], **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"name": "GPU_1.example-2"},
        {"host": "2001:db8::1"},
        {"host_keys": [HOST + " root@gw-1"]},
        {"host_keys": []},
        {"listen": "[::1]:8080"},
        {"target": "gpu.lan:8080"},
        {"target": "[2001:db8::7]:8080"},
        {"health": "tcp"},
        {"health": "/v1/models?a=b"},
    ],
)
def test_a_sound_tunnel(changes: dict[str, t.Any]) -> None:
    assert tunnels.tunnel_problems([tunnel(**changes)]) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "gw 1"}, "name becomes that of a unit"),
        ({"name": "../x"}, "name becomes that of a unit"),
        ({"name": "check@x"}, "name becomes that of a unit"),
        ({"host": "-oProxyCommand=x"}, "host must be a name or an address"),
        ({"host": "a\n  ProxyCommand x"}, "host must be a name or an address"),
        ({"user": "root; x"}, "user must be the name of an account"),
        ({"port": 0}, "port must be from 1 to 65535"),
        ({"forwards": []}, "forwards is empty"),
        ({"host_keys": ["192.0.2.10 " + HOST]}, "is no public key"),
        ({"host_keys": [HOST.replace("ssh-ed25519", "ssh-rsa")]}, "is no public key"),
        ({"host_keys": [HOST + "\n" + HOST]}, "is no public key"),
        ({"listen": "0.0.0.0:8080"}, "is not on loopback"),
        ({"listen": "127.0.0.2:8080"}, "is not on loopback"),
        ({"listen": "8080"}, "is no address with a port, such as 127.0.0.1:8080"),
        ({"listen": "127.0.0.1:80"}, "port below 1024"),
        ({"target": "127.0.0.1:70000"}, "is no address with a port"),
        ({"target": "127.0.0.1:80 x"}, "is no address with a port"),
        ({"health": "health"}, "health must be tcp, or the path"),
        ({"health": "/a b"}, "health must be tcp, or the path"),
    ],
)
def test_what_cannot_work(changes: dict[str, t.Any], words: str) -> None:
    (found,) = tunnels.tunnel_problems([tunnel(**changes)])
    assert words in found
    assert found.startswith("ssh_tunnel_tunnels (")


def test_collisions_of_a_client() -> None:
    assert tunnels.tunnel_problems([tunnel(), tunnel(name="gw-2", host="192.0.2.11")]) == []
    assert tunnels.tunnel_problems([tunnel(), tunnel(name="other")]) == [
        "ssh_tunnel_tunnels: two reverse forwards listen on 127.0.0.1:8080 of 192.0.2.10. Give one of them another port in listen."
    ]
    here = [tunnel(direction="forward"), tunnel(name="gw-2", host="192.0.2.11", direction="forward", listen="127.0.0.1:08080")]
    assert tunnels.tunnel_problems(here) == [
        "ssh_tunnel_tunnels: two forwards listen on 127.0.0.1:8080 of this host. Give one of them another port in listen."
    ]
    # Each way takes its port on another host.
    assert tunnels.tunnel_problems([tunnel(), tunnel(name="gw-2", host="192.0.2.11", direction="forward")]) == []
    assert "gw-1 is there twice" in tunnels.tunnel_problems([tunnel(), tunnel(listen="127.0.0.1:8081")])[0]


def client(**changes: t.Any) -> dict[str, t.Any]:
    return {"name": "gpu-1", "public_key": ONE, "listen": ["127.0.0.1:8080"], "open": [], **changes}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "gpu 1"}, "name must have letters"),
        ({"public_key": "ssh-ed25519 AAAA"}, "is no public key"),
        ({"public_key": f'command="x" {ONE}'}, "is no public key"),
        ({"listen": [], "open": []}, "neither listen nor open"),
        ({"listen": ["*:8080"]}, "is no address with a port"),
        ({"listen": ["0.0.0.0:8080"]}, "is not on loopback"),
        ({"open": ["*:*"]}, "is no address with a port"),
        ({"open": ['127.0.0.1:1",permitopen="x:1']}, "is no address with a port"),
    ],
)
def test_a_client_that_cannot_be(changes: dict[str, t.Any], words: str) -> None:
    (found,) = tunnels.tunnel_client_problems([client(**changes)])
    assert words in found
    assert found.startswith("ssh_tunnel_clients (")


def test_collisions_of_a_server() -> None:
    assert tunnels.tunnel_client_problems([client(), client(name="gpu-2", public_key=TWO, listen=["127.0.0.1:8081"])]) == []
    assert tunnels.tunnel_client_problems([client(public_key=""), client(name="gpu-2", public_key="", listen=["[::1]:8080"])]) == []
    (found,) = tunnels.tunnel_client_problems([client(), client(name="gpu-2", public_key=TWO)])
    assert "gpu-1 and gpu-2 would both listen on 127.0.0.1:8080" in found
    assert "tunnel_ports" in found
    (found,) = tunnels.tunnel_client_problems([client(), client(name="gpu-2", public_key=ONE + " other", listen=["127.0.0.1:8081"])])
    assert "gpu-1 and gpu-2 have the same public_key" in found
    assert "gpu-1 is there twice" in tunnels.tunnel_client_problems([client(), client(public_key=TWO, listen=["127.0.0.1:8081"])])[0]


# --- texts --------------------------------------------------------------------------------------


def test_the_plan_of_a_tunnel() -> None:
    both = tunnel()
    both["forwards"] += [{"direction": "forward", "listen": "127.0.0.1:5432", "target": "127.0.0.1:5432"}]
    both["forwards"] += [{"direction": "reverse", "listen": "[::1]:8080", "target": "127.0.0.1:8080"}]
    plan = tunnels.tunnel_plan(both)
    assert (plan["unit"], plan["folder"], plan["control"]) == ("llm-tunnel-gw-1", "/run/llm-tunnel-gw-1", "/run/llm-tunnel-gw-1/control")
    assert [forward.get("loop") for forward in plan["forwards"]] == [
        "/run/llm-tunnel-gw-1/loop-8080",
        None,
        "/run/llm-tunnel-gw-1/loop6-8080",
    ]
    assert [forward["health"] for forward in plan["forwards"]] == ["/health", "tcp", "tcp"]
    # The longest name that is allowed still makes a path that a socket can have.
    longest = tunnel(name="n" * 63, listen="[::1]:65535")
    assert tunnels.tunnel_problems([longest]) == []
    assert len(tunnels.tunnel_plan(longest)["forwards"][0]["loop"]) < 104


def test_the_defaults_of_a_tunnel() -> None:
    plan = tunnels.tunnel_plan({"name": "x", "host": "h", "forwards": [{"listen": "127.0.0.1:08080", "target": "127.0.0.1:8080"}]})
    assert {name: plan[name] for name in ("port", "user", "host_keys")} == {"port": 22, "user": "llm-tunnel-server", "host_keys": []}
    assert plan["forwards"] == [
        {
            "direction": "reverse",
            "listen": "127.0.0.1:8080",
            "target": "127.0.0.1:8080",
            "health": "tcp",
            "loop": "/run/llm-tunnel-x/loop-8080",
        }
    ]
    assert tunnels.tunnel_problems([{"name": "x", "host": "h", "forwards": [{"listen": "127.0.0.1:8080", "target": "a:1"}]}]) == []
    assert tunnels.permissions([{"listen": "127.0.0.1:8080", "target": "a:1"}]) == {"listen": ["127.0.0.1:8080"], "open": []}


def test_known_hosts() -> None:
    assert tunnels.known_hosts([HOST + " root@gw-1", ONE], "gw-1") == f"gw-1 {HOST}\ngw-1 {ONE}\n"
    assert tunnels.known_hosts([HOST], "gw-1", "gw-1 old\n") == f"gw-1 {HOST}\n"
    assert tunnels.known_hosts([], "gw-1", "gw-1 old\n") == "gw-1 old\n"
    assert tunnels.known_hosts([], "gw-1") == ""


def test_authorized_keys() -> None:
    clients = [
        client(public_key=ONE + " llm-tunnel@gpu-1", open=["127.0.0.1:5432"]),
        client(name="gpu-2", public_key=TWO, listen=[], open=["[::1]:5432", "db.lan:5432"]),
    ]
    assert tunnels.authorized_keys(clients) == [
        'restrict,port-forwarding,permitlisten="127.0.0.1:8080",permitopen="127.0.0.1:8080",permitopen="127.0.0.1:5432" ' + f"{ONE} gpu-1",
        # A key without permitlisten could listen anywhere.
        'restrict,port-forwarding,permitlisten="127.0.0.1:1",permitopen="[::1]:5432",permitopen="db.lan:5432" ' + f"{TWO} gpu-2",
    ]


def test_a_key_that_is_not_known_now_stays() -> None:
    installed = "# Managed\n" + "\n".join(tunnels.authorized_keys([client()])) + "\n"
    (line,) = tunnels.authorized_keys([client(public_key="", listen=["127.0.0.1:9000"])], installed)
    assert line.startswith('restrict,port-forwarding,permitlisten="127.0.0.1:9000"')
    assert line.endswith(f"{ONE} gpu-1")
    assert tunnels.authorized_keys([client(public_key="", name="gpu-7")], installed) == []


def test_withdrawals() -> None:
    before = [client(listen=["127.0.0.1:8080", "127.0.0.1:8081"]), client(name="gpu-2", public_key=TWO, listen=["127.0.0.1:9000"])]
    installed = "# Managed\n" + "\n".join(tunnels.authorized_keys(before)) + "\n"

    def withdrawn(clients: list[dict[str, t.Any]]) -> list[str]:
        return tunnels.withdrawals(tunnels.authorized_keys(clients, installed), installed)

    assert withdrawn(before) == []
    assert withdrawn(before[:1]) == ["gpu-2"]
    assert withdrawn([client(), before[1]]) == ["gpu-1"]
    assert withdrawn([{**before[0], "open": ["127.0.0.1:1234"]}, before[1]]) == []
    assert withdrawn([{**before[0], "public_key": HOST}, before[1]]) == ["gpu-1"]
    assert tunnels.withdrawals(tunnels.authorized_keys(before), "") == []


def test_ssh_keygen_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "llm-tunnel@gpu 1", "-f", str(path)], check=True)
    public = path.with_suffix(".pub").read_text()
    authorized = tmp_path / "authorized_keys"
    authorized.write_text("\n".join(tunnels.authorized_keys([client(public_key=public)])) + "\n")
    listed = subprocess.run(["ssh-keygen", "-l", "-f", str(authorized)], capture_output=True, text=True, check=True).stdout
    assert listed.split()[2:] == ["gpu-1", "(ED25519)"]


SS = """\
LISTEN 0      128        127.0.0.1:8080       0.0.0.0:*    users:(("sshd",pid=411,fd=9)) uid:998 ino:1 sk:1 cgroup:/x <->
LISTEN 0      128            [::1]:9000          [::]:*    users:(("sshd-session",pid=412,fd=9)) uid:998 ino:2 sk:2 <->
LISTEN 0      128          0.0.0.0:22         0.0.0.0:*    users:(("sshd",pid=1,fd=3),("systemd",pid=1,fd=4)) ino:3 sk:3 <->
LISTEN 0      128                *:4000             *:*    users:(("litellm",pid=77,fd=3)) uid:990 ino:4 sk:4 <->
LISTEN 0      128   127.0.0.53%lo:53         0.0.0.0:*    users:(("systemd-resolve",pid=5,fd=3)) uid:101 ino:5 sk:5 <->
"""


def test_listeners() -> None:
    found = tunnels.listeners(SS)
    assert [(item["address"], item["port"], item["uid"]) for item in found] == [
        ("127.0.0.1", 8080, 998),
        ("::1", 9000, 998),
        ("0.0.0.0", 22, 0),
        ("*", 4000, 990),
        ("127.0.0.53", 53, 101),
    ]
    assert found[2]["processes"] == ["sshd", "systemd"]


def test_listeners_as_they_should_be() -> None:
    clients = [client(listen=["127.0.0.1:8080", "[::1]:9000"])]
    assert tunnels.listener_problems(SS, clients, "998") == []
    assert tunnels.listener_problems(SS, clients, 998, False) == []


def test_a_tunnel_that_is_not_open() -> None:
    clients = [client(listen=["127.0.0.1:8080", "[::1]:9000", "127.0.0.1:8081"])]
    (found,) = tunnels.listener_problems(SS, clients, 998)
    assert found.startswith("Nothing listens on 127.0.0.1:8081: the tunnel of gpu-1 is not open")
    assert tunnels.listener_problems(SS, clients, 998, False) == []


def test_a_port_that_something_else_has() -> None:
    clients = [client(listen=["127.0.0.1:8080", "[::1]:9000", "127.0.0.1:4000"])]
    for expected in (True, False):
        (found,) = tunnels.listener_problems(SS, clients, 998, expected)
        assert "127.0.0.1:4000 is for the tunnel of gpu-1, but litellm of uid 990 listens on *:4000" in found
    # Somebody else's ssh, before there is an account.
    assert len(tunnels.listener_problems(SS, clients[:1], None, False)) == 3


def test_a_listener_that_nobody_may_have() -> None:
    (found,) = tunnels.listener_problems(SS, [client()], 998)
    assert found == "A tunnel listens on ::1:9000, which no client of ssh_tunnel_clients may."
    # Before a deploy it may be that of a client whose key is withdrawn by it.
    assert tunnels.listener_problems(SS, [client()], 998, expected=False) == []
    wide = SS.replace("127.0.0.1:8080", "0.0.0.0:8080")
    assert "A tunnel listens on 0.0.0.0:8080, which no client of ssh_tunnel_clients may." in tunnels.listener_problems(
        wide, [client()], 998
    )
