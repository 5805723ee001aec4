# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients of several gateways that do what a load balancer does: where one gateway does not answer at all, the request goes to the next."""

from __future__ import annotations

import itertools
import ssl
import threading
import time
from collections import Counter

import httpx2 as httpx


class Clients:
    """`count` clients ask in the background, until `finish`. `failed` holds every request that no gateway answered with 200.

    With `name` the addresses are asked for a service of that name, whose certificate `verify` judges.
    """

    def __init__(self, urls: list[str], key: str, model: str, count: int = 4, name: str = "", verify: ssl.SSLContext | bool = True) -> None:
        self.answered: Counter[str] = Counter()
        self.failed: list[str] = []
        self.moved = 0  # no connection: the request was never sent
        self.cut = 0  # the gateway went away while it had the request
        self._urls = urls
        self._body = {"model": model, "max_tokens": 4}
        # A connection of its own for each request: one that a gateway closes while it is idle proves nothing.
        self._headers = {"Authorization": f"Bearer {key}", "Connection": "close", **({"Host": name} if name else {})}
        self._extensions = {"sni_hostname": name} if name else {}
        self._verify = verify
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self, first: int) -> None:
        with httpx.Client(timeout=60, trust_env=False, verify=self._verify) as client:
            for number in itertools.count(first):
                if self._stop.is_set():
                    return
                self._ask(client, number)
                time.sleep(0.05)

    def _ask(self, client: httpx.Client, number: int) -> None:
        body = {**self._body, "messages": [{"role": "user", "content": f"request {number} of {threading.get_ident()}"}]}
        problem = ""
        for url in (self._urls * 2)[number % len(self._urls) :][: len(self._urls)]:
            try:
                answer = client.post(f"{url}/v1/chat/completions", json=body, headers=self._headers, extensions=self._extensions)
            except httpx.TransportError as error:
                problem = f"{url}: {type(error).__name__} {error}"
                with self._lock:
                    if isinstance(error, httpx.ConnectError):
                        self.moved += 1
                    else:
                        self.cut += 1
                continue
            with self._lock:
                if answer.status_code == 200:
                    self.answered[url] += 1
                else:
                    self.failed.append(f"{url}: {answer.status_code} {answer.text[:200]}")
            return
        with self._lock:
            self.failed.append(problem)

    def total(self) -> int:
        with self._lock:
            return sum(self.answered.values())

    def finish(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(90)
            assert not thread.is_alive(), "a request did not end"
        print(f"answered {dict(self.answered)}, failed {len(self.failed)}, not accepted {self.moved}, cut {self.cut}")
