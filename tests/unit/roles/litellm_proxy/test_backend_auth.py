# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The handler of custom authentication against a backend on loopback that is slow, down, lying and back again.

The development environment has no LiteLLM: what the handler imports from it is made here, as far as it uses it.
molecule/litellm_proxy runs it in the real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import re
import shutil
import ssl
import subprocess
import threading
import types
import typing as t
from pathlib import Path

import httpx2
import pytest

from ansible_collections.selfhosted.llm.tests.unit.fake_litellm import (
    LOGGED,
    NAMES,
    Identity,
    ProxyException,
    install,
    load_file,
    make_module,
)

ROOT = Path(__file__).resolve().parents[4]
HANDLER = ROOT / "roles/litellm_proxy/files/backend_auth.py"
SECRET = "gateway-secret-Kx7Rn2Wq9Zt4"
MASTER_KEY = "sk-master-Vb6Ym9Hd4Jc"
FREE, PREMIUM, AGED, WRONG = ("hc-sk-free-000001", "hc-sk-premium-000001", "hc-sk-aged-000001", "hc-sk-wrong-000001")
SETTINGS: dict[str, t.Any] = {
    "ca_bundle": "",
    "timeout": 20.0,
    "cache_seconds": 60.0,
    "negative_cache_seconds": 10.0,
    "key_prefixes": ["hc-sk-", "hc-pk-"],
    "tiers": {"free": {"models": ["chat"], "rpm_limit": 3, "tpm_limit": 1000}, "premium": {"models": ["adult", "chat", "embed"]}},
    "groups": {"age-verified": ["adult"]},
}


auth_backend = load_file("auth_backend", ROOT / "tests/standins/auth_backend.py")


async def enforce(
    *, valid_token: Identity, request_data: dict[str, t.Any], route: str, request: t.Any, llm_model_list: t.Any, llm_router: t.Any
) -> None:
    # The real one does such things, too.
    request.scope["marked"] = True
    model, request_data["model"] = request_data.get("model"), "rewritten"
    assert (route, llm_model_list, llm_router) == (request.scope["path"], "the models", "the router")
    if model == "broken":
        raise ProxyException("no such fallback", "bad_request", None, 400)
    if model is not None and model not in valid_token.models:
        raise ProxyException(f"only {valid_token.models}", "key_model_access_denied", "model", 403)


async def read_request_body(request: t.Any) -> dict[str, t.Any]:
    return dict(request.scope["parsed_body"])


@pytest.fixture
def proxy_server(monkeypatch: pytest.MonkeyPatch) -> t.Any:
    """LiteLLM, of which the test may change the globals of its server."""
    server = make_module(
        "litellm.proxy.proxy_server", master_key=MASTER_KEY, prisma_client=None, llm_model_list="the models", llm_router="the router"
    )
    identity = type("UserAPIKeyAuth", (Identity,), {})
    modules = [
        make_module("litellm", constants=types.SimpleNamespace(**NAMES)),
        make_module("litellm._logging", verbose_proxy_logger=logging.getLogger("LiteLLM Proxy")),
        make_module("litellm.proxy", proxy_server=server),
        server,
        make_module(
            "litellm.proxy._types",
            LiteLLMRoutes=types.SimpleNamespace(public_routes=types.SimpleNamespace(value=["/health/liveliness"])),
            LitellmUserRoles=types.SimpleNamespace(INTERNAL_USER="internal_user"),
            ProxyException=ProxyException,
            UserAPIKeyAuth=identity,
        ),
        make_module("litellm.proxy.auth"),
        make_module("litellm.proxy.auth.auth_utils", get_request_route=lambda request: request.scope["path"]),
        make_module("litellm.proxy.auth.user_api_key_auth", enforce_key_and_fallback_model_access=enforce),
        make_module("litellm.proxy.common_utils"),
        make_module(
            "litellm.proxy.common_utils.http_parsing_utils",
            populate_request_with_path_params=lambda body, _request: body,
            read_request_body=read_request_body,
        ),
    ]
    install(monkeypatch, modules)
    return server


def serve(backend: t.Any) -> t.Any:
    threading.Thread(target=backend.serve_forever, args=(0.01,), daemon=True).start()
    return backend


def close(backend: t.Any) -> None:
    backend.follow(None)
    backend.shutdown()
    backend.server_close()


