# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The edge nodes themselves, after side_effect.yml: changed, renewed, and on Debian 13 removed and brought back."""

from __future__ import annotations

import json
import re

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://edge"]


def own_certificate(host: Host) -> bool:
    """Debian 12 has one of its own authority, Debian 13 one by ACME."""
    return bool(host.system_info.codename == "bookworm")


def test_services(host: Host) -> None:
    for unit in ("nginx", "keepalived"):
        assert host.service(unit).is_running
        assert host.service(unit).is_enabled
    timer = "edge-certificate.timer" if own_certificate(host) else "certbot.timer"
    assert host.service(timer).is_running
    assert host.service(timer).is_enabled
    assert host.check_output("systemctl --failed --no-legend --plain") == ""
    assert sorted(set(host.check_output("ps -o user= -C nginx").split())) == ["root", "www-data"]


@pytest.mark.parametrize("service", ["nginx", "keepalived", "edge-certificate"])
def test_hardening(host: Host, service: str) -> None:
    if service == "edge-certificate" and not own_certificate(host):
        assert not host.file("/etc/systemd/system/edge-certificate.service").exists
        return
    summary = host.check_output(f"systemd-analyze security {service} --no-pager").splitlines()[-1]
    exposure = re.search(r"([0-9.]+) [A-Z]+", summary)
    assert exposure, summary
    assert float(exposure.group(1)) <= 3.0


def test_keys_are_roots(host: Host) -> None:
    for name in ("site.pem", "ca.key") if own_certificate(host) else ("site.pem",):
        file = host.file(f"/etc/selfhosted-llm/edge/{name}")
        assert (file.user, file.mode) == ("root", 0o600)
    assert host.run("runuser -u www-data -- cat /etc/selfhosted-llm/edge/site.pem").rc != 0
    assert host.run("journalctl --no-pager | grep -c 'BEGIN.*PRIVATE KEY'").stdout.strip() == "0"


def test_certbot_installs_what_it_renews(host: Host) -> None:
    hook = host.file("/etc/letsencrypt/renewal-hooks/deploy/selfhosted-llm-edge")
    if own_certificate(host):
        assert not hook.exists
    else:
        assert hook.mode == 0o755
        live = "/etc/letsencrypt/live/selfhosted-llm-edge"
        assert (
            host.check_output(f"cat {live}/fullchain.pem {live}/privkey.pem")
            == host.file("/etc/selfhosted-llm/edge/site.pem").content_string.strip()
        )
        assert "Environment=" in host.file("/etc/systemd/system/certbot.service.d/selfhosted-llm.conf").content_string


def test_only_these_ports(host: Host) -> None:
    ports = host.check_output("ss -Hlnt | awk '{print $4}' | sed 's/.*://' | sort -nu").split()
    # Docker's name server has one too.
    assert {"80", "443"} <= set(ports)
    assert host.check_output("ss -Hlntp | grep -c nginx") != "0"


def test_a_log_that_is_json_and_keeps_quiet(host: Host) -> None:
    token, query = "sk-secret-of-a-client", "api_key=secret-in-a-query"
    path = f"/key/{token}/regenerate?{query}"
    host.check_output(
        f"curl -sk --noproxy '*' -o /dev/null -H 'Authorization: Bearer {token}' -H 'User-Agent: \"quoted\"' --connect-to ::127.0.0.1:443 https://api.edge.test{path}"
    )
    # The line is written once the answer has gone.
    host.check_output("timeout 10 sh -c 'until grep -q quoted /var/log/nginx/access.log; do sleep 0.1; done'")
    log = host.file("/var/log/nginx/access.log").content_string
    (last,) = [line for line in map(json.loads, log.splitlines()) if line["agent"] == '"quoted"']
    assert (last["path"], last["status"]) == ("/key/sk-.../regenerate", 200)
    assert (last["host"], last["tls"], last["remote"]) == ("api.edge.test", "TLSv1.3", "127.0.0.1")
    assert last["upstream_status"] == "200"
    assert token not in log
    assert query not in log


def test_logs_are_rotated_while_it_runs(host: Host) -> None:
    pid = host.check_output("cat /run/nginx.pid")
    host.check_output("logrotate --force /etc/logrotate.d/nginx")
    host.check_output("curl -sk --noproxy '*' -o /dev/null --connect-to ::127.0.0.1:443 https://api.edge.test/v1/models")
    assert host.check_output("cat /run/nginx.pid") == pid
    host.check_output("timeout 10 sh -c 'until test -s /var/log/nginx/access.log; do sleep 0.1; done'")
    assert host.file("/var/log/nginx/access.log").user == "www-data"


def test_the_host_itself_administers(host: Host) -> None:
    answer = host.check_output("curl -sk --noproxy '*' --connect-to ::127.0.0.1:443 https://api.edge.test/key/list")
    assert json.loads(answer)["path"] == "/key/list"


def test_the_binary_is_replaced_without_a_stop(host: Host) -> None:
    """As the package does it after an update: a new master takes over the ports, and systemd follows it."""
    before = host.check_output("systemctl show --property MainPID --value nginx")
    host.check_output("/etc/init.d/nginx upgrade")
    for _ in range(50):
        if host.run(f"test -d /proc/{before}").rc != 0:
            break
        host.run("sleep 0.2")
    assert host.service("nginx").is_running
    assert host.check_output("systemctl show --property MainPID --value nginx") == host.check_output("cat /run/nginx.pid") != before
    assert host.check_output("systemctl show --property NRestarts --value nginx") == "0"
