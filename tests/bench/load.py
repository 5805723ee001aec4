#!/usr/bin/env python3
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bounded load of chat requests, and what became of each of them.

load.py URL MODEL --clients N --requests N [--seconds S] [--stream-share 0.5]; the key comes from the environment, OPENAI_API_KEY.
Prints one JSON document. Latencies are in seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
import typing as t
from collections import Counter
from dataclasses import dataclass, field

import httpx2 as httpx


@dataclass
class Outcome:
    """Of one load. `broken_streams` had sent a token before they failed; `failed` had not."""

    ok: int = 0
    failed: list[str] = field(default_factory=list)
    broken_streams: list[str] = field(default_factory=list)
    silent_ends: int = 0
    backends: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    # When each of them ended, counted from the start of the load.
    finished: list[float] = field(default_factory=list)
    first_tokens: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def summary(self) -> dict[str, t.Any]:
        total = sum(self.backends.values())
        return {
            "requests": self.ok + len(self.failed) + len(self.broken_streams) + self.silent_ends,
            "ok": self.ok,
            "failed": self.failed,
            "broken_streams": self.broken_streams,
            "silent_ends": self.silent_ends,
            "seconds": round(self.seconds, 2),
            "rate": round(self.ok / self.seconds, 2) if self.seconds else 0.0,
            "p50": percentile(self.latencies, 50),
            "p99": percentile(self.latencies, 99),
            "longest": round(max(self.latencies, default=0.0), 3),
            "shares": {name: round(count / total, 3) for name, count in sorted(self.backends.items())},
        }


def percentile(values: t.Sequence[float], percent: float) -> float:
    if not values:
        return 0.0
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))], 4)


async def one_plain(client: httpx.AsyncClient, payload: dict[str, t.Any], outcome: Outcome) -> None:
    response = await client.post("/v1/chat/completions", json=payload)
    if response.status_code != 200:
        outcome.failed.append(f"{response.status_code} {response.text[:200]}")
        return
    response.json()["choices"][0]["message"]
    outcome.backends[response.headers.get("x-litellm-model-id", "direct")] += 1
    outcome.ok += 1


async def one_stream(client: httpx.AsyncClient, payload: dict[str, t.Any], outcome: Outcome) -> None:
    begun, error, done = False, "", False
    started = time.monotonic()
    try:
        async with client.stream("POST", "/v1/chat/completions", json={**payload, "stream": True}) as response:
            if response.status_code != 200:
                outcome.failed.append(f"{response.status_code} {(await response.aread()).decode()[:200]}")
                return
            outcome.backends[response.headers.get("x-litellm-model-id", "direct")] += 1
            async for line in response.aiter_lines():
                if not line.startswith("data: "):
                    continue
                if line == "data: [DONE]":
                    done = True
                    continue
                data = json.loads(line[6:])
                if "error" in data:
                    error = str(data["error"])[:200]
                elif data.get("choices") and data["choices"][0]["delta"].get("content") and not begun:
                    begun = True
                    outcome.first_tokens.append(time.monotonic() - started)
    except httpx.HTTPError as exc:
        error = f"{type(exc).__name__} {exc}"
    if error:
        (outcome.broken_streams if begun else outcome.failed).append(error)
    elif done:
        outcome.ok += 1
    else:
        outcome.silent_ends += 1


async def run_load(
    url: str,
    key: str,
    model: str,
    clients: int,
    requests: int,
    seconds: float = 600.0,
    stream_share: float = 0.5,
    max_tokens: int = 16,
    stop: t.Callable[[], bool] = lambda: False,
) -> Outcome:
    """`clients` in parallel, until `requests` are sent, the time is over, or `stop` says so."""
    outcome = Outcome()
    numbers = iter(range(requests))
    deadline = time.monotonic() + seconds
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=seconds, limits=limits, trust_env=False) as client:

        async def worker() -> None:
            for number in numbers:
                if stop() or time.monotonic() > deadline:
                    return
                payload = {"model": model, "max_tokens": max_tokens, "messages": [{"role": "user", "content": f"request {number}"}]}
                started = time.monotonic()
                send = one_stream if (number * stream_share) % 1 + stream_share >= 1 else one_plain
                try:
                    await send(client, payload, outcome)
                except (httpx.HTTPError, ValueError, KeyError) as exc:
                    outcome.failed.append(f"{type(exc).__name__} {exc}")
                ended = time.monotonic()
                outcome.latencies.append(ended - started)
                outcome.finished.append(ended - begun)

        begun = time.monotonic()
        await asyncio.gather(*(worker() for _ in range(clients)))
        outcome.seconds = time.monotonic() - begun
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--stream-share", type=float, default=0.5)
    arguments = parser.parse_args()
    outcome = asyncio.run(
        run_load(
            arguments.url.rstrip("/"),
            os.environ.get("OPENAI_API_KEY", ""),
            arguments.model,
            arguments.clients,
            arguments.requests,
            arguments.seconds,
            arguments.stream_share,
        )
    )
    print(json.dumps(outcome.summary(), indent=2))


if __name__ == "__main__":
    main()
