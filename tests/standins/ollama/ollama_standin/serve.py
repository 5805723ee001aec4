# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`ollama serve`."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
import socket
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

from ollama_standin import VERSION
from ollama_standin.app import App
from ollama_standin.config import Config
from ollama_standin.control import Control
from ollama_standin.http1 import Connection, Request
from ollama_standin.inference import Engine
from ollama_standin.registry import Registry, load_catalogue
from ollama_standin.store import Store

_BACKLOG = 1024


def _log(source: str, message: str, extra: str = "", level: str = "INFO") -> None:
    now = datetime.now(timezone.utc).astimezone()
    stamp = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    quoted = '"' + message.replace('"', '\\"') + '"'
    sys.stderr.write(f"time={stamp} level={level} source={source} msg={quoted}{extra}\n")
    sys.stderr.flush()


def _duration(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.6g}µs"
    return f"{seconds * 1e3:.6g}ms" if seconds < 1 else f"{seconds:.9g}s"


def _log_request(request: Request, status: int, seconds: float) -> None:
    moment = time.strftime("%Y/%m/%d - %H:%M:%S")
    took = _duration(seconds)
    sys.stdout.write(f'[GIN] {moment} | {status:3d} | {took:>13} | {request.peer:>15} | {request.method:<8} "{request.path}"\n')
    sys.stdout.flush()


def _write_identity(home: str) -> None:
    """The files that the first start leaves in the home directory; what is in them is no real key."""
    if not home:
        raise SystemExit("Error: $HOME is not defined")
    private = Path(home) / ".ollama" / "id_ed25519"
    if private.exists():
        return
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + os.urandom(32)
    public = "ssh-ed25519 " + base64.b64encode(blob).decode()
    print("Couldn't find '~/.ollama/id_ed25519'. Generating new private key.")
    print(f"Your new public key is: \n\n{public}\n", flush=True)
    try:
        private.parent.mkdir(parents=True, exist_ok=True)
        private.touch(mode=0o600)
        # Not PEM, so that nobody takes it for a key.
        private.write_text("stand-in: no private key\n")
        private.with_suffix(".pub").write_text(public + "\n")
    except OSError as error:
        raise SystemExit(f"Error: could not create directory mkdir {private.parent}: {(error.strerror or '').lower()}") from error


def _listen(config: Config) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
    except OSError as error:
        listener.close()
        raise SystemExit(f"Error: listen tcp {config.host}:{config.port}: bind: {(error.strerror or '').lower()}") from error
    listener.listen(_BACKLOG)
    return listener


def _open_store(config: Config) -> Store:
    store = Store(config.models)
    try:
        store.open()
    except OSError as error:
        hint = ": ensure path elements are traversable"
        raise SystemExit(f"Error: mkdir {config.models}: {(error.strerror or '').lower()}{hint}") from error
    if not config.no_prune:
        store.prune()
    return store


def _stop() -> None:
    """As Ollama on SIGTERM: no draining, connections are cut, exit code 0."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


async def _serve(config: Config, listener: socket.socket) -> None:
    _log("routes.go:1951", "server config", f' env="{config.logged()}"')
    _log("routes.go:1953", f"Ollama cloud disabled: {str(config.no_cloud).lower()}")
    store = _open_store(config)
    control = Control(os.environ)
    try:
        catalogue = load_catalogue(os.environ.get("OLLAMA_STANDIN_CATALOGUE", ""))
    except (OSError, ValueError) as error:
        raise SystemExit(f"Error: catalogue: {error}") from error
    app = App(Engine(config, control, store, Registry(store, control, catalogue)))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop)
    server = await loop.create_server(lambda: Connection(app, control, _log_request), sock=listener, backlog=_BACKLOG)
    _log("routes.go:2008", f"Listening on {config.host}:{config.port} (version {VERSION})")
    _log("standin", "this is a stand-in: it loads no models")
    await server.serve_forever()


def serve(config: Config) -> int:
    with contextlib.suppress(OSError):
        # How the process is listed; it would be as Python.
        Path("/proc/self/comm").write_text("ollama")
    _write_identity(config.home)
    listener = _listen(config)
    asyncio.run(_serve(config, listener))
    return 0
