# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import stat
import typing as t

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.selfhosted.llm.plugins.modules import verify_report
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


@pytest.fixture(name="run")
def fixture_run(capfd: t.Any, tmp_path: t.Any) -> t.Callable[..., t.Any]:
    def run(*gateways: t.Any, **options: t.Any) -> t.Any:
        args = {"path": str(tmp_path / "reports" / "one"), "gateways": list(gateways), "topology": TOPOLOGY, **options}
        capfd.readouterr()
        with patch_module_args(args), pytest.raises(SystemExit):
            verify_report.main()
        return json.loads(capfd.readouterr()[0])

    return run


def test_files(run: t.Any, tmp_path: t.Any) -> None:
    key = "a-key-of-this-service"
    result = run(gateway(document([check("a", message=key)], [load()])), hide=[key], link="latest", title="HX")
    assert result["ok"]
    assert result["changed"]
    assert result["counts"]["passed"] == 1
    folder = tmp_path / "reports" / "one"
    assert sorted(os.listdir(str(folder))) == ["junit.xml", "report.html", "report.json"]
    for path in result["files"].values():
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o644
        with open(path, encoding="utf-8") as handle:
            assert key not in handle.read()
    assert json.loads((folder / "report.json").read_text())["title"] == "HX"
    assert json.loads((folder / "report.json").read_text())["counts"]["passed"] == 1
    assert os.readlink(str(tmp_path / "reports" / "latest")) == "one"
    run(gateway(document()), path=str(tmp_path / "reports" / "two"), link="latest")
    assert os.readlink(str(tmp_path / "reports" / "latest")) == "two"


def test_failed_checks_do_not_fail_the_module(run: t.Any) -> None:
    result = run(gateway(document([check("a", "failed", "auth", "let in")])))
    assert not result.get("failed")
    assert not result["ok"]
    assert result["failed_checks"] == ["gw1: a [auth]: let in"]
    assert result["summary"] == "1 of 1 check failed"
    assert "FAIL" in "\n".join(result["table"])


def test_an_edge_and_servers(run: t.Any, tmp_path: t.Any) -> None:
    result = run(gateway(document(), servers_document("gpu-2:8091")), edge(edge_document()), topology=EDGE_TOPOLOGY)
    assert not result["ok"]
    assert result["failed_checks"] == [
        "gw1: gpu-2:8091 is well [refused]: http://127.0.0.1:8091/health: cannot connect: Connection refused"
    ]
    report = json.loads((tmp_path / "reports" / "one" / "report.json").read_text())
    assert [(entry["name"], entry["group"], entry["ok"]) for entry in report["gateways"]] == [
        ("gw1", "litellm", False),
        ("edge-1", "edge", True),
    ]


def test_check_mode_writes_nothing(run: t.Any, tmp_path: t.Any) -> None:
    result = run(gateway(document()), _ansible_check_mode=True, link="latest")
    assert result["ok"]
    assert result["table"]
    assert os.listdir(str(tmp_path)) == []


def test_no_gateway_is_an_error(run: t.Any) -> None:
    assert "nothing was verified" in run()["msg"]


def test_a_path_that_cannot_be_written(run: t.Any, tmp_path: t.Any) -> None:
    (tmp_path / "file").write_text("x")
    result = run(gateway(document()), path=str(tmp_path / "file" / "one"))
    assert result["failed"]
    assert "cannot be written" in result["msg"]


def test_what_is_in_the_links_place_is_kept(run: t.Any, tmp_path: t.Any) -> None:
    (tmp_path / "reports" / "latest").mkdir(parents=True)
    assert "latest" in run(gateway(document()), link="latest")["msg"]
