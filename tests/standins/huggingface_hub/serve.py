# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the Hugging Face Hub, as far as publishing a Space goes. See README.md."""

from __future__ import annotations

import argparse
import base64
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent))

import front
import yaml
from spaces import Space, now

SPACE = r"([^/]+/[^/]+)"


class RefusedError(Exception):
    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Hub:
    def __init__(
        self, folder: Path, token: str, user: str, builder: list[str] | None = None, space_port: int = 0, role: str = "write"
    ) -> None:
        self.folder, self.token, self.user, self.builder, self.space_port, self.role = folder, token, user, builder, space_port, role
        self.spaces: dict[str, Space] = {}
        self.urls: dict[str, str] = {}
        # Method and path of every call, without the control's own.
        self.calls: list[str] = []
        self.address = ""

    def find(self, name: str) -> Space:
        if name not in self.spaces:
            raise RefusedError(404, "Repository not found", "RepoNotFound")
        return self.spaces[name]

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        owner = body.get("organization") or self.user
        if owner != self.user:
            raise RefusedError(403, f'You don\'t have the rights to create a space under the namespace "{owner}"')
        name = f"{owner}/{body['name']}"
        if name in self.spaces:
            raise RefusedError(409, "You already created this space repo")
        if body.get("type") != "space" or body.get("sdk") != "docker":
            raise RefusedError(400, "the stand-in has Docker Spaces only")
        private = body.get("visibility") == "private" or bool(body.get("private"))
        self.spaces[name] = Space(name, self.folder / f"{name}.git", private, self.builder)
        self.urls[name] = front.start(self.spaces[name], self.token, self.space_port)
        return {"url": f"/spaces/{name}", "name": name, "id": name}


def info(hub: Hub, space: Space) -> dict[str, Any]:
    return {
        "id": space.name,
        "author": space.name.split("/")[0],
        "sha": space.repository.head(),
        "private": space.private,
        "host": hub.urls[space.name],
        "subdomain": space.name.replace("/", "-"),
        "sdk": "docker",
        "runtime": space.runtime(),
        "siblings": [{"rfilename": path} for path in space.repository.tree("main")],
    }


def change_settings(space: Space, kind: str, method: str, body: dict[str, Any]) -> dict[str, Any]:
    """Secrets without their values, variables with them."""
    kept: dict[str, dict[str, Any]] = getattr(space, kind)
    if method != "GET":
        if method == "POST":
            kept[body["key"]] = {"key": body["key"], "value": body["value"], "description": body.get("description"), "updatedAt": now()}
        elif not kept.pop(body["key"], None):
            raise RefusedError(404, f"There is no {body['key']}")
        if space.stage == "RUNNING":
            space.start(build=False)
    hidden = {"value"} if kind == "secrets" else set()
    return {name: {key: value for key, value in entry.items() if key not in hidden} for name, entry in kept.items()}


