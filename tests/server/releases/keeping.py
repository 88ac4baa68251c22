"""Rollouts on a database of their own, with an adapter of three versions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from graft.adapters.catalog.catalog import Catalog
from graft.adapters.catalog.database import Database
from graft.server.releases.catalog import RolloutCatalog
from graft.server.releases.policy.canary import CANARY, CanarySpec
from graft.server.releases.policy.stages import Stage
from graft.server.releases.rollout import Answer, Rollout, rollout_ids
from graft.server.releases.tables import MIGRATIONS
from tests.adapters.making import register


class KeptRollouts:
    """Versions 1, 2 and 3 of `fable`; `stable` is version 1. `now` goes on by a second with each look."""

    def __init__(self, url: str, *, contents: str = "abc") -> None:
        self.database = Database.open(url, migrations=[MIGRATIONS])
        self.adapters = Catalog(self.database)
        self.time = datetime(2026, 11, 28, tzinfo=UTC)
        self.catalog = RolloutCatalog(self.database, now=self.now)
        self.digests = [register(self.adapters, content, adapter="fable").digest for content in contents]
        if contents:
            self.point("stable", 1)

    def now(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time

    def point(self, alias: str, number: int) -> None:
        self.adapters.set_alias(tenant="default", adapter="fable", alias=alias, version=str(number))

    def begun(self, number: int = 2, **others: Any) -> Rollout:
        return self.catalog.begin(self.draft(number, **others))

    def draft(self, number: int = 2, *, spec: CanarySpec | None = None, **others: Any) -> Rollout:
        values: dict[str, Any] = {
            "id": rollout_ids(),
            "tenant": "default",
            "adapter": "fable",
            "version_digest": self.digests[number - 1],
            "stable_digest": self.digests[0],
            "stage": Stage.CANARY,
            "create_time": self.now(),
            "canary": spec or CanarySpec(num_answers=20),
        }
        return Rollout(**{**values, **others})

    def aliases(self) -> dict[str, tuple[int, int]]:
        """The version's number and the weight of each."""
        found = self.adapters.snapshot().aliases_of("default", "fable")
        return {alias.name: (version.number, alias.weight_percent) for alias, version in found}


def answers(num: int, *, by_canary: bool, failed: bool = False, first: int = 0) -> Sequence[Answer]:
    side = CANARY if by_canary else "stable"
    return [Answer(request=f"{side}-{at}", by_canary=by_canary, failed=failed) for at in range(first, first + num)]
