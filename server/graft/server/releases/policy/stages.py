"""The stages of a rollout, and how it moves from one to another."""

from __future__ import annotations

from enum import StrEnum

from graft.adapters.errors import Conflict


class Stage(StrEnum):
    """Where a rollout is."""

    REFUSED = "refused"
    """The gate spoke against it: no alias has moved."""
    CANARY = "canary"
    STABLE = "stable"
    ROLLED_BACK = "rolled_back"
    SUPERSEDED = "superseded"
    """Somebody moved the adapter's aliases meanwhile."""


_AFTER: dict[Stage, frozenset[Stage]] = {
    Stage.CANARY: frozenset({Stage.STABLE, Stage.ROLLED_BACK, Stage.SUPERSEDED}),
    Stage.STABLE: frozenset({Stage.ROLLED_BACK}),
}


def check_move(stage: Stage, to: Stage) -> None:
    """Raises `Conflict` where a rollout in `stage` cannot come to `to`."""
    if to not in _AFTER.get(stage, ()):
        raise Conflict(f"the rollout is {stage}, and cannot be {to} now")
