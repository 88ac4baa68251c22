"""Keeps an engine running: starts it, watches it with a canary, replaces it when it dies or hangs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

from graft.server.engine.engine import (
    ContinuationScore,
    Delta,
    Engine,
    EngineAdapter,
    EngineDied,
    EngineInfo,
    Sampling,
)

log = logging.getLogger(__name__)

_RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)


class MortalEngine(Engine, Protocol):
    """An engine in a process that may end."""

    def on_death(self, callback: Callable[[], None]) -> None:
        """Call back once when the process has ended."""
        ...


class Supervisor:
    """The `Engine` that the server holds; it delegates to the one that runs now.

    While there is none, calls raise `EngineDied`. `restored` runs on each replacement before it takes traffic.
    """

    def __init__(
        self,
        start: Callable[[], Awaitable[MortalEngine]],
        *,
        restored: Callable[[Engine], Awaitable[None]],
        canary_interval_seconds: float = 10.0,
        canary_timeout_seconds: float = 15.0,
    ) -> None:
        self._start = start
        self._restored = restored
        self._interval = canary_interval_seconds
        self._timeout = canary_timeout_seconds
        self._engine: MortalEngine | None = None
        self.ready = False
        self._ill = asyncio.Event()
        self._callbacks: list[Callable[[bool], None]] = []
        self._watch: asyncio.Task[None] | None = None
        self.num_restarts = 0

    async def start(self) -> None:
        """Start the first engine and the watch over it. Raises `EngineError` where it cannot start."""
        self._take(await self._start())
        self._watch = asyncio.create_task(self._watch_over())

    async def close(self) -> None:
        """End the watch and the engine."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        self._set_ready(False)
        if self._engine is not None:
            await self._engine.close()

    def subscribe(self, callback: Callable[[bool], None]) -> None:
        """Call back with each change of `ready`."""
        self._callbacks.append(callback)

    @property
    def current(self) -> MortalEngine:
        """The engine that runs now; raises `EngineDied` while it is being replaced."""
        if self._engine is None or not self.ready:
            raise EngineDied("the engine is being replaced after it died; try again in half a minute")
        return self._engine

    async def generate(
        self, prompt_token_ids: Sequence[int], sampling: Sampling, *, request_id: str, adapter: EngineAdapter | None
    ) -> AsyncIterator[Delta]:
        stream = self.current.generate(prompt_token_ids, sampling, request_id=request_id, adapter=adapter)
        async with contextlib.aclosing(stream):  # type: ignore[type-var]
            async for delta in stream:
                yield delta

    async def score(
        self,
        prompt_token_ids: Sequence[int],
        continuation_token_ids: Sequence[int],
        *,
        request_id: str,
        adapter: EngineAdapter | None,
    ) -> ContinuationScore:
        return await self.current.score(
            prompt_token_ids, continuation_token_ids, request_id=request_id, adapter=adapter
        )

    def prepare(self, digest: str, path: Path) -> None:
        with contextlib.suppress(EngineDied):
            self.current.prepare(digest, path)

    async def load(self, adapter: EngineAdapter) -> None:
        await self.current.load(adapter)

    async def unload(self, adapter: EngineAdapter) -> None:
        await self.current.unload(adapter)

    async def loaded(self) -> frozenset[int]:
        return await self.current.loaded()

    async def info(self) -> EngineInfo:
        return await self.current.info()

    async def canary(self) -> None:
        await self.current.canary()

    async def _watch_over(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ill.wait(), self._interval)
            if not self._ill.is_set() and not await self._answers():
                self._ill.set()
            if self._ill.is_set():
                await self._replace()

    async def _answers(self) -> bool:
        try:
            await asyncio.wait_for(self.current.canary(), self._timeout)
        except TimeoutError:
            log.error("engine gave no token within %.0f s: replacing it", self._timeout)
        except Exception as error:  # whatever it is, an engine that does not answer is replaced
            log.error("engine failed its canary, replacing it: %s", error)
        else:
            return True
        return False

    async def _replace(self) -> None:
        self._set_ready(False)
        if self._engine is not None:
            await self._engine.close()
        for attempt in itertools.count():
            try:
                engine = await self._start_restored()
            except Exception as error:  # a full disk, say: the next try may find it mended
                delay = _RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)]
                log.error("engine did not come back, next try in %.0f s: %s", delay, error)
                await asyncio.sleep(delay)
                continue
            self.num_restarts += 1
            self._take(engine)
            return

    async def _start_restored(self) -> MortalEngine:
        engine = await self._start()
        try:
            await self._restored(engine)
        except BaseException:
            await engine.close()
            raise
        return engine

    def _take(self, engine: MortalEngine) -> None:
        self._engine = engine
        self._ill.clear()
        engine.on_death(self._died)
        self._set_ready(True)

    def _died(self) -> None:
        log.error("engine process ended")
        self._ill.set()
        self._set_ready(False)

    def _set_ready(self, ready: bool) -> None:
        if ready != self.ready:
            self.ready = ready
            for callback in self._callbacks:
                callback(ready)