@pytest.fixture
def backend() -> t.Iterator[t.Any]:
    keys = {
        FREE: {"tier": "free", "user_id": "u1"},
        PREMIUM: {"tier": "premium"},
        AGED: {"tier": "premium", "user_id": "u3", "groups": ["age-verified", "of-somebody-else"]},
    }
    made = serve(auth_backend.AuthBackend(("127.0.0.1", 0), keys, SECRET))
    yield made
    close(made)


class Lab:
    """The handler as it is deployed, with a clock that stands still."""

    def __init__(self, folder: Path, backend: t.Any, monkeypatch: pytest.MonkeyPatch, **changes: t.Any) -> None:
        shutil.copy(HANDLER, folder / "custom_auth.py")
        (folder / "custom_auth.json").write_text(json.dumps({"url": backend.url, **SETTINGS, **changes}))
        monkeypatch.setenv("LLM_AUTH_SECRET", SECRET)
        self.module = load_file("custom_auth", folder / "custom_auth.py")
        self.clock = 1000.0
        self.auth = self.module.AUTHENTICATOR = self.module.Authenticator(self.module.AUTHENTICATOR.settings, lambda: self.clock)

    async def ask(self, key: str | None, path: str = "/v1/models", **body: t.Any) -> t.Any:
        """The identity, None where LiteLLM is to decide, or the error as the client sees it: status and `error`."""
        request = types.SimpleNamespace(scope={"path": path, "parsed_body": body})
        try:
            return await self.module.user_api_key_auth(request, key)
        except ProxyException as exc:
            return int(exc.code), exc.to_dict()

    async def code(self, key: str | None, path: str = "/v1/models", **body: t.Any) -> str:
        answer = await self.ask(key, path, **body)
        return str(answer[1]["code"]) if isinstance(answer, tuple) else "valid" if answer else "left to LiteLLM"

    def run(self, story: t.Callable[[], t.Coroutine[t.Any, t.Any, None]]) -> None:
        async def whole() -> None:
            try:
                await story()
            finally:
                client = self.auth._backend._client
                if client:
                    await client.aclose()
                    self.auth._backend._client = None

        asyncio.run(whole())

    def codes(self, *keys: str | None) -> list[str]:
        found: list[str] = []

        async def story() -> None:
            found.extend([await self.code(key) for key in keys])

        self.run(story)
        return found


@pytest.fixture
def lab(tmp_path: Path, proxy_server: t.Any, backend: t.Any, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(tmp_path, backend, monkeypatch)


# Who gets in


def test_a_valid_key_gets_the_limits_and_models_of_its_tier(lab: Lab) -> None:
    async def story() -> None:
        identity = await lab.ask(FREE)
        assert vars(identity) == {
            "api_key": hashlib.sha256(FREE.encode()).hexdigest(),
            "user_id": "backend:u1",
            "user_role": "internal_user",
            "models": ["chat"],
            "allowed_routes": lab.module.ROUTES,
            "metadata": {"tier": "free", "groups": []},
            "rpm_limit": 3,
            "tpm_limit": 1000,
        }
        premium = await lab.ask(PREMIUM)
        assert (premium.user_id, premium.models) == (None, ["chat", "embed"])
        assert not hasattr(premium, "rpm_limit")

    lab.run(story)


def test_a_wrong_key_is_refused_as_openai_does_it(lab: Lab) -> None:
    async def story() -> None:
        status, error = await lab.ask(WRONG)
        assert status == 401
        assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, "invalid_api_key")
        assert WRONG not in str(error)

    lab.run(story)


@pytest.mark.parametrize(
    "key", [None, "", "hc-sk-", "hc-sk-\u00e4\u00f6\u00fc-000001", "hc-sk-with space", "hc-sk-line\nbreak", "hc-sk-" + "x" * 600]
)
def test_what_cannot_be_a_key_is_refused_without_asking(lab: Lab, backend: t.Any, key: str | None) -> None:
    assert lab.codes(key) == ["invalid_api_key"]
    assert backend.checks == 0


