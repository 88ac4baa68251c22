"""The loop that counts canaries' answers and stable's, and ends canaries by them."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from graft.adapters.errors import GraftError, IncompatibleAdapter
from graft.server.engine.engine import EngineError, LoadFailed
from graft.server.errors import ParityFailed, ServingError
from graft.server.registry.thread import CatalogThread
from graft.server.releases.catalog import RolloutCatalog
from graft.server.releases.moving import Moves
from graft.server.releases.policy.canary import Verdict, judge
from graft.server.releases.policy.stages import Stage
from graft.server.releases.rollout import Rollout
from graft.server.releases.store.counting import Counted
from graft.server.releases.traffic import Traffic

_log = logging.getLogger(__name__)
# What other servers write is seen so late, and what could not be written is tried again.
_LOOK_SECONDS = 2.0
# Each turn writes to the disk: under traffic there is news always.
_PAUSE_SECONDS = 0.25


class Counting:
    """What traffic tells, written in turns; of all tenants."""

    def __init__(self, catalog: RolloutCatalog, thread: CatalogThread, traffic: Traffic, moves: Moves) -> None:
        self._catalog, self._thread, self._traffic, self._moves = catalog, thread, traffic, moves
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Count what is told, promote what has ended well, and look at what other servers have done, for ever."""
        while True:
            try:
                is_done = await self._look()
            except Exception as error:  # of whatever kind: who counts goes on counting
                _log.warning("rollouts were not looked after for now: %s", error, exc_info=_unexpected(error))
                is_done = False
            await asyncio.sleep(_PAUSE_SECONDS if is_done else _LOOK_SECONDS)
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._traffic.has_news.wait()
            except TimeoutError:
                pass

    async def count(self) -> bool:
        """Write what was told since, of all tenants; whether all could be.

        What could not be written is told again later, and concerns no caller. It goes on where a caller goes away.
        """
        return await asyncio.shield(asyncio.ensure_future(self._count()))

    async def close(self) -> None:
        """Write what is left to tell."""
        if not await self.count():
            _log.warning("the last answers of canaries were not counted")

    async def _count(self) -> bool:
        async with self._turn:
            told, failed = self._traffic.take(), []
            try:
                while told:
                    rollout, answers = told[-1]
                    try:
                        counted = await self._moves.write(partial(self._catalog.count, rollout, answers))
                    except Exception as error:
                        _log.warning("answers for %s wait: %s", rollout.id, error, exc_info=_unexpected(error))
                        failed.append((rollout, answers))
                    else:
                        self.ended(counted)
                    told.pop()
            finally:
                for one, those in (*told, *failed):
                    self._traffic.put_back(one, those)
        return not failed

    async def _look(self) -> bool:
        is_done = await self.count()
        # A write of nothing: the picture of the catalog is read anew where another server has moved an alias.
        await self._moves.write(lambda: None)
        found = await self._thread.run(self._catalog.under_way)
        self._traffic.watch(found)
        # Also those that another server counted to the end.
        for one in found:
            try:
                await self._end_of(one)
            except Exception as error:  # one tenant's canary holds up no other's
                _log.warning("%s was not promoted for now: %s", one.id, error, exc_info=_unexpected(error))
                is_done = False
        return is_done

    def ended(self, counted: Counted) -> None:
        """Tell of a rollout that this count has ended."""
        if counted.has_ended:
            self._moves.tell(counted.rollout)

    async def _end_of(self, rollout: Rollout) -> None:
        if rollout.stage is not Stage.CANARY or rollout.canary is None:
            return
        found = judge(rollout.canary, rollout.canary_tally, rollout.stable_tally)
        if found.verdict is not Verdict.PROMOTE:
            return
        try:
            await self._moves.promote(rollout, found.reasons)
        except (LoadFailed, ParityFailed, IncompatibleAdapter) as error:
            why = (f"it could not be loaded any more: {error}",)
            self._moves.tell(await self._moves.write(lambda: self._catalog.roll_back(*rollout.key, why)))


def _unexpected(error: Exception) -> Exception | None:
    """Whose trace the log needs."""
    return None if isinstance(error, GraftError | ServingError | EngineError | OSError) else error