def commit(hub: Hub, space: Space, lines: list[dict[str, Any]]) -> dict[str, Any]:
    files, deleted, message = {}, [], ""
    for line in lines:
        value = line["value"]
        if line["key"] == "header":
            message = value["summary"]
            if value.get("parentCommit") not in (None, space.repository.head()):
                raise RefusedError(412, "A commit has happened since. Please refresh and try again.")
        elif line["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "deletedFile":
            deleted.append(value["path"])
        else:
            raise RefusedError(400, f"the stand-in does not know {line['key']}")
    made = space.repository.commit(message, files, deleted)
    if "Dockerfile" in space.repository.tree("main"):
        space.start(build=True)
    return {"success": True, "commitOid": made, "commitUrl": f"{hub.address}/spaces/{space.name}/commit/{made}", "hookOutput": ""}


def control(hub: Hub, space: Space, body: dict[str, Any]) -> dict[str, Any]:
    """What no Hub has: a test makes things happen, and looks at what cannot be seen from outside."""
    if "stage" in body:
        space.idle(body["stage"])
    space.fail_build = body.get("fail_build", space.fail_build)
    space.stale = body.get("stale", space.stale)
    return {
        "stage": space.stage,
        "private": space.private,
        "secrets": space.secrets,
        "variables": space.variables,
        "git": str(space.repository.folder),
        "head": space.repository.head(),
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        pass

    def _send(self, status: int, body: bytes, kind: str = "application/json", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self._chunks() if self.headers.get("Transfer-Encoding") == "chunked" else self.rfile.read(length)
        path = unquote(urlsplit(self.path).path)
        try:
            if path.startswith("/_control"):
                answer = self._control(path, raw)
            else:
                self.hub.calls.append(f"{self.command} {path}")
                if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
                    raise RefusedError(401, "Invalid username or password.")
                answer = self._api(path, raw)
        except RefusedError as exc:
            body = json.dumps({"error": str(exc)}).encode()
            self._send(exc.status, body, headers={"X-Error-Message": str(exc), **({"X-Error-Code": exc.code} if exc.code else {})})
            return
        if answer is not None:
            self._send(200, json.dumps(answer).encode())

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _control(self, path: str, raw: bytes) -> Any:
        if path == "/_control/calls":
            calls, self.hub.calls[:] = list(self.hub.calls), []
            return calls
        return control(self.hub, self.hub.find(path.removeprefix("/_control/spaces/")), json.loads(raw or b"{}"))

    def _api(self, path: str, raw: bytes) -> Any:
        def body() -> Any:
            return json.loads(raw)

        if path == "/api/whoami-v2":
            return {
                "type": "user",
                "name": self.hub.user,
                "auth": {"type": "access_token", "accessToken": {"displayName": "t", "role": self.hub.role}},
            }
        if path == "/api/repos/create":
            return self.hub.create(body())
        if path == "/api/validate-yaml":
            front_matter = yaml.safe_load(body()["content"].split("---")[1])
            errors = [] if front_matter.get("sdk") == "docker" else [{"message": '"sdk" must be docker'}]
            if errors:
                raise RefusedError(400, errors[0]["message"])
            return {"errors": errors, "warnings": []}
        if found := re.fullmatch(rf"/spaces/{SPACE}/resolve/([^/]+)/(.+)", path):
            return self._file(self.hub.find(found[1]), found[2], found[3])
        found = re.fullmatch(rf"/api/spaces/{SPACE}(?:/(.+))?", path)
        if not found:
            raise RefusedError(404, f"the stand-in has no {path}")
        return self._space(self.hub.find(found[1]), found[2] or "", raw)

    def _space(self, space: Space, rest: str, raw: bytes) -> Any:
        what, _, detail = rest.partition("/")
        if what in ("", "revision"):
            return info(self.hub, space)
        if what == "tree":
            tree = space.repository.tree(detail)
            return [{"type": "file", "oid": blob, "size": size, "path": name} for name, (blob, size) in tree.items()]
        if what == "preupload":
            tree = space.repository.tree("main")
            return {
                "files": [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": tree.get(file["path"], (None,))[0]}
                    for file in json.loads(raw)["files"]
                ]
            }
        if what == "commit":
            self.hub.calls.append(f"COMMIT {space.name}")
            return commit(self.hub, space, [json.loads(line) for line in raw.splitlines() if line])
        if what in ("secrets", "variables"):
            return change_settings(space, what, self.command, json.loads(raw or b"{}"))
        if what == "runtime":
            return space.runtime()
        if what == "restart":
            space.start(build=False)
            return space.runtime()
        if what == "settings":
            settings = json.loads(raw)
            space.private = settings.get("visibility", "private" if settings.get("private") else "public") == "private"
            return {"private": space.private}
        if what == "logs":
            return self._logs(space, detail)
        raise RefusedError(404, f"the stand-in has no {rest}")

    def _file(self, space: Space, revision: str, path: str) -> None:
        tree = space.repository.tree(revision)
        if path not in tree:
            raise RefusedError(404, "Entry not found", "EntryNotFound")
        content = space.repository.read(revision, path)
        self._send(200, content, "text/plain", {"ETag": f'"{tree[path][0]}"', "X-Repo-Commit": space.repository.head()})

    def _logs(self, space: Space, kind: str) -> None:
        """Server-sent events: what there is, and then the end of the stream."""
        events = [f"data: {json.dumps({'data': line + chr(10), 'timestamp': time})}\n\n" for time, line in space.logs[kind]]
        self._send(200, "".join(["data:\n\n", *events]).encode(), "text/event-stream")

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()


def start(hub: Hub, port: int = 0) -> tuple[ThreadingHTTPServer, str]:
    server = ThreadingHTTPServer(("127.0.0.1", port), type("HandlerOf", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    return server, hub.address


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where the git repositories are")
    parser.add_argument("--port", type=int, default=18760)
    parser.add_argument("--space-port", type=int, default=18761, help="where the first Space answers")
    parser.add_argument("--user", default="somebody")
    parser.add_argument("--token-file", type=Path, required=True, help="the one token that it accepts")
    parser.add_argument("--builder", help="program that builds and runs Spaces, such as docker_builder.py; without it stages are only told")
    arguments = parser.parse_args()
    token = arguments.token_file.read_text(encoding="utf-8").strip()
    builder = [sys.executable, arguments.builder] if arguments.builder else None
    _server, url = start(Hub(arguments.folder, token, arguments.user, builder, arguments.space_port), arguments.port)
    print(url, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