def test_the_master_key_is_left_to_litellm_whatever_the_prefixes(
    tmp_path: Path, proxy_server: t.Any, backend: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(tmp_path, backend, monkeypatch, key_prefixes=["sk-"])
    backend.follow({"status": 503})
    assert lab.codes(MASTER_KEY, MASTER_KEY + "x") == ["left to LiteLLM", "auth_unavailable"]
    assert backend.checks == 1
    proxy_server.master_key = None
    assert lab.codes(MASTER_KEY) == ["auth_unavailable"]


def test_other_keys_are_virtual_keys_with_a_database_and_wrong_without(lab: Lab, proxy_server: t.Any, backend: t.Any) -> None:
    assert lab.codes("sk-virtual-000001", FREE) == ["invalid_api_key", "valid"]
    proxy_server.prisma_client = object()
    assert lab.codes("sk-virtual-000001", FREE) == ["left to LiteLLM", "valid"]
    assert backend.checks == 1


def test_public_routes_stay_public(lab: Lab) -> None:
    async def story() -> None:
        assert await lab.code(None, "/health/liveliness") == "left to LiteLLM"
        assert await lab.code(None, "/key/list") == "invalid_api_key"

    lab.run(story)


# Models


@pytest.mark.parametrize(
    ("entry", "models"),
    [
        ({"tier": "premium"}, ["chat", "embed"]),
        ({"tier": "premium", "groups": ["age-verified"]}, ["adult", "chat", "embed"]),
        ({"tier": "free", "groups": ["age-verified"]}, ["chat"]),
        ({"tier": "premium", "models": ["embed", "adult", "unknown"]}, ["embed"]),
        ({"tier": "premium", "groups": ["age-verified"], "models": ["adult"]}, ["adult"]),
        # To LiteLLM an empty list is every model.
        ({"tier": "premium", "models": []}, ["no-default-models"]),
        ({"tier": "premium", "models": None, "groups": None, "user_id": None, "expires_in": None}, ["chat", "embed"]),
    ],
)
def test_models(lab: Lab, backend: t.Any, entry: dict[str, t.Any], models: list[str]) -> None:
    backend.keys[FREE] = entry

    async def story() -> None:
        assert (await lab.ask(FREE)).models == models

    lab.run(story)


def test_a_model_that_the_key_has_not_is_unavailable_and_the_request_is_left_as_it_was(lab: Lab) -> None:
    async def story() -> None:
        body = {"model": "embed", "messages": []}
        request = types.SimpleNamespace(scope={"path": "/v1/chat/completions", "parsed_body": body})
        with pytest.raises(ProxyException) as caught:
            await lab.module.user_api_key_auth(request, FREE)
        error = caught.value.to_dict()
        assert (caught.value.code, error["code"], error["param"]) == ("403", "model_unavailable", "model")
        # Neither which models others have, nor whether this one exists.
        assert "embed" not in error["message"]
        assert request.scope == {"path": "/v1/chat/completions", "parsed_body": {"model": "embed", "messages": []}}
        assert await lab.code(FREE, "/v1/chat/completions", model="chat") == "valid"
        assert await lab.code(FREE, "/v1/chat/completions", model="broken") == "400"

    lab.run(story)


def test_a_body_that_could_not_be_read_is_litellms_to_refuse(lab: Lab) -> None:
    async def story() -> None:
        request = types.SimpleNamespace(scope={"path": "/v1/chat/completions"})
        assert await lab.module.user_api_key_auth(request, FREE)

    lab.run(story)


# A backend that lies

LIES: dict[str, dict[str, t.Any]] = {
    "a page": {"body": "<html>please sign in</html>", "headers": {"Content-Type": "text/html"}},
    "nothing": {"body": ""},
    "half an answer": {"body": '{"valid": tr'},
    "deep": {"body": "[" * 50000},
    "a list": {"body": "[true]"},
    "true": {"body": "true"},
    "no verdict": {"body": '{"tier": "free"}'},
    "a verdict in words": {"body": '{"valid": "true", "tier": "free"}'},
    "a verdict as a number": {"body": '{"valid": 1, "tier": "free"}'},
    "no tier": {"body": '{"valid": true}'},
    "unknown tier": {"body": '{"valid": true, "tier": "gold"}'},
    "tier as a list": {"body": '{"valid": true, "tier": ["free"]}'},
    "user as a number": {"body": '{"valid": true, "tier": "free", "user_id": 7}'},
    "user with a line break": {"body": '{"valid": true, "tier": "free", "user_id": "a\\nb"}'},
    "groups as text": {"body": '{"valid": true, "tier": "free", "groups": "age-verified"}'},
    "models as numbers": {"body": '{"valid": true, "tier": "free", "models": [1]}'},
    "negative expiry": {"body": '{"valid": true, "tier": "free", "expires_in": -1}'},
    "expiry that is no number": {"body": '{"valid": true, "tier": "free", "expires_in": NaN}'},
    "expiry as text": {"body": '{"valid": true, "tier": "free", "expires_in": "60"}'},
    "too long": {"body": '{"valid": true, "tier": "free", "x": "' + "x" * 70000 + '"}'},
    "redirect": {"status": 307, "headers": {"Location": "/check"}},
    "created": {"status": 201, "body": '{"valid": true, "tier": "free"}'},
    "no content": {"status": 204},
    "refuses the gateway": {"status": 401, "body": '{"valid": false}'},
    "not found": {"status": 404, "body": '{"valid": false}'},
    "error": {"status": 500},
    "hangs up": {"hang_up": True},
    "not HTTP": {"headers": {"Content-Length": "-"}},
    "packed": {"body": '{"valid": true, "tier": "free"}', "headers": {"Content-Encoding": "gzip", "Content-Length": "3"}},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_lets_nobody_in_and_is_not_remembered(lab: Lab, backend: t.Any, caplog: pytest.LogCaptureFixture, lie: str) -> None:
    backend.follow(LIES[lie])

    async def story() -> None:
        status, error = await lab.ask(FREE)
        assert (status, error["code"], error["type"]) == (503, "auth_unavailable", "server_error")
        assert "cannot be reached" in error["message"]
        assert await lab.code(WRONG) == "auth_unavailable"
        backend.follow(None)
        assert await lab.code(FREE) == "valid"
        assert await lab.code(WRONG) == "invalid_api_key"

    lab.run(story)
    assert "custom auth: http://127.0.0.1" in caplog.text
    for secret in (FREE, WRONG, SECRET, "please sign in"):
        assert secret not in caplog.text


def test_a_redirect_takes_neither_key_nor_secret_along(lab: Lab, backend: t.Any) -> None:
    other = serve(auth_backend.AuthBackend(("127.0.0.1", 0), {FREE: {"tier": "premium"}}))
    backend.follow({"status": 308, "headers": {"Location": other.url}})
    assert lab.codes(FREE) == ["auth_unavailable"]
    assert other.checks == 0
    close(other)


@pytest.mark.parametrize("error", [RuntimeError("what nobody thought of"), httpx2.ConnectError(""), OSError(), ValueError(), KeyError("x")])
def test_an_error_of_the_handler_lets_nobody_in_either(lab: Lab, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    async def fail(_key: str) -> bytes:
        raise error

    monkeypatch.setattr(lab.auth._backend, "_post", fail)
    assert lab.codes(FREE) == ["auth_unavailable"]


def test_the_backend_sees_the_secret_and_without_it_knows_nobody(lab: Lab, backend: t.Any) -> None:
    backend.secret = "another"
    # Not invalid_api_key: it is the gateway that was refused.
    assert lab.codes(FREE) == ["auth_unavailable"]
    backend.secret = SECRET
    assert lab.codes(FREE) == ["valid"]


# Slow and down


def test_a_slow_backend_is_a_timeout_and_recovers(
    tmp_path: Path, proxy_server: t.Any, backend: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(tmp_path, backend, monkeypatch, timeout=0.1)
    backend.follow({"hold": True})

    async def story() -> None:
        status, error = await lab.ask(FREE)
        assert (status, error["code"]) == (504, "auth_timeout")
        assert "within 0.1 seconds" in error["message"]
        backend.follow(None)
        # A tenth of a second may be too short for an honest answer on a busy machine.
        lab.auth._backend._settings = lab.auth.settings._replace(timeout=20)
        assert await lab.code(FREE) == "valid"

    lab.run(story)


def test_a_backend_that_is_down_lets_nobody_in_and_recovers(lab: Lab, backend: t.Any) -> None:
    port = backend.server_address[1]

    async def story() -> None:
        assert await lab.code(PREMIUM) == "valid"
        await asyncio.to_thread(close, backend)
        assert await lab.code(FREE) == "auth_unavailable"
        again = serve(auth_backend.AuthBackend(("127.0.0.1", port), backend.keys, SECRET))
        try:
            assert await lab.code(FREE) == "valid"
        finally:
            await asyncio.to_thread(close, again)

    lab.run(story)


def test_a_kept_connection_that_the_backend_closes_is_no_failure(lab: Lab, backend: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = iter([None, {"hang_up": True}, None])
    monkeypatch.setattr(backend, "script", lambda: next(scripts))
    assert lab.codes(PREMIUM, FREE) == ["valid", "valid"]
    assert list(scripts) == []


def test_connections_are_reused(lab: Lab, backend: t.Any) -> None:
    assert lab.codes(*(f"hc-sk-made-up-{number:06}" for number in range(20))) == ["invalid_api_key"] * 20
    assert backend.counts() == {"checks": 20, "connections": 1}


# What is remembered


def test_a_valid_key_is_remembered_for_its_time_and_then_asked_about(lab: Lab, backend: t.Any) -> None:
    async def story() -> None:
        assert await lab.code(FREE) == "valid"
        del backend.keys[FREE]
        lab.clock += 59.9
        assert await lab.code(FREE) == "valid"
        assert backend.checks == 1
        lab.clock += 0.1
        assert await lab.code(FREE) == "invalid_api_key"

    lab.run(story)


def test_while_the_backend_is_down_a_remembered_key_works_until_its_time_is_over(lab: Lab, backend: t.Any) -> None:
    async def story() -> None:
        assert await lab.code(FREE) == "valid"
        backend.follow({"status": 503})
        lab.clock += 59.9
        assert await lab.code(FREE) == "valid"
        lab.clock += 0.1
        assert await lab.code(FREE) == "auth_unavailable"

    lab.run(story)


def test_an_invalid_key_is_remembered_for_a_shorter_time(lab: Lab, backend: t.Any) -> None:
    async def story() -> None:
        assert await lab.code(WRONG) == "invalid_api_key"
        backend.keys[WRONG] = {"tier": "free"}
        lab.clock += 9.9
        assert await lab.code(WRONG) == "invalid_api_key"
        assert backend.checks == 1
        lab.clock += 0.1
        assert await lab.code(WRONG) == "valid"

    lab.run(story)


@pytest.mark.parametrize(("says", "seconds"), [(5, 5.0), (0.5, 0.5), (3600, 60.0), (float("inf"), 60.0)])
def test_the_backend_may_shorten_the_time_and_not_lengthen_it(lab: Lab, backend: t.Any, says: float, seconds: float) -> None:
    backend.keys[FREE]["expires_in"] = says

    async def story() -> None:
        for elapsed, checks in ((0.0, 1), (seconds - 0.1, 1), (0.1, 2)):
            lab.clock += elapsed
            assert await lab.code(FREE) == "valid"
            assert backend.checks == checks

    lab.run(story)


@pytest.mark.parametrize("changes", [{"cache_seconds": 0.0, "negative_cache_seconds": 0.0}, {}])
def test_nothing_is_remembered_for_no_time(
    tmp_path: Path, proxy_server: t.Any, backend: t.Any, monkeypatch: pytest.MonkeyPatch, changes: dict[str, float]
) -> None:
    lab = Lab(tmp_path, backend, monkeypatch, **changes)
    backend.keys[FREE]["expires_in"] = 0
    assert lab.codes(FREE, FREE, FREE) == ["valid"] * 3
    assert backend.checks == 3
    lab.codes(WRONG, WRONG)
    assert backend.checks == (5 if changes else 4)


def test_the_time_begins_with_the_question(lab: Lab, backend: t.Any) -> None:
    backend.follow({"hold": True})

    async def story() -> None:
        asked = asyncio.create_task(lab.code(FREE))
        assert await asyncio.to_thread(backend.wait_for_checks, 1)
        lab.clock += 50
        backend.follow(None)
        assert await asked == "valid"
        lab.clock += 10
        assert await lab.code(FREE) == "valid"
        assert backend.checks == 2

    lab.run(story)


def test_keys_are_not_in_memory_as_they_are(lab: Lab) -> None:
    lab.codes(FREE, WRONG)
    remembered = [name for cache in (lab.auth._valid, lab.auth._invalid) for name in cache._entries]
    assert len(remembered) == 2
    assert not any(key.encode() in name for key in (FREE, WRONG) for name in remembered)


def test_the_least_recently_used_goes_first(lab: Lab) -> None:
    cache = lab.module.Cache(lambda: lab.clock, most=2)
    for name in (b"a", b"b"):
        cache.put(name, name, lab.clock + 5)
    assert cache.get(b"a") == b"a"
    cache.put(b"c", b"c", lab.clock + 5)
    assert [cache.get(name) for name in (b"a", b"b", b"c")] == [b"a", None, b"c"]
    lab.clock += 5
    assert [cache.get(name) for name in (b"a", b"b", b"c")] == [None, None, None]
    assert len(cache._entries) == 0


# Many at once


def test_many_requests_with_one_key_are_one_question(lab: Lab, backend: t.Any) -> None:
    backend.follow({"hold": True})

    async def story() -> None:
        asked = [asyncio.create_task(lab.code(FREE)) for _ in range(20)]
        assert await asyncio.to_thread(backend.wait_for_checks, 1)
        # The one whose request began it hangs up: the question lives on.
        asked[0].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asked[0]
        backend.follow(None)
        assert await asyncio.gather(*asked[1:]) == ["valid"] * 19
        assert await lab.code(FREE) == "valid"
        assert backend.checks == 1
        assert lab.auth._asking == {}

    lab.run(story)


def test_a_failed_question_fails_for_all_who_waited_and_for_nobody_later(lab: Lab, backend: t.Any) -> None:
    backend.follow({"hold": True})

    async def story() -> None:
        asked = [asyncio.create_task(lab.code(FREE)) for _ in range(5)]
        assert await asyncio.to_thread(backend.wait_for_checks, 1)
        backend.follow({"status": 500})
        assert await asyncio.gather(*asked) == ["auth_unavailable"] * 5
        assert (backend.checks, lab.auth._asking) == (1, {})
        backend.follow(None)
        assert await lab.code(FREE) == "valid"

    lab.run(story)


def test_different_keys_do_not_wait_for_each_other(lab: Lab, backend: t.Any) -> None:
    backend.follow({"hold": True})

    async def story() -> None:
        asked = [asyncio.create_task(lab.code(key)) for key in (FREE, PREMIUM, AGED, WRONG)]
        assert await asyncio.to_thread(backend.wait_for_checks, 4)
        backend.follow(None)
        assert await asyncio.gather(*asked) == ["valid", "valid", "valid", "invalid_api_key"]

    lab.run(story)


# Its start


@pytest.mark.parametrize("key", LOGGED)
def test_refused_keys_are_hashed_whatever_they_begin_with(lab: Lab, key: str) -> None:
    assert lab.module.UserAPIKeyAuth._safe_hash_litellm_api_key(key) == LOGGED[key]


def test_both_handlers_hash_alike() -> None:
    """Each is deployed as a file of its own, so each has the function."""

    def part(handler: Path) -> str:
        found = re.search(r"def hash_refused_keys\(.*?\n\n\n", handler.read_text(encoding="utf-8"), re.DOTALL)
        assert found
        return found.group()

    assert part(HANDLER) == part(HANDLER.with_name("master_key_auth.py"))


@pytest.mark.parametrize(
    "changes", [{"timeout_seconds": 1}, {"tiers": {"free": {"rpm_limit": 1}}}, {"ca_bundle": "/nonexistent.pem"}, {"key_prefixes": None}]
)
def test_settings_that_are_not_its_own_stop_it_at_the_start(
    tmp_path: Path, proxy_server: t.Any, backend: t.Any, monkeypatch: pytest.MonkeyPatch, changes: dict[str, t.Any]
) -> None:
    with pytest.raises((TypeError, KeyError, OSError)):
        Lab(tmp_path, backend, monkeypatch, **changes)


def test_only_a_certificate_of_the_given_authority_is_trusted(
    tmp_path: Path, proxy_server: t.Any, backend: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("own", "other"):
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{name}.key", "-out", f"{name}.crt"]
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2", *subject]
        subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.crt", tmp_path / "own.key")
    secure = auth_backend.AuthBackend(("127.0.0.1", 0), backend.keys, SECRET)
    secure.socket = context.wrap_socket(secure.socket, server_side=True)
    serve(secure)
    url = secure.url.replace("http:", "https:")
    for name, code in (("own", "valid"), ("other", "auth_unavailable")):
        lab = Lab(tmp_path, backend, monkeypatch, url=url, ca_bundle=str(tmp_path / f"{name}.crt"))
        assert lab.codes(FREE) == [code]
    close(secure)
