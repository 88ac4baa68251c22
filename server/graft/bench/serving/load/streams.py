"""Sixteen long streams that are being read while something else happens."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from graft.bench.serving.peers.contenders import token_ids
from graft.bench.serving.peers.graft_server import Answer, GraftServer, largest_gap
from graft.bench.serving.processes import BenchFailed

_PROMPT_TOKENS = 64
_SETTLE_SECONDS = 0.5


class Streams:
    """Streams of one adapter up to the context's end; all begin again before a window would meet it."""

    def __init__(self, server: GraftServer, *, model: str, num_streams: int, vocab_size: int, context: int) -> None:
        self._server, self._model, self._num_streams = server, model, num_streams
        self._vocab_size = vocab_size
        self._max_tokens = context - _PROMPT_TOKENS - 1
        self._arrivals: list[list[float]] = []
        self._tasks: list[asyncio.Task[Answer]] = []
        self._round = 0

    async def largest_gap(self, seconds: float, meanwhile: Callable[[], Awaitable[None]] | None = None) -> float:
        """The longest wait between two tokens of any stream within a window, in seconds. Raises `BenchFailed`."""
        await self._ensure(seconds)
        begin = time.monotonic()
        if meanwhile is not None:
            await meanwhile()
        await asyncio.sleep(max(0.0, begin + seconds - time.monotonic()))
        self._check()
        return largest_gap(self._arrivals, begin, time.monotonic())

    async def stop(self) -> None:
        """Cancel all; the server ends them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks, self._arrivals = [], []

    async def _ensure(self, seconds: float) -> None:
        if self._tasks and self._tokens_left() > 2 * seconds * self._tokens_per_second():
            return
        await self.stop()
        self._round += 1
        self._arrivals = [[] for _ in range(self._num_streams)]
        for number, arrivals in enumerate(self._arrivals):
            prompt = token_ids(_PROMPT_TOKENS, self._vocab_size, seed=f"stream/{self._round}/{number}")
            call = self._server.ask(self._model, prompt, self._max_tokens, into=arrivals)
            self._tasks.append(asyncio.create_task(call))
        while not all(len(arrivals) > 1 for arrivals in self._arrivals):
            self._check()
            await asyncio.sleep(0.02)
        await asyncio.sleep(_SETTLE_SECONDS)

    def _tokens_left(self) -> int:
        return self._max_tokens - max(len(arrivals) for arrivals in self._arrivals)

    def _tokens_per_second(self) -> float:
        return max((len(each) - 1) / (each[-1] - each[0]) for each in self._arrivals)

    def _check(self) -> None:
        for task in self._tasks:
            if task.done():
                with contextlib.suppress(asyncio.CancelledError):
                    raise BenchFailed(f"a stream ended too early: {task.result().error or 'it was complete'}")
