"""A training that goes on under another schedule than the one it began with, such as a longer one.

What comes out is what the other schedule would have given from the start: it goes on from the newest checkpoint before
the first step whose learning rate is another.
"""

from __future__ import annotations

import logging
from pathlib import Path

from graft.training.errors import OtherRun
from graft.training.loop.checkpoint import complete_checkpoints, forget_checkpoints_after, forget_halves, step_of
from graft.training.loop.optim import Schedule

_log = logging.getLogger(__name__)


def num_shared(work: Path, old: Schedule, new: Schedule, *, further: str = "", flag: str = "--work") -> int:
    """How many steps of the folder's checkpoints belong to both schedules.

    Raises ``CheckpointError`` where no checkpoint does, and says how to go on; ``further`` is another way, ``flag``
    names the folder.
    """
    found = complete_checkpoints(work)
    num_taken = step_of(found[-1])
    shared = num_taken if old == new else old.shared_steps(new, num_taken)
    if shared == new.num_steps < num_taken:
        raise OtherRun(
            f"{work} holds {num_taken} steps that are more than {new.num_steps}: give --max-steps {num_taken} or more, "
            f"or choose another {flag}{further}."
        )
    if not any(step_of(one) <= shared for one in found):
        ways = f"{_parting(old, new)}, or choose another {flag}{further}"
        raise OtherRun(f"{work} holds {num_taken} steps that {ways}.")
    return shared


def leave(work: Path, num_kept: int) -> None:
    """Removes the checkpoints after so many steps, which are not on the way any more, and halves of checkpoints."""
    if any(step_of(one) > num_kept for one in complete_checkpoints(work)):
        _log.warning("going on from step %d at most: the checkpoints after it have other learning rates", num_kept)
        forget_checkpoints_after(work, num_kept)
    forget_halves(work)


def _parting(old: Schedule, new: Schedule) -> str:
    """Why a training cannot go on under another schedule, and how it can."""
    if old.shape != new.shape or old.floor != new.floor:
        was, now = (f"lr_scheduler_type {one.shape} and lr_min_ratio {one.floor:g}" for one in (old, new))
        return f"were taken with {was}, not {now}: take that back"
    if old.shape in ("constant", "wsd") and old.warmup_steps != new.warmup_steps:
        return (
            f"were taken with a warm-up of {old.warmup_steps} steps; of {new.num_steps} steps it would be "
            f"{new.warmup_steps}: add --warmup-steps {old.warmup_steps}"
        )
    if old.shape == "wsd":
        return (
            f"lie in the decay of a training of {old.num_steps} steps, and no checkpoint from before it is left: go on "
            f"with --max-steps {old.num_steps}"
        )
    return (
        f"were taken on a {old.shape} schedule to {old.num_steps} steps, which falls to its end from the first on: "
        f"--max-steps {new.num_steps} would have taken others. Go on with --max-steps {old.num_steps} (what "
        "may be prolonged has --lr-scheduler-type constant or wsd)"
    )
