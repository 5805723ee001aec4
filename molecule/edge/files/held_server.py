#!/usr/bin/env python3
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An OpenAI-compatible server whose streams end when they are told to: held_server.py PORT

What a test of a thousand open streams needs and no model gives: each sends its first piece at once and the rest after `POST /release`.
`GET /open` says how many are open now and were at most. Everything else answers as a server of one model, `held`.
"""

from __future__ import annotations

import asyncio
import json
import sys

HEAD = "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n{more}\r\n"
PIECES = ("first", " middle", " last")


class Held:
    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.open = self.most = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, path, _ = head.split(" ", 2)
            length = next((int(line.split(":")[1]) for line in head.splitlines() if line.lower().startswith("content-length:")), 0)
            body = json.loads(await reader.readexactly(length) or b"{}")
            await self.answer(method, path, body, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def answer(self, method: str, path: str, body: dict[str, object], writer: asyncio.StreamWriter) -> None:
        if path == "/open":
            self.say(writer, {"open": self.open, "most": self.most})
        elif path == "/release":
            self.released.set()
            self.say(writer, {})
        elif path == "/hold":
            self.released.clear()
            self.most = 0
            self.say(writer, {})
        elif path == "/health":
            self.say(writer, {"status": "ok"})
        elif path == "/v1/models":
            self.say(writer, {"object": "list", "data": [{"id": "held", "object": "model"}]})
        elif method == "POST" and body.get("stream"):
            await self.stream(writer)
        else:
            message = {"role": "assistant", "content": "".join(PIECES)}
            usage = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            self.say(writer, {"id": "held", "object": "chat.completion", "created": 0, "model": "held", "choices": choices, "usage": usage})

    @staticmethod
    def say(writer: asyncio.StreamWriter, answer: dict[str, object]) -> None:
        data = json.dumps(answer)
        writer.write((HEAD.format(status="200 OK", kind="application/json", more=f"Content-Length: {len(data)}\r\n") + data).encode())

    async def stream(self, writer: asyncio.StreamWriter) -> None:
        def piece(delta: dict[str, str], finish: str | None = None) -> bytes:
            choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
            data = json.dumps({"id": "held", "object": "chat.completion.chunk", "created": 0, "model": "held", "choices": choices})
            return f"data: {data}\n\n".encode()

        self.open += 1
        self.most = max(self.most, self.open)
        try:
            writer.write(HEAD.format(status="200 OK", kind="text/event-stream", more="").encode())
            writer.write(piece({"role": "assistant", "content": PIECES[0]}))
            await writer.drain()
            await self.released.wait()
            for text in PIECES[1:]:
                writer.write(piece({"content": text}))
            writer.write(piece({}, "stop") + b"data: [DONE]\n\n")
        finally:
            self.open -= 1


async def main(port: int) -> None:
    held = Held()
    held.released.set()
    server = await asyncio.start_server(held.serve, "0.0.0.0", port, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
