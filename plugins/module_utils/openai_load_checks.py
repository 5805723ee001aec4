# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks under load: that the API carries it, and that every backend of a model takes part."""

from __future__ import annotations

import typing as t

from ansible_collections.selfhosted.llm.plugins.module_utils.checklist import CheckError, CheckList, SkippedError
from ansible_collections.selfhosted.llm.plugins.module_utils.http import BACKEND, PROTOCOL
from ansible_collections.selfhosted.llm.plugins.module_utils.openai_client import Answer
from ansible_collections.selfhosted.llm.plugins.module_utils.openai_load import Load, LoadSize, analyse, run_load, skew, strangers
from ansible_collections.selfhosted.llm.plugins.module_utils.openai_model import Model

GROUP = "load"
# A gateway counts late what it has sent, so requests come to its backends in lumps: one that is in rotation can be left out of a load, but
# hardly of each of several.
MORE_LOADS = 3
Details = t.Dict[str, t.Any]
SHOWN_OF_LOAD = ("requests", "answered", "failed", "unsent", "errors", "seconds", "rate", "latency", "ttft", "warm_up_seconds")
SHOWN_OF_BACKEND = ("backend", "requests", "share", "in_flight")


class LoadPlan:
    """How hard. None for `requests` or `concurrency`: as many as the backends of each model need to be judged."""

    def __init__(
        self,
        requests: int | None = None,
        concurrency: int | None = None,
        processes: int = 1,
        seconds: float = 120.0,
        models: t.Sequence[str] = (),
    ) -> None:
        self.requests = requests
        self.concurrency = concurrency
        self.processes = processes
        self.seconds = seconds
        self.models = models

    def size(self, backends: int) -> LoadSize:
        return LoadSize.of(backends, self.requests, self.concurrency, self.processes)


class LoadChecks:
    """The load on one model. `ask` sends the request of that number."""

    def __init__(self, checks: CheckList, model: Model, plan: LoadPlan, min_share: float, ask: t.Callable[[int], Answer]) -> None:
        self.checks = checks
        self.model = model
        self.plan = plan
        self.min_share = min_share
        self.ask = ask
        self.numbers: Details = {}

    def run(self) -> Details:
        """What was measured; empty where the load did not get through its warm-up."""
        self.checks.run(f"load on {self.model.name}", GROUP, self._load)
        self.checks.run(f"every backend of {self.model.name} takes part", GROUP, self._shares)
        return self.numbers

    def _measure(self, size: LoadSize) -> None:
        """Fills the numbers, or raises what the requests failed with."""
        # A backend that must first load the model would count as slow, and get no share.
        warm_up = run_load(self.ask, size.concurrency, size.concurrency)
        _expect_answers(warm_up, "warm-up ")
        load = run_load(self.ask, size.requests, size.concurrency, self.plan.seconds)
        self.numbers.clear()
        self.numbers.update(analyse(load, self.model.backends), model=self.model.name, mode=self.model.mode)
        self.numbers.update(
            concurrency=size.concurrency,
            min_share=self.min_share,
            streamed=self.model.mode != "embedding",
            warm_up_seconds=round(warm_up.seconds, 3),
        )
        _expect_answers(load)

    def _load(self, details: Details) -> str:
        size = self.plan.size(len(self.model.backends))
        details.update(model=self.model.name, concurrency=size.concurrency)
        try:
            self._measure(size)
        finally:
            details.update({key: self.numbers[key] for key in SHOWN_OF_LOAD if key in self.numbers})
        numbers, latency = self.numbers, self.numbers["latency"]
        unsent = f" ({numbers['unsent']} more not sent after {self.plan.seconds:g} s)" if numbers["unsent"] else ""
        return (
            f"{numbers['requests']} requests, {size.concurrency} at a time{unsent}: {numbers['rate']:.1f}/s, "
            f"p50 {latency['p50']:.3f} s, p95 {latency['p95']:.3f} s, p99 {latency['p99']:.3f} s"
        )

    def _left_out(self) -> dict[str, str]:
        """Who got too little, with a sentence for each. A CheckError where more load would not change the verdict."""
        if self.numbers["unnamed"]:
            message = f"{self.numbers['unnamed']} answers do not name their backend (header x-litellm-model-id): no proof"
            raise CheckError(PROTOCOL, message)
        unknown, backends = strangers(self.numbers), len(self.model.backends)
        short = skew(self.numbers, self.model.backends, self.min_share)
        if unknown:
            raise CheckError(BACKEND, "; ".join([*unknown, *short.values()]))
        if self.min_share and self.numbers["answered"] * self.min_share < backends:
            raise SkippedError(
                f"{self.numbers['answered']} answers are too few to judge {backends} backends by a share of {self.min_share:g}: "
                "a fair one could have got none"
            )
        return short

    def _shares(self, details: Details) -> str:
        model = self.model
        if not self.numbers:
            raise SkippedError(f"the load on {model.name} did not get through its warm-up")
        if not model.backends:
            raise SkippedError(f"no backends are declared for {model.name}")
        details["model"] = model.name
        loads = 1
        try:
            left_out = self._left_out()
            first = list(left_out.values())
            # Where requests failed, more of them would tell nothing.
            while left_out and loads <= MORE_LOADS and not self.numbers["failed"]:
                try:
                    self._measure(self.plan.size(len(model.backends)).doubled())
                except CheckError as exc:
                    raise CheckError(exc.layer, f"{'; '.join(left_out.values())}. Under twice the load {exc.message}") from exc
                loads += 1
                self.numbers.update(loads=loads, first_load=first)
                details.update(loads=loads, first_load=first)
                left_out = {backend: text for backend, text in self._left_out().items() if backend in left_out}
        finally:
            details["backends"] = [{key: entry[key] for key in SHOWN_OF_BACKEND} for entry in self.numbers["backends"]]
        if left_out:
            always = f". So it was under each of {loads} loads, those after the first twice as big" if loads > 1 else ""
            raise CheckError(BACKEND, "; ".join(left_out.values()) + always)
        shares = ", ".join(f"{entry['backend']} {entry['share'] * 100:.3g} %" for entry in self.numbers["backends"])
        return shares if loads == 1 else f"within {loads} loads, as the first did not reach every backend; under the last: {shares}"


def _expect_answers(load: Load, phase: str = "") -> None:
    errors = [sample.error for sample in load.samples if sample.error]
    if not errors:
        return
    layers = [error.layer for error in errors]
    worst = max(layers, key=layers.count)
    first = next(error for error in errors if error.layer == worst)
    unsent = f", {load.unsent} more not sent" if load.unsent else ""
    raise CheckError(worst, f"{len(errors)} of {len(load.samples)} {phase}requests failed{unsent}; the first: {first.message}")
