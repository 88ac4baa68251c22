"""How rollouts begin, move and end: writes, each in the transaction of its caller, together with the aliases'."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from graft.adapters.adapter import STABLE
from graft.adapters.catalog import aliases, replay
from graft.adapters.catalog import tables as catalog
from graft.adapters.catalog.aliases import Wish
from graft.adapters.errors import Conflict
from graft.server.releases import tables
from graft.server.releases.policy.canary import CANARY, Tally
from graft.server.releases.policy.stages import Stage, check_move
from graft.server.releases.rollout import Rollout
from graft.server.releases.store import reads, rows

_rollouts, _answers = tables.rollouts, tables.answers
_MOVED = "somebody moved the adapter's aliases meanwhile"


def begin(
    connection: sa.Connection, rollout: Rollout, *, request_id: str | None, call: object, now: datetime
) -> Rollout:
    """Keep a rollout, and point the alias of its stage at its version. Raises Conflict where the adapter has a canary.

    A rollout whose stage is REFUSED moves nothing. Raises Conflict, too, where `stable` is no more what it began with.
    Of a job's version there is one: who comes second gets the first. `call` is what was asked for, as JSON.
    """
    found = recalled(connection, rollout.tenant, request_id=request_id, call=call)
    if found is None and rollout.job is not None:
        found = reads.of_job(connection, rollout.tenant, rollout.job, rollout.version_digest)
    if found is not None:
        return found
    if rollout.stage is not Stage.REFUSED:
        other = reads.canary_of(connection, *rollout.key)
        if other is not None:
            raise Conflict(
                f"{other.adapter} has a canary already, {other.id}: wait for its end, or promote it or roll it back"
            )
        if target(connection, rollout, STABLE) != rollout.stable_digest:
            raise Conflict(f"{rollout.adapter}:stable has moved: compare with what it points at now")
    ended = "" if rollout.stage is Stage.CANARY else rollout.id
    connection.execute(
        sa.insert(_rollouts).values(
            id=rollout.id,
            tenant=rollout.tenant,
            adapter=rollout.adapter,
            ended=ended,
            version_digest=rollout.version_digest,
            stable_digest=rollout.stable_digest,
            stage=rollout.stage.value,
            canary=None if rollout.canary is None else vars(rollout.canary),
            report=None if rollout.report is None else rows.report_row(rollout.report),
            reasons=list(rollout.reasons),
            job=rollout.job,
            create_time=rollout.create_time,
            end_time=rollout.end_time,
            **rows.tally_row("canary", Tally()),
            **rows.tally_row("stable", Tally()),
        )
    )
    if rollout.stage is Stage.CANARY:
        assert rollout.canary is not None
        _point(connection, rollout, CANARY, rollout.version_digest, rollout.canary.share_percent, now=now)
    elif rollout.stage is Stage.STABLE:
        _point(connection, rollout, STABLE, rollout.version_digest, None, now=now)
    replay.remember(connection, rollout.tenant, request_id, call, {"id": rollout.id}, now=now)
    return rollout


def recalled(connection: sa.Connection, tenant: str, *, request_id: str | None, call: object) -> Rollout | None:
    """What this request has begun before. Raises Conflict where that was another call."""
    answer = replay.recall(connection, tenant, request_id, call)
    return None if answer is None else reads.get(connection, tenant, answer["id"])


def lock(connection: sa.Connection, rollout: Rollout) -> Rollout:
    """The rollout as it is now, and so until the commit (see `jobs/store/changes.py`)."""
    connection.execute(sa.update(_rollouts).where(_rollouts.c.id == rollout.id).values(ended=_rollouts.c.ended))
    return reads.get(connection, rollout.tenant, rollout.id)


def end(connection: sa.Connection, rollout: Rollout, to: Stage, reasons: Sequence[str], *, now: datetime) -> Rollout:
    """End a locked canary: promoted, taken back, or superseded where the aliases are not its own any more."""
    check_move(rollout.stage, to)
    if is_superseded(connection, rollout):
        to, reasons = Stage.SUPERSEDED, [_MOVED]
        # Its share would outlast it, judged by nobody. An alias that points elsewhere is somebody's own.
        if target(connection, rollout, CANARY) == rollout.version_digest:
            aliases.delete_alias(connection, (*rollout.key, CANARY), None, request_id=None, now=now)
    else:
        aliases.delete_alias(connection, (*rollout.key, CANARY), None, request_id=None, now=now)
        if to is Stage.STABLE:
            _point(connection, rollout, STABLE, rollout.version_digest, None, now=now)
    return _close(connection, rollout, to, reasons, now=now)


def undo(connection: sa.Connection, rollout: Rollout, reasons: Sequence[str], *, now: datetime) -> Rollout:
    """Point `stable` again at what it was before a locked rollout that has become stable. Raises Conflict, NotFound."""
    check_move(rollout.stage, Stage.ROLLED_BACK)
    if target(connection, rollout, STABLE) != rollout.version_digest:
        raise Conflict(f"{rollout.adapter}:stable was moved since {rollout.id}: set the alias stable to what is meant")
    if rollout.stable_digest is None:
        aliases.delete_alias(connection, (*rollout.key, STABLE), None, request_id=None, now=now)
    else:
        _point(connection, rollout, STABLE, rollout.stable_digest, None, now=now)
    return _close(connection, rollout, Stage.ROLLED_BACK, reasons, now=now)


def is_superseded(connection: sa.Connection, rollout: Rollout) -> bool:
    """Whether the aliases are not those any more with which a canary began."""
    pointed = (target(connection, rollout, CANARY), target(connection, rollout, STABLE))
    return pointed != (rollout.version_digest, rollout.stable_digest)


def target(connection: sa.Connection, rollout: Rollout, alias: str) -> str | None:
    """The digest at which the adapter's alias points now."""
    table = catalog.aliases
    where = (table.c.tenant == rollout.tenant, table.c.adapter == rollout.adapter, table.c.name == alias)
    found: str | None = connection.execute(sa.select(table.c.version_digest).where(*where)).scalar_one_or_none()
    return found


def _point(
    connection: sa.Connection, rollout: Rollout, alias: str, digest: str, weight: int | None, *, now: datetime
) -> None:
    wish = Wish(
        tenant=rollout.tenant,
        adapter=rollout.adapter,
        alias=alias,
        version=digest,
        weight_percent=weight,
        expected_etag=None,
    )
    aliases.set_alias(connection, wish, request_id=None, now=now)


def _close(connection: sa.Connection, rollout: Rollout, to: Stage, reasons: Sequence[str], *, now: datetime) -> Rollout:
    connection.execute(sa.delete(_answers).where(_answers.c.rollout == rollout.id))
    values: dict[str, Any] = {"stage": to.value, "ended": rollout.id, "end_time": now}
    values["reasons"] = [*rollout.reasons, *reasons]
    connection.execute(sa.update(_rollouts).where(_rollouts.c.id == rollout.id).values(**values))
    return reads.get(connection, rollout.tenant, rollout.id)
