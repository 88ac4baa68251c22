"""What counts for a canary: answers and outcomes, added up in the database, where several servers tell them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from graft.adapters.errors import Conflict
from graft.server.releases import tables
from graft.server.releases.policy.canary import Tally, Verdict, judge
from graft.server.releases.policy.stages import Stage
from graft.server.releases.rollout import Answer, Rollout
from graft.server.releases.store import changes, reads, rows

_rollouts, _answers = tables.rollouts, tables.answers
_MOST = 500
"""Parameters of one statement."""
MOST_NAMED = 100_000
"""So many of `stable`'s answers are kept by name for their outcomes, or ten times what the canary needs where that is
more; the later ones are added up only: traffic has no end, and a canary may wait long for its own answers."""


@dataclass(frozen=True, kw_only=True)
class Counted:
    """A rollout as it is now, and whether this count has ended it.

    What is to be promoted is left to the caller, who has the version loaded first.
    """

    rollout: Rollout
    has_ended: bool = False


def count(connection: sa.Connection, rollout: Rollout, told: Sequence[Answer], *, now: datetime) -> Counted:
    """Add answers to a canary's counts and judge it; one that is worse is taken back at once. Nothing where it has
    ended.
    """
    rollout = changes.lock(connection, rollout)
    if rollout.stage is not Stage.CANARY:
        return Counted(rollout=rollout)
    # A caller may give one name to several requests: its outcome is that of the first.
    known = _known(connection, rollout, [one.request for one in told])
    named = [one for one in told if not one.failed and (one.by_canary or _is_named(rollout))]
    new = {one.request: one for one in reversed(named) if one.request not in known}
    if new:
        connection.execute(
            sa.insert(_answers),
            [
                {"tenant": rollout.tenant, "request": one.request, "rollout": rollout.id, "by_canary": one.by_canary}
                for one in new.values()
            ],
        )
    tallies = {
        by_canary: Tally(
            num_answers=sum(one.by_canary is by_canary for one in told),
            num_errors=sum(one.by_canary is by_canary and one.failed for one in told),
        )
        for by_canary in (True, False)
    }
    return _added(connection, rollout, canary=tallies[True], stable=tallies[False], now=now)


def outcome(connection: sa.Connection, tenant: str, request: str, value: float, *, now: datetime) -> Counted | None:
    """Add an answer's outcome, once. None where the answer belongs to no canary under way.

    Raises Conflict where another outcome was reported of it.
    """
    here = (_answers.c.tenant == tenant, _answers.c.request == request)
    row = connection.execute(sa.select(_answers).where(*here)).mappings().first()
    if row is None:
        return None
    rollout = changes.lock(connection, reads.get(connection, tenant, row["rollout"]))
    taken = connection.execute(
        sa.update(_answers).where(*here, _answers.c.outcome.is_(None)).values(outcome=value)
    ).rowcount
    if not taken:
        before = connection.execute(sa.select(_answers.c.outcome).where(*here)).scalar_one_or_none()
        if before is not None and before != value:
            raise Conflict(f"the outcome of {request} was reported as {before:g} before: an outcome does not change")
        return Counted(rollout=rollout)
    one = Tally(num_outcomes=1, sum_outcomes=value)
    sides = {"canary": one, "stable": Tally()} if row["by_canary"] else {"canary": Tally(), "stable": one}
    return _added(connection, rollout, **sides, now=now)


def _added(connection: sa.Connection, rollout: Rollout, *, canary: Tally, stable: Tally, now: datetime) -> Counted:
    values = {**rows.tally_row("canary", canary), **rows.tally_row("stable", stable)}
    added = {name: _rollouts.c[name] + value for name, value in values.items() if value}
    if added:
        connection.execute(sa.update(_rollouts).where(_rollouts.c.id == rollout.id).values(**added))
    rollout = reads.get(connection, rollout.tenant, rollout.id)
    if changes.is_superseded(connection, rollout):
        return Counted(rollout=changes.end(connection, rollout, Stage.SUPERSEDED, (), now=now), has_ended=True)
    assert rollout.canary is not None
    found = judge(rollout.canary, rollout.canary_tally, rollout.stable_tally)
    if found.verdict is not Verdict.ROLL_BACK:
        return Counted(rollout=rollout)
    rollout = changes.end(connection, rollout, Stage.ROLLED_BACK, found.reasons, now=now)
    return Counted(rollout=rollout, has_ended=True)


def _is_named(rollout: Rollout) -> bool:
    assert rollout.canary is not None
    return rollout.stable_tally.num_answers < max(MOST_NAMED, 10 * rollout.canary.num_answers)


def _known(connection: sa.Connection, rollout: Rollout, names: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for begin in range(0, len(names), _MOST):
        part = names[begin : begin + _MOST]
        query = sa.select(_answers.c.request).where(_answers.c.tenant == rollout.tenant, _answers.c.request.in_(part))
        found |= set(connection.execute(query).scalars())
    return found
