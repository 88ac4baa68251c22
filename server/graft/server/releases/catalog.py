"""The catalog of rollouts: transactions over them. Synchronous and safe for threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import sqlalchemy as sa

from graft.adapters.catalog import replay
from graft.adapters.catalog.database import Database
from graft.adapters.errors import NotFound
from graft.server.releases.policy.stages import Stage
from graft.server.releases.rollout import Answer, Rollout
from graft.server.releases.store import changes, counting, reads
from graft.server.releases.store.counting import Counted


def _utc_now() -> datetime:
    return datetime.now(UTC)


class RolloutCatalog:
    """On the catalog's database, opened with `tables.MIGRATIONS`. Every method may raise what the catalog's do.

    `now` is shown to people; nothing is decided by it.
    """

    def __init__(self, database: Database, *, now: Callable[[], datetime] = _utc_now) -> None:
        self._database = database
        self.now = now

    def begin(self, rollout: Rollout, *, request_id: str | None = None, call: object = None) -> Rollout:
        """Keep a rollout and move its alias; what is there of its job's version, or of this request, stays instead.

        `call` is what was asked for, as JSON. Raises Conflict.
        """
        return self._database.write(changes.begin, rollout, request_id=request_id, call=call, now=self.now())

    def recalled(self, tenant: str, *, request_id: str | None, call: object) -> Rollout | None:
        """What this request has begun before. Raises Conflict where that was another call."""
        return self._database.read(changes.recalled, tenant, request_id=request_id, call=call)

    def get(self, tenant: str, id: str) -> Rollout:
        """One rollout. Raises `NoSuchResource`."""
        return self._database.read(reads.get, tenant, id)

    def listed(self, tenant: str, adapter: str | None, *, before: str | None, limit: int) -> tuple[Rollout, ...]:
        """The newest before this id, or of all."""
        return self._database.read(reads.listed, tenant, adapter, before=before, limit=limit)

    def under_way(self) -> tuple[Rollout, ...]:
        """All tenants' canaries."""
        return self._database.read(reads.under_way)

    def of_job(self, tenant: str, job: str, version_digest: str) -> Rollout | None:
        """What was decided of a job's version, if anything was."""
        return self._database.read(reads.of_job, tenant, job, version_digest)

    def to_promote(self, tenant: str, adapter: str, *, request_id: str | None = None) -> Rollout:
        """The adapter's canary, or what this request has promoted before. Raises NotFound."""
        return self._database.read(_to_promote, tenant, adapter, request_id=request_id)

    def count(self, rollout: Rollout, told: Sequence[Answer]) -> Counted:
        """Add answers and judge."""
        return self._database.write(counting.count, rollout, told, now=self.now())

    def outcome(self, tenant: str, request: str, value: float) -> Counted | None:
        """Add an answer's outcome and judge. Raises Conflict."""
        return self._database.write(counting.outcome, tenant, request, value, now=self.now())

    def promote(self, rollout: Rollout, reasons: Sequence[str], *, request_id: str | None = None) -> Rollout:
        """Make a canary stable; one that has ended meanwhile stays as it is."""
        return self._database.write(_promoted, rollout, reasons, request_id=request_id, now=self.now())

    def roll_back(self, tenant: str, adapter: str, reasons: Sequence[str], *, request_id: str | None = None) -> Rollout:
        """Take the adapter's canary back, or else its latest rollout that became stable. Raises NotFound, Conflict."""
        return self._database.write(_rolled_back, tenant, adapter, reasons, request_id=request_id, now=self.now())


def _to_promote(connection: sa.Connection, tenant: str, adapter: str, *, request_id: str | None) -> Rollout:
    answer = replay.recall(connection, tenant, request_id, ["promote", adapter])
    if answer is not None:
        return reads.get(connection, tenant, answer["id"])
    return _required(reads.canary_of(connection, tenant, adapter), adapter)


def _promoted(
    connection: sa.Connection, rollout: Rollout, reasons: Sequence[str], *, request_id: str | None, now: datetime
) -> Rollout:
    rollout = changes.lock(connection, rollout)
    if rollout.stage is not Stage.CANARY:
        return rollout
    call = ["promote", rollout.adapter]
    replay.remember(connection, rollout.tenant, request_id, call, {"id": rollout.id}, now=now)
    return changes.end(connection, rollout, Stage.STABLE, reasons, now=now)


def _rolled_back(
    connection: sa.Connection,
    tenant: str,
    adapter: str,
    reasons: Sequence[str],
    *,
    request_id: str | None,
    now: datetime,
) -> Rollout:
    call = ["roll_back", adapter]
    answer = replay.recall(connection, tenant, request_id, call)
    if answer is not None:
        return reads.get(connection, tenant, answer["id"])
    canary = reads.canary_of(connection, tenant, adapter)
    if canary is not None:
        done = changes.end(connection, changes.lock(connection, canary), Stage.ROLLED_BACK, reasons, now=now)
    else:
        last = _required(reads.latest(connection, tenant, adapter, Stage.STABLE), adapter)
        done = changes.undo(connection, changes.lock(connection, last), reasons, now=now)
    replay.remember(connection, tenant, request_id, call, {"id": done.id}, now=now)
    return done


def _required(found: Rollout | None, adapter: str) -> Rollout:
    if found is None:
        raise NotFound(f"{adapter[:100]!r} has no canary: begin one with graft adapters canary, or let a job's gate")
    return found
