# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Streamed chats by the hundreds: a connection each, as browsers and editors have them, without a client library in between."""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass


@dataclass
class Outcome:
    """Of one stream: how far it came. `problem` is empty where it was answered to its end."""

    pieces: int = 0
    done: bool = False
    problem: str = ""


class Streams:
    """`count` streams of one model, opened by a few at a time and then left open."""

    def __init__(self, address: str, name: str, context: ssl.SSLContext, key: str, model: str, count: int) -> None:
        self.outcomes = [Outcome() for _ in range(count)]
        self._where = {"host": address, "port": 443, "ssl": context, "server_hostname": name}
        self._name, self._key, self._model = name, key, model
        # A handshake of TLS costs both ends; a queue at the door proves nothing about streams.
        self._door = asyncio.Semaphore(40)
        self._begun = 0
        self._all_begun = asyncio.Event()

    def _request(self, number: int) -> bytes:
        body = json.dumps({"model": self._model, "stream": True, "messages": [{"role": "user", "content": f"stream {number}"}]})
        head = [
            "POST /v1/chat/completions HTTP/1.1",
            f"Host: {self._name}",
            f"Authorization: Bearer {self._key}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        return ("\r\n".join(head) + "\r\n\r\n" + body).encode()

    def _count_begun(self) -> None:
        self._begun += 1
        if self._begun == len(self.outcomes):
            self._all_begun.set()

    async def _one(self, number: int, outcome: Outcome) -> None:
        began = False
        try:
            async with self._door:
                reader, writer = await asyncio.open_connection(**self._where)
                writer.write(self._request(number))
                status = (await reader.readline()).decode("latin-1").strip()
                if " 200 " not in f"{status} ":
                    outcome.problem = f"{status}: {(await reader.read(600)).decode('utf-8', 'replace')}"
                    return
                while not (line := await reader.readline()).startswith(b"data:"):
                    if not line:
                        outcome.problem = "ended before its first piece"
                        return
                outcome.pieces = 1
                began = True
                self._count_begun()
            async for line in reader:
                if line.strip() == b"data: [DONE]":
                    outcome.done = True
                elif line.startswith(b"data:"):
                    outcome.pieces += 1
                    if b'"error"' in line:
                        outcome.problem = line.decode("utf-8", "replace")
            if not outcome.done and not outcome.problem:
                outcome.problem = f"ended after {outcome.pieces} pieces"
            writer.close()
        except OSError as error:
            outcome.problem = f"{type(error).__name__} {error}"
        finally:
            if not began:
                self._count_begun()

    async def run(self, when_all_are_open, seconds: float) -> None:
        """Open all, call that once each has had its first piece (or failed), and wait until all have ended."""
        tasks = [asyncio.create_task(self._one(number, outcome)) for number, outcome in enumerate(self.outcomes)]
        try:
            async with asyncio.timeout(seconds):
                await self._all_begun.wait()
                await asyncio.to_thread(when_all_are_open)
                await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
