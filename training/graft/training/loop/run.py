"""The training loop: a step again and again, its data, its checkpoints, and who hears of it."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from graft.training.batch.data import Data
from graft.training.batch.prefetch import Prefetch
from graft.training.errors import Diverged, Interrupted
from graft.training.loop.best import Best
from graft.training.loop.checkpoint import CheckpointWriter, Keeping
from graft.training.loop.guard import Guard
from graft.training.loop.held_out import Measure
from graft.training.loop.interruption import Interruption
from graft.training.loop.optim import Schedule
from graft.training.loop.progress import Gauge, Listener, Progress, Silence
from graft.training.loop.recovery import Recovery
from graft.training.loop.resuming import bring_to, take_over
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
    held_out: Measure | None = None
    best: Best | None = None
    """Where what is held out says when the run ends, or with which weights."""
    held_out_steps: int | None = None
    """Measure on held-out text after every so many steps and the last one."""
    shows: bool = True
    """A bar in the terminal."""

    def execute(self, *, resume: bool = False) -> dict[str, float]:
        """Trains to the last step and returns its metrics; ``resume`` goes on from the newest finished checkpoint.

        Raises:
            Diverged: steps cannot be taken, even after going back, or the training ended in no numbers. Checkpoints so
                far stay.
            Interrupted: SIGTERM or SIGINT came to one of the processes; the step's checkpoint is written.
            CheckpointError: a checkpoint cannot be written, or does not fit.
        """
        with self.begun(resume=resume) as going:
            while not going.is_over:
                going.take_step(going.read())
        self.check_numbers()
        return going.metrics

    @contextlib.contextmanager
    def begun(self, *, resume: bool = False, interruption: Interruption | None = None) -> Iterator[Going]:
        """The same step by step, for a caller who has more to do between them; ``check_numbers`` comes last. Who asks
        several runs to end at once gives them one ``interruption``.
        """
        if resume:
            self._resume()
        step = self.step
        with (
            Interruption(self.folder) if interruption is None else contextlib.nullcontext(interruption) as heard,
            self._progress() as progress,
            CheckpointWriter(self.folder, layout=step.layout, keeping=self._keeping()) as checkpoints,
            Recovery(guard=self.guard, step=step, folder=self.folder, checkpoints=checkpoints) as recovery,
            Prefetch(self._prepared, end=self.schedule.num_steps) as batches,
        ):
            yield Going(
                run=self,
                interruption=heard,
                progress=progress,
                checkpoints=checkpoints,
                recovery=recovery,
                batches=batches,
            )

    def check_numbers(self) -> None:
        """Behind the last step: the model is in evaluation, with its best weights where those are asked for. Raises
        ``Diverged`` where nothing can be made of it.
        """
        self._end_with_best()
        if self.guard.is_lost or not self.step.is_finite():
            raise Diverged(
                f"loss, gradient or weights are no numbers after step {self.schedule.num_steps - 1}, the last: nothing "
                "is made of them. Lower the learning rate or look at the data, and start anew in another folder."
            )
        self.step.model.eval()

    def _end_with_best(self) -> None:
        step, kept = self.step, None if self.best is None else self.best.kept
        if kept is not None and kept != step.number:
            bring_to(self.folder / f"checkpoint-{kept}", step.state, step.layout)
            step.go_on(kept)

    def _prepared(self, number: int) -> Prepared:
        """In a thread of its own."""
        return self.step.prepare(self.data.batches(number, self.step.layout.share))

    def _progress(self) -> Progress | Silence:
        if not self.step.layout.is_first:
            return Silence()
        return Progress(
            self.folder,
            num_steps=self.schedule.num_steps,
            start=self.step.number,
            gauge=self.gauge,
            listeners=self.listeners(self.step),
            shows=self.shows,
        )

    def _keeping(self) -> Keeping:
        """With the newest checkpoint that a longer training could go on from."""
        return replace(self.keeping, milestone=self.schedule.steady_steps)

    def _resume(self) -> None:
        values = take_over(self.folder, self.step.state, self.step.layout) or {"step": 0}
        if "guard" in values:
            self.guard.restore(values["guard"])
        if self.best is not None and "best" in values:
            self.best.restore(values["best"])
        self.step.go_on(int(values["step"]))


@dataclass(kw_only=True)
class Going:
    """A run under way."""

    run: Run
    interruption: Interruption
    progress: Progress | Silence
    checkpoints: CheckpointWriter
    recovery: Recovery
    batches: Prefetch[Prepared]
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the last step."""
    _saved_at: float = field(default_factory=time.monotonic)

    @property
    def is_over(self) -> bool:
        run = self.run
        return run.step.number >= run.schedule.num_steps or (run.best is not None and run.best.is_over)

    def read(self) -> Prepared:
        """What the next step reads."""
        return self.batches.take(self.run.step.number)

    def take_step(self, prepared: Prepared) -> None:
        """Learns from it, measures, tells, and writes a checkpoint where one is due. Raises what ``execute`` does."""
        number, run, is_telling = self.run.step.number, self.run, False
        self.metrics = self._learn(number, prepared)
        if run.held_out is not None and self._is_measured(number + 1):
            with self.progress.paused():
                self.metrics |= run.held_out.measure(run.step.model, run.step.layout)
            if run.best is not None:
                is_best = run.best.take(number + 1, self.metrics[run.best.measure])
                is_telling = (is_best and run.best.loads) or run.best.is_over
        self.progress.report(number, self.metrics)
        is_asked, is_late = self._agreed(time.monotonic() - self._saved_at)
        if run.saves and (is_asked or is_late or is_telling or self._is_due(number + 1)):
            self._save(number + 1)
            self._saved_at = time.monotonic()
        if is_asked:
            self.checkpoints.wait()
            raise self._interrupted(number + 1, self.interruption.number)

    def _learn(self, number: int, prepared: Prepared) -> dict[str, float]:
        """A step's metrics."""
        run, step = self.run, self.run.step
        if number and step.working_form(number) is not step.working_form(number - 1):
            run.guard.begin_anew()
        metrics = step.learn(
            prepared,
            run.learning_rate * run.schedule(number),
            accept=lambda loss, norm: self.recovery.accepts(number, loss, norm),
        )
        return {**metrics, "skipped": run.guard.num_skipped}

    def _is_measured(self, num_done: int) -> bool:
        steps = self.run.held_out_steps
        return steps is not None and (num_done % steps == 0 or num_done == self.run.schedule.num_steps)

    def _agreed(self, elapsed_seconds: float) -> tuple[bool, bool]:
        """Whether any process was asked to end, and whether the first one's clock says that a checkpoint is due."""
        layout, is_late = self.run.step.layout, elapsed_seconds >= self.run.checkpoint_seconds
        is_asked = self.interruption.is_asked()  # once: a signal may come at any time
        if layout.all(not is_asked and not is_late):
            return False, False
        return not layout.all(not is_asked), bool(layout.agree(is_late))

    def _is_due(self, num_done: int) -> bool:
        run, schedule = self.run, self.run.schedule
        by_steps = any(each and num_done % each == 0 for each in (run.checkpoint_steps, run.keeping.every))
        return by_steps or num_done in (schedule.num_steps, schedule.steady_steps)

    def _interrupted(self, num_done: int, number: int) -> Interrupted:
        run = self.run
        kept = f"checkpoint-{num_done} is complete in {run.folder}: go on with --resume" if run.saves else "not kept"
        told = f"{signal.Signals(number).name} after step {num_done:,} of {run.schedule.num_steps:,}; {kept}."
        return Interrupted(told, number=number)

    def _save(self, num_done: int) -> None:
        step, write_model = self.run.step, self.run.write_model
        values, best = {"step": num_done, "guard": self.run.guard.state()}, self.run.best
        if best is not None:
            values["best"] = best.state()
        write_files = None if write_model is None else (lambda folder: write_model(step.model, folder))
        kept = None if best is None else best.kept
        self.checkpoints.save(num_done, step.state.tensors(step.layout), values, write_files=write_files, kept=kept)
