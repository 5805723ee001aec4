# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which models are loaded, and who may use them when."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ollama_standin.config import FOREVER, Config
from ollama_standin.control import Control
from ollama_standin.errors import ApiError
from ollama_standin.gguf import GGUFError
from ollama_standin.registry import library
from ollama_standin.store import Model

_DEFAULT_CONTEXT = 4096
_DEFAULT_LOADED = 3
_LONGEST_TIMER = 86400.0 * 7
RUNNER_DIED = "an error was encountered while running the model: unexpected EOF"


class RunnerDiedError(Exception):
    """The process that runs the model is gone."""


class Slots:
    """So many at a time, the others in the order in which they came."""

    def __init__(self, number: int) -> None:
        self._free = number
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        if self._free and not self._waiting:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                # Its turn had just come.
                self.release()
            raise

    def release(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


class Runner:
    """A loaded model."""

    def __init__(self, model: Model, context: int, slots: int) -> None:
        self.model = model
        self.context = context
        self.slots = Slots(slots)
        self.users = 0
        self.keep_alive = 0.0
        self.expires = 0.0  # wall clock; 0 before the first use ends
        self.dead = False
        self.timer: asyncio.TimerHandle | None = None
        self._sleepers: set[asyncio.Future[None]] = set()
        cells = context * slots * int(model.config.get("embedding_length") or 64)
        self.size = model.size + 4 * cells

    async def pause(self, seconds: float) -> None:
        """Work for a while; RunnerDiedError if it is killed meanwhile."""
        if self.dead:
            raise RunnerDiedError
        loop = asyncio.get_running_loop()
        sleeper: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(max(0.0, seconds), _wake, sleeper)
        self._sleepers.add(sleeper)
        try:
            await sleeper
        finally:
            timer.cancel()
            self._sleepers.discard(sleeper)

    def kill(self) -> None:
        self.dead = True
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_exception(RunnerDiedError())


class Scheduler:
    """Loads, evicts and expires; one request at a time is scheduled, the others queue."""

    def __init__(self, config: Config, control: Control) -> None:
        self._config = config
        self._control = control
        self._loaded: dict[str, Runner] = {}
        self._turn = Slots(1)
        self._queued = 0
        self._changed = asyncio.Event()

    @property
    def runners(self) -> list[Runner]:
        """The one that stays longest first."""
        return sorted(self._loaded.values(), key=self.expiry, reverse=True)

    @staticmethod
    def expiry(runner: Runner) -> float:
        return runner.expires or time.time() + runner.keep_alive

    def context_for(self, model: Model, options: dict[str, Any]) -> int:
        wanted = int(options.get("num_ctx") or self._config.context_length or _DEFAULT_CONTEXT)
        trained = int(model.config.get("context_length") or 0)
        return min(wanted, trained) if trained else wanted

    @asynccontextmanager
    async def use(self, model: Model, options: dict[str, Any], keep_alive: float | None) -> AsyncIterator[Runner]:
        """A loaded runner for the time of the block."""
        runner = await self._acquire(model, self.context_for(model, options))
        runner.keep_alive = self._config.keep_alive if keep_alive is None else keep_alive
        try:
            yield runner
        finally:
            self._release(runner)

    async def _acquire(self, model: Model, context: int) -> Runner:
        if self._queued >= self._config.max_queue:
            raise ApiError(503, "server busy, please try again.  maximum pending requests exceeded")
        self._queued += 1
        try:
            await self._turn.acquire()
        finally:
            self._queued -= 1
        try:
            runner = self._loaded.get(model.name.full)
            if runner and (runner.dead or runner.context != context or runner.model.digest != model.digest):
                await self._until_idle(runner)
                self._unload(runner)
                runner = None
            if runner is None:
                await self._make_room()
                runner = await self._load(model, context)
            runner.users += 1
            if runner.timer:
                runner.timer.cancel()
                runner.timer = None
            return runner
        finally:
            self._turn.release()

    async def _wait_for_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _until_idle(self, runner: Runner) -> None:
        while runner.users and not runner.dead:
            await self._wait_for_change()

    async def _make_room(self) -> None:
        limit = self._config.max_loaded or _DEFAULT_LOADED
        while len(self._loaded) >= limit:
            idle = [runner for runner in self._loaded.values() if not runner.users]
            if idle:
                self._unload(min(idle, key=lambda runner: runner.keep_alive))
            else:
                await self._wait_for_change()

    async def _load(self, model: Model, context: int) -> Runner:
        try:
            model.gguf.check_size(model.weights.stat().st_size)
        except GGUFError as error:
            raise ApiError(500, str(error)) from error
        if self._config.program_installed and not (library() / "llama-server").exists():
            raise ApiError(500, f"llama-server binary not found in {library()}")
        seconds = self._control.load_seconds
        if seconds > self._config.load_timeout:
            await asyncio.sleep(self._config.load_timeout)
            raise ApiError(500, "timed out waiting for llama-server to start")
        await asyncio.sleep(seconds)
        await self._control.gate()
        runner = Runner(model, context, self._config.num_parallel)
        self._loaded[model.name.full] = runner
        return runner

    def _release(self, runner: Runner) -> None:
        runner.users -= 1
        if not runner.users:
            runner.expires = time.time() + runner.keep_alive
            if runner.keep_alive <= 0:
                self._unload(runner)
            elif runner.keep_alive < FOREVER:
                self._expire_later(runner)
        self._changed.set()

    def _expire_later(self, runner: Runner) -> None:
        rest = runner.expires - time.time()
        if rest <= 0:
            self._unload(runner)
            return
        runner.timer = asyncio.get_running_loop().call_later(min(rest, _LONGEST_TIMER), self._expire_later, runner)

    def _unload(self, runner: Runner) -> None:
        if runner.timer:
            runner.timer.cancel()
            runner.timer = None
        if self._loaded.get(runner.model.name.full) is runner:
            del self._loaded[runner.model.name.full]
        self._changed.set()

    def expire(self, model: Model) -> None:
        """Unload it as soon as nobody uses it."""
        runner = self._loaded.get(model.name.full)
        if runner:
            runner.keep_alive = 0.0
            if not runner.users:
                self._unload(runner)

    def kill_runners(self) -> int:
        """As a crash of llama-server: what runs ends with an error, the models stay listed, the next request loads again."""
        alive = [runner for runner in self._loaded.values() if not runner.dead]
        for runner in alive:
            runner.kill()
        return len(alive)
