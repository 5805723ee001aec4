# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
import typing as t

import pytest

from ansible_collections.selfhosted.llm.tests.unit.plugins.modules.fake_openai import KEY, FakeOpenAI, self_signed

SCRIPT = os.path.join(os.path.dirname(__file__), "..", "..", "..", "playbooks", "files", "openai_sdk_check.py")
MODELS = [{"name": "phi3", "aliases": ["default"]}, {"name": "embed", "mode": "embedding"}]


@pytest.fixture(name="api")
def fixture_api() -> t.Iterator[FakeOpenAI]:
    fake = FakeOpenAI()
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture(name="certificate")
def fixture_certificate(tmp_path: t.Any) -> str:
    return self_signed(tmp_path)


@pytest.fixture(name="script")
def fixture_script() -> t.Any:
    pytest.importorskip("openai")
    spec = importlib.util.spec_from_file_location("openai_sdk_check", SCRIPT)
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.fixture(name="call")
def fixture_call(script: t.Any, capsys: t.Any, monkeypatch: t.Any) -> t.Callable[..., t.Any]:
    """Runs the script in this process, as importing the SDK takes seconds: exit code, document, and what it said on standard error."""

    def call(stdin: t.Any, environment: dict[str, str] | None = None) -> tuple[int, t.Any, str]:
        for name in [name for name in os.environ if name.startswith("OPENAI_")]:
            monkeypatch.delenv(name)
        for name, value in (environment or {}).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin if isinstance(stdin, str) else json.dumps(stdin)))
        code = script.main()
        out, said = capsys.readouterr()
        return code, json.loads(out) if out else None, said

    return call


def settings(api: FakeOpenAI, **more: t.Any) -> dict[str, t.Any]:
    return {"url": api.url, "api_key": KEY, "models": MODELS, "timeout": 10, **more}


def failed(document: t.Any) -> list[tuple[str, str]]:
    return [(check["name"], check["layer"]) for check in document["checks"] if check["status"] == "failed"]


def test_everything_passes(call: t.Any, api: FakeOpenAI) -> None:
    code, document, _said = call(settings(api))
    assert failed(document) == []
    assert document["ok"]
    assert code == 0
    assert document["counts"]["passed"] == 10
    assert {check["group"] for check in document["checks"]} == {"models", "chat", "stream", "async", "embeddings", "errors"}
    backends = {check["details"].get("backend") for check in document["checks"]}
    assert {"phi3@a", "phi3@b", "embed@a"} <= backends
    assert document["client"].startswith("openai-python ")


def test_url_and_key_from_the_environment(call: t.Any, api: FakeOpenAI) -> None:
    environment = {"OPENAI_BASE_URL": api.url + "/v1", "OPENAI_API_KEY": KEY}
    assert call(MODELS, environment)[0] == 0
    assert call("", {**environment, "OPENAI_CHECK_MODELS": json.dumps(MODELS)})[0] == 0


def test_failures_name_their_layer_and_not_the_key(call: t.Any, api: FakeOpenAI) -> None:
    api.chat_status = 500
    code, document, _said = call(settings(api))
    assert code == 1
    assert {layer for _name, layer in failed(document)} == {"backend"}
    assert KEY not in json.dumps(document)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"models": ["phi3"]}, {"models.list"}),
        ({"key": None}, {"a wrong key is refused", "a missing key is refused"}),
        ({"takes_unknown_models": True}, {"an unknown model raises NotFoundError or BadRequestError"}),
        ({"vectors": [[], []]}, {"embeddings.create(embed)"}),
        ({"ending": "error"}, {"chat.completions.create(phi3, stream=True)", "async phi3, stream=True"}),
        ({"ending": "no_finish"}, {"chat.completions.create(phi3, stream=True)", "async phi3, stream=True"}),
        ({"without_database": True}, set()),
    ],
)
def test_findings(call: t.Any, api: FakeOpenAI, change: dict[str, t.Any], names: set[str]) -> None:
    for name, value in change.items():
        setattr(api, name, value)
    code, document, _said = call(settings(api))
    assert {name for name, _layer in failed(document)} == names
    assert code == (1 if names else 0)


def test_a_word_now_and_then_is_no_stream_that_was_collected(call: t.Any, api: FakeOpenAI) -> None:
    api.short_answers = 2
    assert failed(call(settings(api))[1]) == []
    api.short_answers = 3
    assert failed(call(settings(api))[1]) == [("chat.completions.create(phi3, stream=True)", "protocol")]


def test_an_api_that_is_not_there(call: t.Any, api: FakeOpenAI) -> None:
    for url, layer in (
        ("http://127.0.0.1:1", "refused"),
        ("http://no-such-host.invalid", "dns"),
        (api.url.replace("http:", "https:"), "tls"),
    ):
        code, document, _said = call(settings(api, url=url))
        assert code == 1
        assert failed(document) == [("models.list", layer)]
        assert document["counts"]["skipped"] == 1


def test_own_key_refused(call: t.Any, api: FakeOpenAI) -> None:
    assert failed(call(settings(api, api_key="sk-another"))[1]) == [("models.list", "auth")]


def test_without_the_sdk_there_is_a_remedy(api: FakeOpenAI) -> None:
    # -S leaves the site's packages out, and the SDK with them.
    command = [sys.executable, "-S", "-I", SCRIPT]
    done = subprocess.run(command, input=json.dumps(settings(api)), capture_output=True, text=True, timeout=60, check=False)
    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert document["counts"] == {"passed": 0, "failed": 1, "skipped": 0}
    assert "pip install openai" in document["checks"][0]["message"]


@pytest.mark.parametrize("stdin", ["", "[]", "{}", "nonsense", '{"url": "http://x", "api_key": "k", "models": []}', "5"])
def test_nothing_to_check(call: t.Any, stdin: str) -> None:
    code, document, said = call(stdin)
    assert code == 2
    assert document is None
    assert "nothing to check" in said


def test_over_tls_with_an_authority_of_its_own(call: t.Any, certificate: str) -> None:
    api = FakeOpenAI()
    api.start(certificate)
    try:
        assert failed(call(settings(api))[1]) == [("models.list", "tls")]
        assert failed(call(settings(api, ca_path=certificate))[1]) == []
    finally:
        api.stop()


def test_a_name_that_dns_does_not_know_yet(call: t.Any, tmp_path: t.Any) -> None:
    """The name is that of the certificate and of the header Host, the address is where it connects; also asynchronously."""
    api = FakeOpenAI()
    certificate = self_signed(tmp_path, "api.llm.invalid")
    api.start(certificate)
    try:
        options = {"url": "https://api.llm.invalid", "connect_to": f"127.0.0.1:{api.port}", "ca_path": certificate}
        assert failed(call(settings(api, **options))[1]) == []
        assert set(api.hosts) == {"api.llm.invalid"}
        assert failed(call(settings(api, **{**options, "url": "https://other.llm.invalid"}))[1]) == [("models.list", "tls")]
    finally:
        api.stop()
