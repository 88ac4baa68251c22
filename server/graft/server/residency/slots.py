"""Carries out what `Residency` decides: loads and unloads in the engine, and lets those who wait know."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from graft.adapters.errors import IncompatibleAdapter, Reason
from graft.adapters.folder.head import Head
from graft.server.engine.engine import Engine, EngineAdapter, EngineDied, LoadFailed
from graft.server.residency.places import Places
from graft.server.residency.policy import Action, Load, Resident, Unload
from graft.server.runtime.background import watched

log = logging.getLogger(__name__)

_UNLOAD_TRIES = 4
_UNLOAD_PAUSE_SECONDS = 0.5
_SETTLE_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Located:
    """A version's verified local folder, and what bringing it back would read. A soft prompt has virtual tokens,
    a classifier a head.
    """

    folder: Path
    size_bytes: int
    num_virtual_tokens: int = 0
    head: Head | None = None


class SlotObserver(Protocol):
    """Told what happens in the slots."""

    def on_load_started(self, digest: str) -> None: ...

    def on_load(self, digest: str, seconds: float) -> None: ...

    def on_load_failed(self, digest: str) -> None: ...

    def on_unload(self, digest: str, evicted: bool) -> None: ...

    def on_hand_over(self, digest: str) -> None: ...


def require_slots(num_slots: int) -> None:
    """Raises IncompatibleAdapter where there are none."""
    if num_slots == 0:
        reason = Reason(
            field="num_slots", problem="is 0: the base alone is served", remedy="start it with --num-slots 8"
        )
        raise IncompatibleAdapter("this server takes no adapters", [reason])


class Slots:
    """Leases on adapter versions in the engine's slots, on soft prompts in memory: a `SlotChoice` over a real engine.

    Requests come through the admission queue, which asks with `want`, `usable`, `take` and `free` and is told of
    changes; others `lease`, and are served first.

    `locate` finds a version; it may fetch, and runs before the engine hears of the version.
    `expect` is called before each load, so that the check can begin beside it, and what it returns where the load
    fails; `verify` is awaited once after a load, before anybody is served; where it raises, the load has failed.
    `distrust` is told of an engine that does not let a version go, and replaces it.
    """

    def __init__(
        self,
        engine: Engine,
        locate: Callable[[str], Awaitable[Located]],
        *,
        num_slots: int,
        num_soft_prompts: int = 0,
        is_soft_prompt: Callable[[str], bool] = lambda digest: False,
        observer: SlotObserver | None = None,
        expect: Callable[[EngineAdapter], Callable[[], None]] | None = None,
        verify: Callable[[EngineAdapter], Awaitable[None]] | None = None,
        distrust: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._engine = engine
        self._locate = locate
        self._expect = expect
        self._verify = verify
        self._distrust = distrust
        self._places = Places(num_slots=num_slots, num_soft_prompts=num_soft_prompts, is_soft_prompt=is_soft_prompt)
        self._observer = observer
        self._ready: dict[str, asyncio.Future[EngineAdapter]] = {}
        self._resident: dict[str, EngineAdapter] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed: Callable[[], None] = lambda: None
        self._failed: Callable[[str, Exception], None] = lambda digest, error: None
        self.num_slots = num_slots

    def listen(self, *, changed: Callable[[], None], failed: Callable[[str, Exception], None]) -> None:
        """Call `changed` when another version may be usable, `failed` when a wanted one could not be loaded."""
        self._changed = changed
        self._failed = failed

    def want(self, digests: Sequence[str], yields: Callable[[str, str], bool]) -> None:
        """See `Residency.want`."""
        self._carry_out(self._places.want(digests, yields))

    def require(self, digest: str) -> None:
        """Raises IncompatibleAdapter where the server has no slots, or no place for the version's kind."""
        require_slots(self.num_slots)
        if not self._places.of(digest).num_slots:
            problem = "is 0: soft prompts are not served here"
            reason = Reason(field="num_soft_prompts", problem=problem, remedy="start it with --num-soft-prompts 256")
            raise IncompatibleAdapter("this server takes no soft prompts", [reason])

    def usable(self, digest: str) -> bool:
        """Whether `take` may be called."""
        return self._places.of(digest).usable(digest)

    def take(self, digest: str) -> None:
        """Lease a usable version until `free`."""
        self._places.of(digest).take(digest)

    def adapter(self, digest: str) -> EngineAdapter:
        """A version that is leased and ready."""
        return self._resident[digest]

    def free(self, digest: str) -> None:
        """Give back what was taken."""
        self._carry_out(self._places.of(digest).release(digest))

    def hint(self, digest: str) -> None:
        """A version may be asked for soon. It is loaded where none in use has to leave, else later or never."""
        self._carry_out(self._places.of(digest).hint(digest))

    @contextlib.asynccontextmanager
    async def lease(self, digest: str) -> AsyncIterator[EngineAdapter]:
        """The version, in a slot until the context ends. Waits where all slots are leased.

        Raises `LoadFailed` or what `locate` or `verify` raises; other versions are not touched by it.
        """
        self.require(digest)
        self._carry_out(self._places.of(digest).lease(digest))
        ready = self._when_ready(digest)
        try:
            adapter = await asyncio.shield(ready)
        except asyncio.CancelledError:
            # A load that failed in this very tick has voided the lease already.
            if not (ready.done() and ready.exception()):
                self._release(digest)
            raise
        try:
            yield adapter
        finally:
            self._release(digest)

    async def prefetch(self, digest: str) -> float | None:
        """Bring a version into a slot ahead of use; returns the seconds it took, None where it was there."""
        if self._places.of(digest).engine_id(digest) is not None:
            return None
        start = time.monotonic()
        async with self.lease(digest):
            return time.monotonic() - start

    async def pin(self, digest: str) -> None:
        """Keep a version in its slot. Raises `PinRefused`."""
        async with self.lease(digest):
            self._places.of(digest).pin(digest)

    def unpin(self, digest: str) -> None:
        """Lift a pin."""
        self._carry_out(self._places.of(digest).unpin(digest))
        self._changed()

    def retire(self, digest: str) -> None:
        """Let a version go when its last lease ends."""
        self._carry_out(self._places.of(digest).retire(digest))
        self._changed()

    def view(self) -> tuple[Resident, ...]:
        """What sits in the slots."""
        return self._places.view()

    async def restore(self, engine: Engine) -> None:
        """Load into a new engine process what the old one held, under the same ids.

        A version that does not load any more is let go: it must not keep all others from being served.
        """
        present = await engine.loaded()
        for adapter in list(self._resident.values()):
            if adapter.engine_id in present or adapter.digest not in self._resident:
                continue
            try:
                await engine.load(adapter)
                if adapter.digest not in self._resident:  # it was let go meanwhile
                    await engine.unload(adapter)
            except LoadFailed as error:
                log.error("%s did not come back with the engine: %s", adapter.digest, error)
                self.retire(adapter.digest)

    async def close(self) -> None:
        """After the engine: wait a little for what is under way."""
        try:
            async with asyncio.timeout(_SETTLE_SECONDS):
                await asyncio.gather(*self._tasks, return_exceptions=True)
        except TimeoutError:
            log.warning("loads were still under way %.0f s after the engine was closed", _SETTLE_SECONDS)

    def _when_ready(self, digest: str) -> asyncio.Future[EngineAdapter]:
        if digest in self._ready:
            return self._ready[digest]
        future: asyncio.Future[EngineAdapter] = asyncio.get_running_loop().create_future()
        if self._places.of(digest).engine_id(digest) is not None:
            future.set_result(self._resident[digest])
        else:
            self._ready[digest] = future
        return future

    def _release(self, digest: str) -> None:
        self.free(digest)
        self._changed()

    def _carry_out(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            work = self._load(action) if isinstance(action, Load) else self._unload(action)
            task = watched(work, f"the {type(action).__name__.lower()} of {action.digest}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _load(self, action: Load) -> None:
        start = time.monotonic()
        try:
            located = await self._locate(action.digest)
            adapter = EngineAdapter(
                digest=action.digest,
                engine_id=action.engine_id,
                path=located.folder,
                num_virtual_tokens=located.num_virtual_tokens,
                head=located.head,
            )
            if self._observer:
                self._observer.on_load_started(action.digest)
            await self._enter(adapter)
            await self._check(adapter)
        except Exception as error:
            log.warning("%s was not loaded: %s", action.digest, error)  # a hint has nobody else to tell
            if self._observer:
                self._observer.on_load_failed(action.digest)
            self._failed(action.digest, error)
            self._carry_out(self._places.of(action.digest).load_failed(action.digest))
            self._settle(action.digest, error)
        else:
            if self._observer:
                self._observer.on_load(action.digest, time.monotonic() - start)
            self._carry_out(self._places.of(action.digest).loaded(action.digest, cost=located.size_bytes))
            self._settle(action.digest, adapter)
        self._changed()

    async def _enter(self, adapter: EngineAdapter) -> None:
        withdraw = self._expect(adapter) if self._expect else None
        try:
            await self._engine.load(adapter)
        except BaseException:
            if withdraw:
                withdraw()
            raise

    async def _check(self, adapter: EngineAdapter) -> None:
        self._resident[adapter.digest] = adapter  # an engine that is replaced meanwhile gets it again
        if self._verify is None:
            return
        try:
            await self._verify(adapter)
        except BaseException:
            del self._resident[adapter.digest]
            await self._out(adapter)
            raise

    async def _out(self, adapter: EngineAdapter) -> None:
        """Return once the engine holds the version no more. One that died has forgotten it, as was wanted."""
        for num_tries in itertools.count(1):
            try:
                await self._engine.unload(adapter)
            except EngineDied:
                return
            except Exception as error:  # whatever the engine's process says: the slot must not stay taken for ever
                log.error("%s did not leave the engine (try %d): %s", adapter.digest, num_tries, error)
            else:
                return
            if num_tries == _UNLOAD_TRIES:
                self._distrust(f"{adapter.digest} did not leave it in {num_tries} tries")
            else:
                await asyncio.sleep(_UNLOAD_PAUSE_SECONDS)

    async def _unload(self, action: Unload) -> None:
        await self._out(self._resident.pop(action.digest))
        if self._observer:
            self._observer.on_unload(action.digest, action.evicted)
            if action.handed_over:
                self._observer.on_hand_over(action.digest)
        self._carry_out(self._places.of(action.digest).unloaded(action.digest))
        self._changed()

    def _settle(self, digest: str, outcome: EngineAdapter | Exception) -> None:
        future = self._ready.pop(digest, None)
        if future is None:
            return
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
            future.exception()  # waiters may all have gone
        else:
            future.set_result(outcome)
