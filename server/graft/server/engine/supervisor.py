"""Keeps an engine running: starts it, watches it with a canary, replaces it when it dies or hangs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from graft.server.engine.engine import (
    ContinuationScore,
    Delta,
    Engine,
    EngineAdapter,
    EngineDied,
    EngineError,
    EngineInfo,
    HeadOutputs,
    Sampling,
)
from graft.server.engine.state import PROVEN_SECONDS, Cause, EngineState
from graft.server.runtime.background import watched

log = logging.getLogger(__name__)

_CLOSE_SECONDS = 20.0
_MAX_REASON_CHARACTERS = 300
Restore = Callable[[Engine], Coroutine[Any, Any, None]]


class MortalEngine(Engine, Protocol):
    """An engine in a process that may end."""

    def on_death(self, callback: Callable[[str], None]) -> None:
        """Call back once when the process has ended, with how it ended."""
        ...


class Supervisor:
    """The `Engine` that the server holds; it delegates to the one that runs now.

    While there is none, calls raise `EngineDied`.
    """

    def __init__(
        self,
        start: Callable[[], Awaitable[MortalEngine]],
        *,
        canary_interval_seconds: float = 10.0,
        canary_timeout_seconds: float = 15.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._start = start
        self._interval = canary_interval_seconds
        self._timeout = canary_timeout_seconds
        self._sleep = sleep
        self._engine: MortalEngine | None = None
        self._taken_at = 0.0
        self._last_info: EngineInfo | None = None
        self._ill = asyncio.Event()
        self._callbacks: list[Callable[[EngineState], None]] = []
        self._watch: asyncio.Task[None] | None = None
        self._restore: Restore
        self.state = EngineState()

    async def start(self, *, restore: Restore) -> None:
        """Start the first engine and the watch over it. Raises `EngineError` where it cannot start.

        `restore` runs on each replacement before it takes traffic.
        """
        self._restore = restore
        self._take(await self._start())
        self._watch = watched(self._watch_over(), "the watch over the engine")

    async def close(self) -> None:
        """End the watch and the engine."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        self._tell(ready=False, why="the server is going down")
        await self._end(self._engine)

    def subscribe(self, callback: Callable[[EngineState], None]) -> None:
        """Call back with each change of `state`."""
        self._callbacks.append(callback)

    def distrust(self, reason: str) -> None:
        """The engine that runs now cannot go on: replace it."""
        if self.ready:
            self._fail("silence", reason)
            self._ill.set()

    @property
    def ready(self) -> bool:
        """Whether an engine answers now."""
        return self.state.ready

    @property
    def num_restarts(self) -> int:
        """How often the engine was replaced since the start."""
        return self.state.num_restarts

    @property
    def current(self) -> MortalEngine:
        """The engine that runs now; raises `EngineDied` while it is being replaced."""
        if self._engine is None or not self.ready:
            raise EngineDied("the engine is being replaced after it died; try again in half a minute")
        return self._engine

    async def generate(
        self,
        prompt_token_ids: Sequence[int],
        sampling: Sampling,
        *,
        request_id: str,
        adapter: EngineAdapter | None,
        cache_salt: str | None = None,
    ) -> AsyncIterator[Delta]:
        stream = self.current.generate(
            prompt_token_ids, sampling, request_id=request_id, adapter=adapter, cache_salt=cache_salt
        )
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
        cache_salt: str | None = None,
    ) -> ContinuationScore:
        return await self.current.score(
            prompt_token_ids, continuation_token_ids, request_id=request_id, adapter=adapter, cache_salt=cache_salt
        )

    async def classify(
        self, prompt_token_ids: Sequence[int], *, request_id: str, adapter: EngineAdapter, cache_salt: str | None = None
    ) -> HeadOutputs:
        return await self.current.classify(
            prompt_token_ids, request_id=request_id, adapter=adapter, cache_salt=cache_salt
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
        self._last_info = await self.current.info()
        return self._last_info

    async def last_info(self) -> EngineInfo:
        """What is known of the engine; of the last one while there is none. Raises `EngineDied` before the first."""
        try:
            return await self.info()
        except EngineDied:
            if self._last_info is None:
                raise
            return self._last_info

    async def canary(self) -> None:
        await self.current.canary()

    async def _watch_over(self) -> None:
        while True:
            try:
                await self._look()
                if self._ill.is_set():
                    await self._replace()
            except Exception as error:  # a fault of ours must not leave the engine unwatched
                log.exception("the watch over the engine goes on after an error of its own: %s", error)
                await self._sleep(self._interval)

    async def _look(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._interval):
                await self._ill.wait()
        if self._ill.is_set() or self._engine is None:
            self._ill.set()
            return
        try:
            await self._answer(self._engine)
        except Exception as error:  # whatever it is, an engine that does not answer is replaced
            if not self._ill.is_set():
                self._fail("silence", str(error))
            self._ill.set()
        else:
            if asyncio.get_running_loop().time() - self._taken_at > PROVEN_SECONDS and self.state.num_failures:
                self._tell(num_failures=0)

    async def _answer(self, engine: MortalEngine) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await engine.canary()
        except TimeoutError:
            raise EngineError(f"it gave no token within {self._timeout:g} s") from None

    async def _replace(self) -> None:
        """Until one runs: end the last, wait the longer the more of them failed in a row, start the next."""
        engine, self._engine = self._engine, None
        await self._end(engine)
        while True:
            await self._pause()
            try:
                engine = await self._start_restored()
            except Exception as error:  # a full disk, say: the next try may find it mended
                self._fail("start", str(error) or type(error).__name__)
                continue
            self._take(engine, num_restarts=self.state.num_restarts + 1)
            return

    async def _pause(self) -> None:
        seconds, reason = self.state.pause_seconds, self.state.why
        if seconds:
            log.warning("the next engine is started in %.0f s", seconds)
            self._tell(why=f"{reason}; next try in {seconds:.0f} s")
            await self._sleep(seconds)
        self._tell(why=f"{reason}; the next is starting")

    async def _start_restored(self) -> MortalEngine:
        """An engine that holds what the last one held, and has given a token."""
        engine = await self._start()
        try:
            await self._while_it_answers(engine, self._restore(engine))
            await self._answer(engine)
        except BaseException:
            await self._end(engine)
            raise
        return engine

    async def _while_it_answers(self, engine: MortalEngine, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait((task,), timeout=self._timeout))[0]:
                await self._answer(engine)
            await task
        finally:
            task.cancel()

    async def _end(self, engine: MortalEngine | None) -> None:
        if engine is None:
            return
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await engine.close()
        except Exception as error:
            log.error("the engine was not closed in order: %s", error or type(error).__name__, exc_info=error)

    def _take(self, engine: MortalEngine, *, num_restarts: int = 0) -> None:
        self._engine = engine
        self._taken_at = asyncio.get_running_loop().time()
        self._ill.clear()
        self._tell(ready=True, why="", num_restarts=num_restarts)
        engine.on_death(lambda how: self._died(engine, how))

    def _died(self, engine: MortalEngine, how: str) -> None:
        if engine is self._engine and not self._ill.is_set():
            self._fail("death", how)
            self._ill.set()

    def _fail(self, cause: Cause, reason: str) -> None:
        number = self.state.num_failures + 1
        short = (reason.strip() or "no reason was given").splitlines()[0][:_MAX_REASON_CHARACTERS]
        kind = {"start": "did not start", "death": "ended", "silence": "did not answer"}[cause]
        count = f", {number} failures in a row" if number > 1 else ""
        log.error("the engine %s%s: %s", kind, count, reason)
        self._tell(ready=False, why=f"the engine {kind}{count}: {short}", num_failures=number, cause=cause)

    def _tell(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)
        for callback in self._callbacks:
            try:
                callback(self.state)
            except Exception as error:  # whoever listens must not keep the engine from being replaced
                log.exception("a listener to the engine's state failed: %s", error)
