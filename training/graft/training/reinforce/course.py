"""A training's rounds from the first to the last: checkpoints, what is measured, and who hears of it."""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from graft.training.errors import Diverged, Interrupted
from graft.training.loop.checkpoint import CheckpointWriter, Keeping, WriteFiles
from graft.training.loop.interruption import Interruption
from graft.training.loop.optim import Schedule
from graft.training.loop.progress import Listener, Progress
from graft.training.loop.resuming import take_over
from graft.training.reinforce.rounds import Rounds

_log = logging.getLogger(__name__)

NOTHING: Mapping[str, float] = {"loss": math.nan, "tokens": 0.0}
"""Of a round that showed no direction."""


@dataclass(kw_only=True)
class Course:
    """Where each round is sampled by the policy that learns (``rounds_ahead`` 0), a course that was broken off goes on
    as it would have: rounds are functions of their number and of the policy. Rounds that were sampled ahead are thrown
    away, and sampled anew by a younger policy.
    """

    rounds: Rounds
    schedule: Schedule
    """Over rounds."""
    learning_rate: float
    folder: Path
    save_rounds: int
    """Checkpoint after every so many."""
    keeping: Keeping = field(default_factory=Keeping)
    publishes_first: bool = False
    """Where the policy does not begin as the base, which answers before the first version."""
    write_model: Callable[[], WriteFiles | None] = lambda: None
    listeners: Callable[[int], Sequence[Listener]] = lambda start: ()
    measure: Callable[[], Mapping[str, float]] | None = None
    """Of what is held out, by the policy that is served."""
    measure_rounds: int = 1
    target: float | None = None
    """Of what is held out, at which the course ends."""
    shows: bool = True

    def execute(self, *, resume: bool = False) -> dict[str, float]:
        """Takes all rounds and returns the last one's metrics; ``resume`` goes on from the newest checkpoint.

        Raises:
            Diverged: weights are no numbers.
            Interrupted: SIGTERM or SIGINT came; the round's checkpoint is written.
            CheckpointError, and what sampling and grading raise: checkpoints so far stay.
        """
        start, metrics = self._resume() if resume else 0, dict[str, float]()
        end = self.schedule.num_steps
        with (
            Interruption(self.folder) as heard,
            Progress(
                self.folder, num_steps=end, start=start, listeners=self.listeners(start), shows=self.shows
            ) as progress,
            CheckpointWriter(self.folder, keeping=self.keeping) as checkpoints,
            self.rounds as rounds,
        ):
            if self.rounds.step.number or self.publishes_first:
                rounds.publish()
            first = self._measured() if start == 0 else {}
            for number in range(start, end):
                found = rounds.take(number, self.learning_rate * self.schedule(number))
                metrics = {**NOTHING, **found, **{f"{name}_before": value for name, value in first.items()}}
                first, done = {}, number + 1
                if done % self.measure_rounds == 0 or done == end:
                    with progress.paused():
                        metrics |= self._measured()
                progress.report(number, metrics)
                is_asked, is_there = heard.is_asked(), self._is_there(metrics)
                if is_asked or is_there or done % self.save_rounds == 0 or done == end:
                    self._save(checkpoints, done)
                if is_asked:
                    checkpoints.wait()
                    raise Interrupted(self._told(done, heard.number), number=heard.number)
                if is_there:
                    break
        if not self.rounds.step.number:
            _log.warning("nothing was learned: in every round all answers to a prompt were worth the same, or nothing")
        if not self.rounds.step.is_finite():
            raise Diverged("weights are no numbers after the last round: lower the learning rate, and start anew.")
        return metrics

    def _is_there(self, metrics: Mapping[str, float]) -> bool:
        return self.target is not None and metrics.get("validation_reward", -math.inf) >= self.target

    def _measured(self) -> dict[str, float]:
        return {} if self.measure is None else dict(self.measure())

    def _save(self, checkpoints: CheckpointWriter, done: int) -> None:
        step, kl = self.rounds.step, self.rounds.kl
        values: dict[str, Any] = {"step": done, "steps": step.number, "kl_price": None if kl is None else kl.beta}
        checkpoints.save(done, step.state.tensors(step.layout), values, write_files=self.write_model())

    def _resume(self) -> int:
        """Rounds that were taken. The server may have heard of later ones, or be another: it is told what is now."""
        step = self.rounds.step
        values = take_over(self.folder, step.state, step.layout)
        if values is None:
            return 0
        step.go_on(int(values["steps"]))
        if self.rounds.kl is not None:
            self.rounds.kl = replace(self.rounds.kl, beta=float(values["kl_price"]))
        return int(values["step"])

    def _told(self, done: int, number: int) -> str:
        return (
            f"{signal.Signals(number).name} after round {done:,} of {self.schedule.num_steps:,}; checkpoint-{done} is "
            f"complete in {self.folder}: go on with --resume."
        )
