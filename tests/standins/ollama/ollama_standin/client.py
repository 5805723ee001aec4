# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The client that the commands use."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

from ollama_standin.config import Config


class ClientError(Exception):
    """What the server said was wrong."""


class NotRunningError(ClientError):
    """No server."""


class Client:
    """Talks to the server that OLLAMA_HOST names."""

    def __init__(self, config: Config) -> None:
        # A server that listens everywhere is reached here.
        self._host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)
        self._port = config.port

    def lines(self, method: str, path: str, body: Any = None) -> Iterator[dict[str, Any]]:
        """The objects of an answer; ClientError if one of them, or the status, is an error."""
        connection = http.client.HTTPConnection(self._host, self._port)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
            response = connection.getresponse()
        except OSError as error:
            raise NotRunningError from error
        try:
            for line in response:
                value = json.loads(line) if line.strip() else {}
                if "error" in value:
                    raise ClientError(value["error"])
                yield value
        finally:
            connection.close()

    def get(self, path: str) -> dict[str, Any]:
        return next(self.lines("GET", path))

    def post(self, path: str, body: Any) -> list[dict[str, Any]]:
        return list(self.lines("POST", path, body))
