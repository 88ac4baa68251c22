"""Rollouts moved on, in the catalog and in the engine: what this server does is told at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from graft.server.management import Management
from graft.server.operations.metrics import Metrics
from graft.server.registry.thread import CatalogThread
from graft.server.releases.catalog import RolloutCatalog
from graft.server.releases.policy.stages import Stage
from graft.server.releases.rollout import Rollout
from graft.server.releases.traffic import Traffic

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Moves:
    """Writes of rollouts. All may raise what the catalog does."""

    def __init__(
        self,
        catalog: RolloutCatalog,
        thread: CatalogThread,
        management: Management,
        traffic: Traffic,
        metrics: Metrics,
    ) -> None:
        self._catalog, self._thread, self._management = catalog, thread, management
        self._traffic, self._metrics = traffic, metrics

    async def promote(self, rollout: Rollout, reasons: Sequence[str], *, request_id: str | None = None) -> Rollout:
        """Make a canary stable; one that has ended is returned as it is. Raises NotFound, and what loading it does."""
        if rollout.stage is not Stage.CANARY:
            return rollout
        tenant, adapter = rollout.key
        target = await self._management.find_version(tenant=tenant, adapter=adapter, version=rollout.version_digest)
        await self._management.load(target)
        done = await self.write(lambda: self._catalog.promote(rollout, reasons, request_id=request_id))
        self.tell(done)
        return done

    async def write(self, call: Callable[[], T]) -> T:
        return await self._thread.write(lambda catalog: call())

    def tell(self, rollout: Rollout) -> None:
        """What this server did; the data plane hears of it at once."""
        self._metrics.rollouts.labels(stage=rollout.stage.value).inc()
        _log.info("%s of %s is %s: %s", rollout.id, rollout.adapter, rollout.stage, "; ".join(rollout.reasons))
        self._traffic.changed(rollout)
