"""What a rollout is: a version on its way to answer for its adapter, and what was decided about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from graft.server.releases.policy.canary import CanarySpec, Tally
from graft.server.releases.policy.gate import GateReport
from graft.server.releases.policy.stages import Stage
from graft.server.runtime.ids import Ids

rollout_ids = Ids("rollout-")


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A rollout as it is now. `stable_digest` is what `stable` pointed at when it began; None where it did not exist.

    `canary` and `report` are None where there was none; `job` made the version. `reasons` say why it is in its stage.
    """

    id: str
    tenant: str
    adapter: str
    version_digest: str
    stable_digest: str | None
    stage: Stage
    create_time: datetime
    end_time: datetime | None = None
    canary: CanarySpec | None = None
    report: GateReport | None = None
    reasons: tuple[str, ...] = ()
    canary_tally: Tally = field(default_factory=Tally)
    stable_tally: Tally = field(default_factory=Tally)
    job: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Whose it is: at most one canary for each adapter."""
        return self.tenant, self.adapter


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer that counts for a rollout: by the request's name, whether the canary gave it, and whether it failed."""

    request: str
    by_canary: bool
    failed: bool
