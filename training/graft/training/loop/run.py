"""The training loop: a step again and again, its data, its checkpoints, and who hears of it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from graft.training.batch.data import Data
from graft.training.batch.prefetch import Prefetch
from graft.training.errors import Diverged, Interrupted
from graft.training.loop.checkpoint import CheckpointWriter, Keeping
from graft.training.loop.guard import Guard
from graft.training.loop.held_out import HeldOut
from graft.training.loop.interruption import Interruption
from graft.training.loop.optim import Schedule
from graft.training.loop.progress import Gauge, Listener, Progress, Silence
from graft.training.loop.recovery import Recovery
from graft.training.loop.resuming import take_over
from graft.training.loop.step import Prepared, Step

WriteModel = Callable[[Any, Path], None]


@dataclass(kw_only=True)
class Run:
    """One training run. Two runs of the same recipe on the same machine give the same weights, resumed or not."""

    step: Step
    data: Data[Any]
    schedule: Schedule
    learning_rate: float
    """Peak of the schedule."""
    folder: Path
    """Where checkpoints, ``metrics.jsonl`` and ``loss_curve.png`` go."""
    guard: Guard = field(default_factory=Guard)
    gauge: Gauge = field(default_factory=Gauge)
    listeners: Callable[[Step], Sequence[Listener]] = field(default=lambda step: ())
    """Who else hears of the steps, made when the run starts or goes on: a listener may look at the step's model."""
    checkpoint_seconds: float = 300.0
    checkpoint_steps: int | None = None
    """Also after every so many steps."""
    keeping: Keeping = field(default_factory=Keeping)
    """Which checkpoints stay; one is also due after every ``keeping.every`` steps."""
    saves: bool = True
    """False for a training whose weights nobody wants."""
    write_model: WriteModel | None = None
    """Adds the model to a checkpoint's folder in its own format."""
    held_out: HeldOut | None = None
    held_out_steps: int | None = None
    """Measure on held-out text after every so many steps and the last one."""

    def execute(self, *, resume: bool = False) -> dict[str, float]:
        """Trains to the last step and returns its metrics; ``resume`` goes on from the newest finished checkpoint.

        Raises:
            Diverged: steps cannot be taken, even after going back, or the training ended in no numbers. Checkpoints so
                far stay.
            Interrupted: SIGTERM or SIGINT came to one of the processes; the step's checkpoint is written.
            CheckpointError: a checkpoint cannot be written, or does not fit.
        """
        if resume:
            self._resume()
        step, metrics = self.step, dict[str, float]()
        saved_at = time.monotonic()
        with (
            Interruption(self.folder) as interruption,
            self._progress() as progress,
            CheckpointWriter(self.folder, layout=step.layout, keeping=self._keeping()) as checkpoints,
            Recovery(guard=self.guard, step=step, folder=self.folder, checkpoints=checkpoints) as recovery,
            Prefetch(self._prepared, end=self.schedule.num_steps) as batches,
        ):
            for number in range(step.number, self.schedule.num_steps):
                metrics = self._learn(number, batches, recovery)
                if self.held_out is not None and self._is_measured(number + 1):
                    with progress.paused():
                        metrics |= self.held_out.measure(step.model, step.layout)
                progress.report(number, metrics)
                is_asked, is_late = self._agreed(interruption, time.monotonic() - saved_at)
                if self.saves and (is_asked or is_late or self._is_due(number + 1)):
                    self._save(number + 1, checkpoints)
                    saved_at = time.monotonic()
                if is_asked:
                    checkpoints.wait()
                    raise self._interrupted(number + 1, interruption.number)
        if self.guard.is_lost or not step.is_finite():
            raise Diverged(
                f"loss, gradient or weights are no numbers after step {self.schedule.num_steps - 1}, the last: nothing "
                "is made of them. Lower the learning rate or look at the data, and start anew in another folder."
            )
        step.model.eval()
        return metrics

    def _prepared(self, number: int) -> Prepared:
        """In a thread of its own."""
        return self.step.prepare(self.data.batches(number, self.step.layout.share))

    def _learn(self, number: int, batches: Prefetch[Prepared], recovery: Recovery) -> dict[str, float]:
        """A step's metrics."""
        step = self.step
        if number and step.working_form(number) is not step.working_form(number - 1):
            self.guard.begin_anew()
        metrics = step.learn(
            batches.take(number),
            self.learning_rate * self.schedule(number),
            accept=lambda loss, norm: recovery.accepts(number, loss, norm),
        )
        return {**metrics, "skipped": self.guard.num_skipped}

    def _progress(self) -> Progress | Silence:
        if not self.step.layout.is_first:
            return Silence()
        return Progress(
            self.folder,
            num_steps=self.schedule.num_steps,
            start=self.step.number,
            gauge=self.gauge,
            listeners=self.listeners(self.step),
        )

    def _is_measured(self, num_done: int) -> bool:
        steps = self.held_out_steps
        return steps is not None and (num_done % steps == 0 or num_done == self.schedule.num_steps)

    def _agreed(self, interruption: Interruption, elapsed_seconds: float) -> tuple[bool, bool]:
        """Whether any process was asked to end, and whether the first one's clock says that a checkpoint is due."""
        layout, is_late = self.step.layout, elapsed_seconds >= self.checkpoint_seconds
        is_asked = interruption.is_asked()  # once: a signal may come at any time
        if layout.all(not is_asked and not is_late):
            return False, False
        return not layout.all(not is_asked), bool(layout.agree(is_late))

    def _is_due(self, num_done: int) -> bool:
        by_steps = any(each and num_done % each == 0 for each in (self.checkpoint_steps, self.keeping.every))
        return by_steps or num_done in (self.schedule.num_steps, self.schedule.steady_steps)

    def _keeping(self) -> Keeping:
        """With the newest checkpoint that a longer training could go on from."""
        return replace(self.keeping, milestone=self.schedule.steady_steps)

    def _interrupted(self, num_done: int, number: int) -> Interrupted:
        kept = f"checkpoint-{num_done} is complete in {self.folder}: go on with --resume" if self.saves else "not kept"
        told = f"{signal.Signals(number).name} after step {num_done:,} of {self.schedule.num_steps:,}; {kept}."
        return Interrupted(told, number=number)

    def _save(self, num_done: int, checkpoints: CheckpointWriter) -> None:
        step, write_model = self.step, self.write_model
        values = {"step": num_done, "guard": self.guard.state()}
        write_files = None if write_model is None else (lambda folder: write_model(step.model, folder))
        checkpoints.save(num_done, step.state.tensors(step.layout), values, write_files=write_files)

    def _resume(self) -> None:
        values = take_over(self.folder, self.step.state, self.step.layout) or {"step": 0}
        if "guard" in values:
            self.guard.restore(values["guard"])
        self.step.go_on(int(values["step"]))
