# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tool that keeps the certificate of an edge node, with the real openssl, and scripts for certbot and systemctl."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import typing as t
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[3] / "roles/reverse_proxy/files/edge_certificate.py"
spec = importlib.util.spec_from_file_location("edge_certificate", FILE)
assert spec
assert spec.loader
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


class Node:
    """A host with an edge: its folder, and what was called on it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._patch, self._capsys = folder / "edge", monkeypatch, capsys
        self.letsencrypt = folder / "letsencrypt"
        self.settings: dict[str, t.Any] = {
            "source": "self_signed",
            "names": ["api.example.org", "192.0.2.1", "2001:db8::1"],
            "folder": str(self.folder),
            "host": "edge-1",
            "acme": {
                "folder": str(self.letsencrypt),
                "name": "edge",
                "webroot": str(folder / "webroot"),
                "directory": "https://ca.example/directory",
                "email": "",
                "environment": {"REQUESTS_CA_BUNDLE": "/ca.pem"},
            },
        }
        self.calls = folder / "calls"
        programs = folder / "bin"
        programs.mkdir()
        self.program(programs / "systemctl", "")
        # It signs with a key of its own, as an authority would, and remembers who asked.
        self.program(
            programs / "certbot",
            f'echo "bundle $REQUESTS_CA_BUNDLE" >> {self.calls}\n'
            f'[ ! -e {folder}/refused ] || {{ echo "the authority says no" >&2; exit 1; }}\n'
            f"mkdir -p {self.letsencrypt}/live/edge {self.letsencrypt}/renewal\n"
            'for word; do [ "$last" = --domain ] && names="$names,DNS:$word"; [ "$last" = --server ] && server=$word; last=$word; done\n'
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 90 -subj /CN=x"
            ' -addext "subjectAltName=${names#,}"'
            f" -keyout {self.letsencrypt}/live/edge/privkey.pem -out {self.letsencrypt}/live/edge/fullchain.pem 2>/dev/null\n"
            f'printf "[renewalparams]\\nserver = %s\\n" "$server" > {self.letsencrypt}/renewal/edge.conf\n',
        )
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def program(self, path: Path, more: str) -> None:
        path.write_text(f'#!/bin/sh\necho "{path.name} $*" >> {self.calls}\n{more}')
        path.chmod(0o755)

    def run(self, command: str, *options: str, **changes: t.Any) -> list[str]:
        self.calls.write_text("")
        self._patch.setattr("sys.stdin", io.StringIO(json.dumps({**self.settings, **changes})))
        code = tool.main([command, "--stdin", *options])
        out, err = self._capsys.readouterr()
        return str(out).splitlines() if code == 0 else [f"failed: {err}"]

    @property
    def called(self) -> list[str]:
        return self.calls.read_text().splitlines()

    def openssl(self, *words: str) -> str:
        return subprocess.run(["openssl", *words], capture_output=True, text=True, check=True, cwd=self.folder).stdout

    def site(self) -> str:
        return (self.folder / "site.pem").read_text()


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Node:
    return Node(tmp_path, monkeypatch, capsys)


def test_an_authority_and_a_certificate_of_it(node: Node) -> None:
    made = node.run("renew")
    assert [line.split()[0] for line in made] == ["authority", "certificate"]
    assert node.called == ["systemctl is-active --quiet nginx.service", "systemctl reload nginx.service"]
    assert node.openssl("verify", "-x509_strict", "-CAfile", "ca.crt", "site.pem").strip() == "site.pem: OK"
    for name in ("-verify_hostname api.example.org", "-verify_ip 192.0.2.1", "-verify_ip 2001:db8::1"):
        assert "OK" in node.openssl("verify", "-CAfile", "ca.crt", *name.split(), "site.pem")
    assert {path.name: path.stat().st_mode & 0o777 for path in node.folder.iterdir()} == {
        "ca.crt": 0o644,
        "ca.key": 0o600,
        "site.pem": 0o600,
    }
    # A second run has nothing to do and says nothing.
    assert node.run("renew") == []
    assert node.called == []


def test_a_check_makes_nothing(node: Node) -> None:
    assert len(node.run("renew", "--dry-run")) == 2
    assert not node.folder.exists()
    assert node.called == []


def test_other_names_are_another_certificate_of_the_same_authority(node: Node) -> None:
    node.run("renew")
    authority, before = (node.folder / "ca.crt").read_text(), node.site()
    (line,) = node.run("renew", names=["api.example.org"])
    assert "its names are others" in line
    assert (node.folder / "ca.crt").read_text() == authority
    assert node.site() != before
    assert node.run("renew", names=["api.example.org"]) == []


def test_the_order_of_names_is_none(node: Node) -> None:
    node.run("renew")
    assert node.run("renew", names=["2001:DB8:0::1", "192.0.2.1", "api.example.org"]) == []


def test_it_is_renewed_in_time(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.run("renew")
    monkeypatch.setattr(tool, "RENEW_DAYS", tool.DAYS + 1)
    (line,) = node.run("renew")
    assert "it ends in less than" in line


def test_an_authority_that_ends_before_what_it_would_sign_is_replaced(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "AUTHORITY_DAYS", 100)
    node.run("renew")
    monkeypatch.setattr(tool, "AUTHORITY_DAYS", 3650)
    assert [line.split()[0] for line in node.run("renew")] == ["authority", "certificate"]
    assert node.run("renew") == []


def test_one_of_another_authority_is_replaced(node: Node) -> None:
    node.run("renew", source="given")
    assert "of this host's authority" in node.run("renew")[1]


@pytest.mark.parametrize("source", ["given", "acme"])
def test_something_to_start_nginx_with(node: Node, source: str) -> None:
    (line,) = node.run("renew", source=source)
    assert "there is none" in line
    assert not (node.folder / "ca.key").exists()
    assert "BEGIN PRIVATE KEY" in node.site()
    # What comes in its place is not judged here.
    (node.folder / "site.pem").write_text("another")
    assert node.run("renew", source=source) == []


def test_acme(node: Node) -> None:
    names = {"source": "acme", "names": ["api.example.org", "chat.example.org"]}
    node.run("renew", **names)
    made = node.run("acme", **names)
    assert made == ["certificate of https://ca.example/directory (there is none yet)", "installed"]
    call = node.called[0]
    assert "--webroot-path" in call
    assert "--register-unsafely-without-email" in call
    assert "--domain api.example.org --domain chat.example.org" in call
    assert node.called[1] == "bundle /ca.pem"
    assert node.called[-1] == "systemctl reload nginx.service"
    live = node.letsencrypt / "live/edge"
    assert node.site() == (live / "fullchain.pem").read_text() + (live / "privkey.pem").read_text()
    assert (node.folder / "site.pem").stat().st_mode & 0o777 == 0o600
    assert node.run("acme", **names) == []
    assert node.run("acme", "--dry-run", **names) == []
    assert node.called == []


def test_acme_in_a_check(node: Node) -> None:
    assert len(node.run("acme", "--dry-run", source="acme")) == 2
    assert node.called == []


def test_acme_of_another_authority_or_for_other_names(node: Node) -> None:
    one = {"source": "acme", "names": ["api.example.org"]}
    node.run("renew", **one)
    node.run("acme", **one)
    moved = {**node.settings["acme"], "directory": "https://staging.ca.example/directory", "email": "a@b.example"}
    assert "(it is of another directory)" in node.run("acme", **one, acme=moved)[0]
    assert "--email a@b.example" in node.called[0]
    assert "--break-my-certs" in node.called[0]
    assert "(its names are others)" in node.run("acme", source="acme", names=["api.example.org", "chat.example.org"], acme=moved)[0]
    assert "--break-my-certs" not in node.called[0]


def test_a_refusal_leaves_what_is_there(node: Node, tmp_path: Path) -> None:
    node.run("renew", source="acme")
    before = node.site()
    (tmp_path / "refused").touch()
    (line,) = node.run("acme", source="acme")
    assert "certbot certonly failed:\nthe authority says no" in line
    assert node.site() == before


def test_a_renewal_is_installed(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    one = {"source": "acme", "names": ["api.example.org"]}
    node.run("renew", **one)
    node.run("acme", **one)
    (node.letsencrypt / "live/edge/fullchain.pem").write_text("renewed\n")
    monkeypatch.setenv("RENEWED_LINEAGE", str(node.letsencrypt / "live/other"))
    assert node.run("deploy", **one) == []
    monkeypatch.setenv("RENEWED_LINEAGE", str(node.letsencrypt / "live/edge"))
    assert node.run("deploy", **one) == ["installed"]
    assert node.site().startswith("renewed\n")
    assert node.called[-1] == "systemctl reload nginx.service"


def test_settings_of_the_host(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(tool, "SETTINGS", str(tmp_path / "certificate.json"))
    assert tool.main(["renew"]) == 1
    assert "is missing" in capsys.readouterr().err
    (tmp_path / "certificate.json").write_text(json.dumps(node.settings))
    assert tool.main(["renew"]) == 0
    assert (node.folder / "site.pem").exists()
