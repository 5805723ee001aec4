# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.selfhosted.llm.plugins.plugin_utils.edge import is_name, problems

ROLE = Path(__file__).resolve().parents[4] / "roles/reverse_proxy"
DEFAULTS: dict[str, t.Any] = yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))
FINE = {
    **DEFAULTS,
    "reverse_proxy_gateway_names": ["api.example.org"],
    "reverse_proxy_gateways": [{"host": "10.0.0.5", "port": 4000}, {"host": "gw-2.example.org", "port": 4000}],
    "reverse_proxy_webui_names": ["chat.example.org"],
    "reverse_proxy_webuis": [{"host": "2001:db8::7", "port": 8080}],
}
SHARED = {"reverse_proxy_vip": "192.0.2.10/24", "reverse_proxy_peers": ["192.0.2.12"]}


def said(**changes: t.Any) -> str:
    return "\n".join(problems({**FINE, **{f"reverse_proxy_{name}": value for name, value in changes.items()}}, ["192.0.2.11"]))


def test_what_is_fine() -> None:
    assert said() == ""
    assert said(webui_names=[], webuis=[]) == ""
    assert said(gateway_names=[], gateways=[]) == ""
    assert said(gateway_names=["192.0.2.11", "2001:db8::11", "edge-1"]) == ""
    assert said(vip="192.0.2.10/24", peers=["192.0.2.12", "edge-3"]) == ""
    assert said(vip="2001:db8::10/64", peers=["2001:db8::12"]) == ""
    assert said(certificate="acme", acme_directory="https://ca.internal:9000/acme/acme/directory", acme_email="a@b.example") == ""
    assert said(certificate="given", tls_certificate="a", tls_key="b") == ""
    assert (
        said(admin_networks=["10.0.0.0/8", "2001:db8::/32", "0.0.0.0/0"], trusted_proxies=["10.0.0.1"], public_paths=["/mcp", "/key/info"])
        == ""
    )
    # As an inventory in ini has them.
    assert said(read_timeout="660", rate_limit="0", https_port="8443") == ""


def test_a_service_without_a_name() -> None:
    assert "no name to answer to" in said(gateway_names=[], webui_names=[])


def test_a_name_with_nothing_behind() -> None:
    assert "reverse_proxy_gateways is empty" in said(gateways=[])
    assert "those of group webui" in said(webuis=[])


@pytest.mark.parametrize(
    "name", ["*.example.org", "API.example.org", "https://api.example.org", "api.example.org:443", "api_1", "-a", "1.2.3", "a..b", "a" * 64]
)
def test_what_is_no_name(name: str) -> None:
    assert not is_name(name)
    assert f"reverse_proxy_gateway_names has {name!r}" in said(gateway_names=[name])


def test_one_name_for_two() -> None:
    assert "repeat chat.example.org" in said(gateway_names=["chat.example.org"])
    assert "repeat api.example.org" in said(gateway_names=["api.example.org", "api.example.org"])


def test_hosts() -> None:
    assert "has the host 'http://10.0.0.5'" in said(gateways=[{"host": "http://10.0.0.5", "port": 4000}])
    assert "the port of a must be from 1 to 65535, not 0" in said(gateways=[{"host": "a", "port": 0}])
    assert "has a port 1 twice" in said(webuis=[{"host": "a", "port": 1}, {"host": "a", "port": "1"}])


@pytest.mark.parametrize("variable", ["admin_networks", "unlimited_networks", "trusted_proxies"])
def test_networks(variable: str) -> None:
    assert f"reverse_proxy_{variable} has 'office'" in said(**{variable: ["office"]})


def test_nobody_believes_everybody() -> None:
    assert "everybody could then claim any address" in said(trusted_proxies=["0.0.0.0/0"])
    assert "everybody could then claim any address" in said(trusted_proxies=["::/0"])


def test_certificates() -> None:
    assert "set reverse_proxy_tls_certificate and reverse_proxy_tls_key" in said(certificate="given", tls_certificate="x")
    assert "reverse_proxy_tls_key: set, but reverse_proxy_certificate is self_signed" in said(tls_key="the-key")
    assert "the-key" not in said(tls_key="the-key")
    assert "not to 192.0.2.11" in said(certificate="acme", gateway_names=["192.0.2.11"])
    assert "must be an https URL" in said(certificate="acme", acme_directory="http://ca/directory")
    assert "not an e-mail address" in said(certificate="acme", acme_email="operations")


def test_limits() -> None:
    assert "reverse_proxy_max_body_size must be a size such as 100m, not '100 MB'" in said(max_body_size="100 MB")
    assert "reverse_proxy_webui_max_body_size must be a size" in said(webui_max_body_size="0")
    assert "reverse_proxy_rate_limit must not be negative" in said(rate_limit=-1)
    assert "reverse_proxy_fail_timeout must be at least 1" in said(fail_timeout=0)
    assert "longer than reverse_proxy_connect_timeout" in said(read_timeout=3)
    assert "at least 64" in said(worker_connections=10)
    assert "reverse_proxy_http_port must be from 1" in said(http_port=0)
    assert "are the same" in said(http_port=443)


@pytest.mark.parametrize("path", ["mcp", "/", "/a b", "/a;}", "//a", "/$uri"])
def test_what_is_no_path(path: str) -> None:
    assert f"reverse_proxy_public_paths has {path!r}" in said(public_paths=[path])


def test_the_same_path_twice() -> None:
    assert "once" in said(public_paths=["/mcp", "/mcp"])


def test_a_header_is_a_word() -> None:
    assert "must be the name of a header" in said(real_ip_header="X-Real-IP; deny all")


def test_the_shared_address() -> None:
    assert "length of its prefix" in said(vip="192.0.2.10", peers=["192.0.2.12"])
    assert "length of its prefix" in said(vip="edge/24", peers=["192.0.2.12"])
    assert "shared with nobody" in said(vip="192.0.2.10/24")
    assert "which is this host itself" in said(vip="192.0.2.10/24", peers=["192.0.2.11"])
    assert "both must be of one kind" in said(vip="2001:db8::10/64", peers=["192.0.2.12"])
    assert "router_id must be from 1 to 255" in said(**{name[14:]: value for name, value in SHARED.items()}, vip_router_id=0)
    assert "priority must be from 51 to 254" in said(**{name[14:]: value for name, value in SHARED.items()}, vip_priority=50)
    assert "neither an address nor a name" in said(peers=["http://x"])
