# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which handler answers what, and who may ask: CORS and Host checks, 404, 405, redirects, the control API."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
from fnmatch import fnmatchcase
from typing import Any

from ollama_standin.errors import ApiError
from ollama_standin.http1 import TEXT, Handler, Request, Response
from ollama_standin.inference import DropError, Engine
from ollama_standin.manage import Manage, send_error
from ollama_standin.native import Native
from ollama_standin.openai import BindError, OpenAI, error_body, send

_ALLOW_METHODS = "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
_ALLOW_HEADERS = "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta," + ",".join(
    "X-Stainless-" + name
    for name in (
        "Arch",
        "Async",
        "Custom-Poll-Interval",
        "Helper-Method",
        "Lang",
        "Os",
        "Package-Version",
        "Poll-Helper",
        "Retry-Count",
        "Runtime",
        "Runtime-Version",
        "Timeout",
    )
)
_LOCAL_SUFFIXES = (".localhost", ".local", ".internal")
CONTROL = "/standin/"


class App:
    """Answers every request."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        manage, native, openai = Manage(engine), Native(engine), OpenAI(engine)
        # In the order in which Ollama names the methods in `Allow`.
        self._routes: dict[str, dict[str, Handler]] = {
            "/": {"HEAD": manage.root, "GET": manage.root},
            "/api/version": {"HEAD": manage.version, "GET": manage.version},
            "/api/status": {"GET": manage.status},
            "/api/tags": {"HEAD": manage.tags, "GET": manage.tags},
            "/api/ps": {"GET": native.ps},
            "/api/show": {"POST": manage.show},
            "/api/pull": {"POST": manage.pull},
            "/api/create": {"POST": manage.create},
            "/api/copy": {"POST": manage.copy},
            "/api/delete": {"DELETE": manage.delete},
            "/api/chat": {"POST": native.chat},
            "/api/generate": {"POST": native.generate},
            "/api/embed": {"POST": native.embed},
            "/api/embeddings": {"POST": native.embeddings},
            "/v1/models": {"GET": openai.models},
            "/v1/chat/completions": {"POST": openai.chat},
            "/v1/completions": {"POST": openai.completions},
            "/v1/embeddings": {"POST": openai.embeddings},
        }
        self._prefixes: dict[str, dict[str, Handler]] = {
            "/api/blobs/": {"POST": manage.blob_upload, "HEAD": manage.blob_exists},
            "/v1/models/": {"GET": openai.model},
        }
        self._origins = engine.config.origins
        self._check_host = engine.config.loopback
        self._hostname = socket.gethostname().lower()

    async def __call__(self, request: Request, response: Response) -> None:
        control = self._engine.control
        if request.path.startswith(CONTROL):
            response.gated = False
            await self._control(request, response)
            return
        methods, request.parameter = self._find(request.path)
        control.count(f"{request.method} {request.path if methods and not request.parameter else _summary(request.path, methods)}")
        control.enter()
        try:
            await control.gate()
            await self._answer(request, response, methods)
        finally:
            control.leave()
            control.count_status(response.status)

    def _find(self, path: str) -> tuple[dict[str, Handler] | None, str]:
        if path in self._routes:
            return self._routes[path], ""
        for prefix, methods in self._prefixes.items():
            parameter = path[len(prefix) :]
            if path.startswith(prefix) and parameter and "/" not in parameter:
                return methods, parameter
        return None, ""

    async def _answer(self, request: Request, response: Response, methods: dict[str, Handler] | None) -> None:
        if methods is None and request.path.endswith("/") and self._find(request.path.rstrip("/"))[0]:
            await self._redirect(request, response)
            return
        if methods and request.method not in methods:
            response.headers.append(("Allow", ", ".join(methods)))
        if not await self._allowed(request, response):
            return
        if methods is None:
            await response.send(404, b"404 page not found", TEXT)
        elif request.method not in methods:
            await response.send(405, b"405 method not allowed", TEXT)
        else:
            await self._handle(methods[request.method], request, response)

    @staticmethod
    async def _handle(handler: Handler, request: Request, response: Response) -> None:
        try:
            await handler(request, response)
        except DropError:
            response.drop()
        except BindError as error:
            await response.json(error.status, error_body(error))
        except ApiError as error:
            if request.path.startswith("/v1/"):
                await send(response, error.status, error_body(error))
            else:
                await send_error(error, response)

    @staticmethod
    async def _redirect(request: Request, response: Response) -> None:
        target = request.path.rstrip("/")
        response.headers.append(("Location", target))
        if request.method != "GET":
            await response.send(307)
            return
        body = f'<a href="{target}">Moved Permanently</a>.\n\n'
        await response.send(301, body.encode(), "text/html; charset=utf-8")

    # Who may ask

    async def _allowed(self, request: Request, response: Response) -> bool:
        """Whether it may go on; else it has been answered."""
        origin = request.headers.get("origin")
        host = request.headers.get("host", "")
        if origin and origin not in (f"http://{host}", f"https://{host}"):
            if not any(fnmatchcase(origin, pattern) for pattern in self._origins):
                await response.send(403)
                return False
            if request.method == "OPTIONS":
                await self._preflight(origin, response)
                return False
            response.headers += [("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]
        if self._check_host and not self._local(host):
            await response.send(403)
            return False
        return True

    @staticmethod
    async def _preflight(origin: str, response: Response) -> None:
        response.headers += [
            ("Access-Control-Allow-Headers", _ALLOW_HEADERS),
            ("Access-Control-Allow-Methods", _ALLOW_METHODS),
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Max-Age", "43200"),
            ("Vary", "Origin"),
            ("Vary", "Access-Control-Request-Method"),
            ("Vary", "Access-Control-Request-Headers"),
        ]
        await response.send(204)

    def _local(self, header: str) -> bool:
        bracketed = re.fullmatch(r"\[(.*)\](?::\d+)?", header)
        host = (bracketed.group(1) if bracketed else header.partition(":")[0]).lower()
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return host in ("", "localhost", self._hostname) or host.endswith(_LOCAL_SUFFIXES)
        return address.is_loopback or address.is_private or address.is_unspecified

    # The control API

    async def _control(self, request: Request, response: Response) -> None:
        control = self._engine.control
        action = request.path[len(CONTROL) :]
        if request.method == "GET" and action == "state":
            await response.json(200, control.state())
        elif request.method != "POST":
            await response.send(405, b"405 method not allowed", TEXT)
        elif action == "state":
            try:
                control.update(_object(request.body))
            except ValueError as error:
                await response.json(400, {"error": str(error)})
                return
            await response.json(200, control.state())
        elif action == "reset":
            control.reset()
            await response.json(200, control.state())
        elif action == "kill-runners":
            await response.json(200, {"killed": self._engine.scheduler.kill_runners()})
        else:
            await response.send(404, b"404 page not found", TEXT)


def _object(body: bytes) -> dict[str, Any]:
    value = json.loads(body or b"{}")
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _summary(path: str, methods: Any) -> str:
    """Paths with a parameter count as one, and so do all that do not exist."""
    return path.rpartition("/")[0] + "/*" if methods else "other"
