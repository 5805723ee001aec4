# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Concurrent load on one model, and what it says about the backends: shares, latency, requests in flight."""

from __future__ import annotations

import threading
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.selfhosted.llm.plugins.module_utils.http import ApiError
from ansible_collections.selfhosted.llm.plugins.module_utils.openai_client import Answer
from ansible_collections.selfhosted.llm.plugins.module_utils.stats import summary, thin

# With fewer answers to judge by, a backend that is chosen at random would now and then seem to be left out: of 20 it gets less than a
# quarter once in 50,000 loads.
REQUESTS_PER_BACKEND = 20
# Well more in flight than backends. Of those that a gateway has taken it asks its backends only a part at a time, and least-busy gives
# these to the backends that are listed first.
CONCURRENCY_PER_BACKEND = 4
FEWEST_REQUESTS, MOST_REQUESTS = 40, 2000
FEWEST_AT_A_TIME, MOST_AT_A_TIME = 8, 128


class LoadSize(t.NamedTuple):
    """How many requests, and how many of them at a time."""

    requests: int
    concurrency: int

    @classmethod
    def of(cls, backends: int, requests: int | None = None, concurrency: int | None = None, processes: int = 1) -> LoadSize:
        """What tells of so many backends, behind so many processes that balance for themselves; what is given stays.

        Fewer than two in flight for each backend, and a fair gateway would have no reason to use every one.
        """
        if concurrency is None:
            wanted = CONCURRENCY_PER_BACKEND * backends * processes
            concurrency = min(MOST_AT_A_TIME, max(FEWEST_AT_A_TIME, wanted))
        concurrency = max(concurrency, 2 * backends)
        if requests is None:
            wanted = max(REQUESTS_PER_BACKEND * backends, REQUESTS_PER_BACKEND // CONCURRENCY_PER_BACKEND * concurrency)
            requests = min(MOST_REQUESTS, max(FEWEST_REQUESTS, wanted))
        return cls(requests, concurrency)

    def doubled(self) -> LoadSize:
        return LoadSize(2 * self.requests, 2 * self.concurrency)


class Sample:
    """One request of the load."""

    def __init__(self, seconds: float, backend: str | None = None, ttft: float | None = None, error: ApiError | None = None) -> None:
        self.seconds = seconds
        self.backend = backend
        self.ttft = ttft
        self.error = error


class Load:
    """All requests of a run, its duration, and how many were not sent because too many had failed."""

    def __init__(self, samples: list[Sample], seconds: float, unsent: int = 0) -> None:
        self.samples = samples
        self.seconds = seconds
        self.unsent = unsent


def run_load(ask: t.Callable[[int], Answer], requests: int, concurrency: int, seconds: float | None = None) -> Load:
    """Calls ask(number) `requests` times, `concurrency` at a time.

    Stops sending after so many seconds, and once as many have failed as run at a time: a dead service must not cost a timeout per request.
    """
    begun = time.monotonic()
    lock = threading.Lock()
    samples: list[Sample] = []
    state = {"next": 0, "errors": 0}

    def worker() -> None:
        while True:
            with lock:
                if state["next"] >= requests or state["errors"] >= concurrency:
                    return
                if seconds is not None and time.monotonic() - begun >= seconds:
                    return
                number = state["next"]
                state["next"] += 1
            started = time.monotonic()
            try:
                answer = ask(number)
                sample = Sample(time.monotonic() - started, answer.backend, answer.ttft)
            except ApiError as exc:
                sample = Sample(time.monotonic() - started, error=exc)
            with lock:
                samples.append(sample)
                state["errors"] += 1 if sample.error else 0

    with ThreadPoolExecutor(max_workers=concurrency) as pool:
        for future in [pool.submit(worker) for _index in range(concurrency)]:
            future.result()
    return Load(samples, time.monotonic() - begun, requests - len(samples))


def errors_by_layer(samples: t.Sequence[Sample]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for sample in samples:
        if sample.error:
            counts[sample.error.layer] = counts.get(sample.error.layer, 0) + 1
    return counts


def analyse(load: Load, declared: t.Sequence[str]) -> dict[str, t.Any]:
    """Numbers of a run: overall, and for each backend that was declared or that answered.

    `in_flight` is the mean number of requests a backend had open (busy seconds by the run's duration):
    the quantity least-busy is to make equal, whereas shares follow the speed of the hosts.
    """
    answered = [sample for sample in load.samples if not sample.error]
    named = [sample for sample in answered if sample.backend]
    order = list(declared)
    for sample in named:
        if sample.backend and sample.backend not in order:
            order.append(sample.backend)
    backends = []
    for name in order:
        mine = [sample for sample in named if sample.backend == name]
        backends.append(
            {
                "backend": name,
                "declared": name in declared,
                "requests": len(mine),
                "share": round(len(mine) / float(len(named)), 4) if named else 0.0,
                "in_flight": round(sum(sample.seconds for sample in mine) / load.seconds, 2) if load.seconds > 0 else 0.0,
                "latency": summary([sample.seconds for sample in mine]),
                "ttft": summary([sample.ttft for sample in mine if sample.ttft is not None]),
                "samples": thin([sample.seconds for sample in mine]),
            }
        )
    return {
        "requests": len(load.samples),
        "answered": len(answered),
        "failed": len(load.samples) - len(answered),
        "unsent": load.unsent,
        "unnamed": len(answered) - len(named),
        "errors": errors_by_layer(load.samples),
        "seconds": round(load.seconds, 3),
        "rate": round(len(answered) / load.seconds, 2) if load.seconds > 0 else 0.0,
        "latency": summary([sample.seconds for sample in answered]),
        "ttft": summary([sample.ttft for sample in answered if sample.ttft is not None]),
        "samples": thin([sample.seconds for sample in answered]),
        "backends": backends,
    }


def strangers(numbers: dict[str, t.Any]) -> list[str]:
    """The backends that answered without being declared."""
    return [
        f"{entry['backend']} answered {entry['requests']} requests but is not declared"
        for entry in numbers["backends"]
        if not entry["declared"]
    ]


def skew(numbers: dict[str, t.Any], declared: t.Sequence[str], min_share: float) -> dict[str, str]:
    """Which of the declared backends got less than that part of its fair share, each with a sentence."""
    least = min_share / float(len(declared))
    return {
        entry["backend"]: (
            f"{entry['backend']} answered {entry['requests']} of {numbers['answered'] - numbers['unnamed']} requests "
            f"({entry['share'] * 100:.3g} %, at least {least * 100:.3g} % wanted)"
        )
        for entry in numbers["backends"]
        if entry["declared"] and entry["share"] < least
    }
