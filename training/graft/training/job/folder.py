"""The folder of a training's checkpoints: which training it is of, and that only one works there at a time.

A training may go on under another schedule than the one it began with, such as a longer one. What comes out is what the
other schedule would have given from the start: it goes on from the newest checkpoint before the first step whose
learning rate is another.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from graft.adapters.digest import PREFIX, digest_of_json
from graft.training.errors import CheckpointError, OtherRun
from graft.training.launch.processes import Processes
from graft.training.loop.checkpoint import complete_checkpoints, forget_checkpoints_after, forget_halves, step_of
from graft.training.loop.optim import Schedule
from graft.training.parallel.layout import Layout
from graft.training.runtime.disk import check_makeable, replace_text, written

_log = logging.getLogger(__name__)

FILE = "job.json"
BASE, DATA = "base", "data"
"""Names in an identity whose values are digests."""
_SCHEDULE = "schedule"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Everything that decides a training's result, on however many processes."""

    values: Mapping[str, Any]
    """What JSON can hold, by the names that a user knows."""
    schedule: Schedule

    @property
    def record(self) -> dict[str, Any]:
        return {**self.values, _SCHEDULE: asdict(self.schedule)}

    @property
    def digest(self) -> str:
        """12 hex digits: the same training has the same when it is resumed."""
        return digest_of_json(self.record).removeprefix(PREFIX)[:12]

    @property
    def run(self) -> str:
        """12 hex digits of all but the schedule, which a training may change as it goes on."""
        return digest_of_json(dict(self.values)).removeprefix(PREFIX)[:12]

    def changes(self, before: Mapping[str, Any]) -> list[str]:
        """What another training's record says otherwise."""
        return [
            f"its {name} was another" if name in (BASE, DATA) else f"{name} was {before.get(name)} and is {value}"
            for name, value in self.values.items()
            if before.get(name) != value
        ]


@dataclass(frozen=True, kw_only=True)
class JobFolder:
    """Whoever trains claims it first: checkpoints of another training are neither continued nor written over."""

    path: Path
    flag: str = "--work"
    """Of the command, which names the folder."""
    further: str = ""
    """Another way to go on, for the end of an error."""

    def check(self, *, resume: bool) -> None:
        """Raises ``CheckpointError`` where an earlier run would be written over, ``ConfigurationError`` where nothing
        can be written.
        """
        check_makeable(self.path, self.flag)
        if resume and not complete_checkpoints(self.path):
            _log.warning("no checkpoint in %s: starting at step 0", self.path)
        self._check_free(resume=resume)

    def num_shared(self, identity: Identity) -> int:
        """How many steps of the folder's checkpoints are also this training's: all, or those before its learning rates
        part from theirs, where a training was prolonged.

        Raises ``CheckpointError`` where they are another training's, naming what differs.
        """
        if not complete_checkpoints(self.path):
            return 0
        try:
            before = json.loads((self.path / FILE).read_text(encoding="utf-8"))
            schedule, changes = Schedule(**before[_SCHEDULE]), identity.changes(before)
        except (OSError, ValueError, AttributeError, TypeError, KeyError):
            raise OtherRun(
                f"{self.path} holds checkpoints of an unknown training, or of an earlier version's: its {FILE} does "
                f"not say which. Choose another {self.flag}."
            ) from None
        if changes:
            raise OtherRun(
                f"{self.path} holds checkpoints of another training: {'; '.join(changes)}. Take that back, or choose "
                f"another {self.flag}."
            )
        return self._num_before_parting(schedule, identity.schedule)

    def _num_before_parting(self, old: Schedule, new: Schedule) -> int:
        """How many steps of the checkpoints belong to both schedules.

        Raises ``CheckpointError`` where no checkpoint does, and says how to go on.
        """
        found = complete_checkpoints(self.path)
        num_taken = step_of(found[-1])
        shared = num_taken if old == new else old.shared_steps(new, num_taken)
        if shared == new.num_steps < num_taken:
            raise OtherRun(
                f"{self.path} holds {num_taken} steps that are more than {new.num_steps}: give --max-steps {num_taken} "
                f"or more, or choose another {self.flag}{self.further}."
            )
        if not any(step_of(one) <= shared for one in found):
            ways = f"{_parting(old, new)}, or choose another {self.flag}{self.further}"
            raise OtherRun(f"{self.path} holds {num_taken} steps that {ways}.")
        return shared

    @contextlib.contextmanager
    def claimed(self, identity: Identity, processes: Processes, layout: Layout, *, resume: bool) -> Iterator[None]:
        """The folder is this training's as long as it lasts. Every process calls this; what ``check`` and
        ``num_shared`` raise is raised again where another training has worked there since.
        """
        layout.wait()
        with self.held() if layout.is_first else contextlib.nullcontext():
            with written(self.path):
                if layout.is_first:
                    self._check_free(resume=resume)
                    leave(self.path, self.num_shared(identity))
                    replace_text(self.path / FILE, json.dumps(identity.record, indent=1))
                processes.claim(self.path)
            layout.wait()
            yield

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else trains there meanwhile; it ends with the process, however that ends.

        Raises ``CheckpointError`` where another training works there.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CheckpointError(
                    f"another training works in {self.path}: wait for it, or choose another {self.flag}."
                ) from None
            yield
        finally:
            os.close(handle)

    def _check_free(self, *, resume: bool) -> None:
        if not resume and complete_checkpoints(self.path):
            raise CheckpointError(
                f"{self.path} holds checkpoints of an earlier run: add --resume, or choose another {self.flag}."
            )


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
