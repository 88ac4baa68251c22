"""The training loop: data + objective + model + optimizers + checkpoints."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from graft.training.batch.data import Data
from graft.training.errors import Diverged
from graft.training.loop.average import Average
from graft.training.loop.checkpoint import CheckpointWriter
from graft.training.loop.guard import Guard, Verdict
from graft.training.loop.held_out import HeldOut
from graft.training.loop.optim import MakeOptimizers, Schedule, clip_gradients, set_learning_rates
from graft.training.loop.progress import Gauge, Listener, Progress, Silence
from graft.training.loop.resuming import take_over
from graft.training.loop.state import State
from graft.training.loop.weights import Weights, WorkingForm, bfloat16_form
from graft.training.model.attention import attend_in_blocks
from graft.training.objective.objective import Objective
from graft.training.parallel.layout import Alone, Layout, Work, counted
from graft.training.runtime.memory import keep_freed_memory

_log = logging.getLogger(__name__)

WriteModel = Callable[[PreTrainedModel, Path], None]


@dataclass(kw_only=True)
class Run:
    """One training run. Two runs of the same recipe on the same machine give the same weights, resumed or not."""

    model: PreTrainedModel
    data: Data[Any]
    objective: Objective[Any]
    optimizers: MakeOptimizers
    schedule: Schedule
    folder: Path
    """Where checkpoints, ``metrics.jsonl`` and ``loss_curve.png`` go."""
    working_form: Callable[[int], WorkingForm] = field(default=lambda step: bfloat16_form)
    """The form of the working weights at each step."""
    layout: Layout = field(default_factory=Alone)
    guard: Guard = field(default_factory=Guard)
    max_gradient_norm: float = 1.0
    gauge: Gauge = field(default_factory=Gauge)
    listeners: Callable[[int], Sequence[Listener]] = field(default=lambda start: ())
    """Who else hears of the steps, made at the step that the run starts or goes on with."""
    checkpoint_seconds: float = 300.0
    checkpoint_steps: int | None = None
    """Also after every so many steps."""
    saves: bool = True
    """False for a training whose weights nobody wants."""
    write_model: WriteModel | None = None
    """Adds the model to a checkpoint's folder in its own format."""
    average_decay: float | None = None
    """Keeps a running mean of the weights, which checkpoints hold beside them."""
    held_out: HeldOut | None = None
    held_out_steps: int | None = None
    """Measure on held-out text after every so many steps."""

    def execute(self, *, resume: bool = False) -> dict[str, float]:
        """Trains to the last step and returns its metrics; ``resume`` goes on from the newest finished checkpoint.

        Raises:
            Diverged: steps cannot be taken, even after going back. Checkpoints so far stay.
            CheckpointError: a checkpoint cannot be written, or does not fit.
        """
        weights = Weights(self.model)
        optimizers = self.optimizers(self.layout.owned(weights.masters))
        average = None if self.average_decay is None else Average(weights.masters, self.average_decay)
        state = State(masters=weights.masters, optimizers=optimizers, averages={} if average is None else average.means)
        start = self._resume(state) if resume else 0
        metrics: dict[str, float] = {}
        saved_at = time.monotonic()
        attend_in_blocks(self.model)
        keep_freed_memory()
        self.model.train()
        with (
            self._progress(start) as progress,
            CheckpointWriter(self.folder, layout=self.layout, milestone=self.schedule.steady_steps) as checkpoints,
            self._telling_what_was_left_out(),
        ):
            for step in range(start, self.schedule.num_steps):
                if step and self.working_form(step) is not self.working_form(step - 1):
                    self.guard.begin_anew()
                weights.push(self.working_form(step))
                set_learning_rates(optimizers, self.schedule(step))
                metrics = self._step(step, weights, state, average, checkpoints)
                if self._is_measured(step + 1):
                    with progress.paused():
                        weights.push(self.working_form(step + 1))
                        metrics |= self._measured()
                progress.report(step, metrics)
                if self._is_due(step + 1, time.monotonic() - saved_at):
                    self._save(step + 1, weights, state, checkpoints)
                    saved_at = time.monotonic()
        weights.push(self.working_form(self.schedule.num_steps))
        self.model.eval()
        return metrics

    def _progress(self, start: int) -> Progress | Silence:
        if not self.layout.is_first:
            return Silence()
        listeners = self.listeners(start)
        return Progress(
            self.folder, num_steps=self.schedule.num_steps, start=start, gauge=self.gauge, listeners=listeners
        )

    def _step(
        self, step: int, weights: Weights, state: State, average: Average | None, checkpoints: CheckpointWriter
    ) -> dict[str, float]:
        batches = [self.layout.local(batch) for batch in self.data.batches(step, self.layout.share)]
        counts = self.layout.total(counted(batch.counts for batch in batches))
        if not any(counts.values()):  # by chance, in short rows: the step is passed over
            return self._told(math.nan, {}, counts, 0.0, batches)
        means = self.layout.run(
            Work(
                objective=self.objective,
                model=self.model,
                batches=batches,
                counts=counts,
            )
        )
        self.layout.sum_gradients(weights.masters)
        # Processors round differently: all judge and clip by what the first process found.
        norm = self.layout.agree(float(self.layout.gradient_norm(weights.masters)))
        means = self.layout.total(means)
        loss = self.layout.agree(sum(self.objective.weights[name] * mean for name, mean in means.items()))
        if self._takes(step, loss, norm, state, checkpoints) and average is not None:
            average.follow(step, state.masters)
        for master in weights.masters.values():
            master.grad = None
        return self._told(loss, means, counts, norm, batches)

    def _told(
        self, loss: float, means: Mapping[str, float], counts: Mapping[str, float], norm: float, batches: Sequence[Any]
    ) -> dict[str, float]:
        """A step's metrics."""
        tokens = self.layout.total({"tokens": sum(batch.num_tokens for batch in batches)})
        return {
            "loss": loss,
            **({} if len(means) == 1 else {f"loss_{name}": mean for name, mean in means.items()}),
            **tokens,
            "supervised_tokens": max(counts.values()),
            "gradient_norm": norm,
            "skipped": self.guard.num_skipped,
        }

    def _takes(self, step: int, loss: float, norm: float, state: State, checkpoints: CheckpointWriter) -> bool:
        """Moves the weights if the step is one to be taken, else goes back where that is due."""
        verdict = self.guard.judge(loss, norm, step=step)
        if verdict is Verdict.TAKE:
            clip_gradients(state.masters, norm, self.max_gradient_norm)
            for optimizer in state.optimizers:
                optimizer.step()
            self.layout.share_updates(state.masters)
        elif verdict is Verdict.SKIP:
            self._warn("step %d is left out: its loss is %g and its gradient %g", step, loss, norm)
        elif verdict is Verdict.GO_BACK and self._go_back(state, checkpoints):
            self._warn("step %d: too many left out in a row, back to the last checkpoint", step)
        elif verdict is Verdict.GIVE_UP or not (math.isfinite(loss) and math.isfinite(norm)):
            raise Diverged(
                f"the loss is {loss} and the gradient {norm} at step {step}, and so it was in the steps before; "
                "lower the learning rate or look at the data, and start anew in another folder: what is resumed keeps "
                "its rate."
            )
        else:
            self._warn(
                "step %d: the loss stays at %g and there is no checkpoint to go back to; on from here", step, loss
            )
        return verdict is Verdict.TAKE

    def _warn(self, text: str, *values: object) -> None:
        """Once for all processes."""
        if self.layout.is_first:
            _log.warning(text, *values)

    @contextlib.contextmanager
    def _telling_what_was_left_out(self) -> Iterator[None]:
        try:
            yield
        finally:
            if steps := self.guard.skipped:
                told = ", ".join(map(str, steps[:20])) + (" …" if len(steps) > 20 else "")
                self._warn(
                    "%d steps were left out, as their loss or gradient was no number or stood out: %s. Look at their "
                    "data; --spike-sigmas 0 takes all whose loss is a number.",
                    self.guard.num_skipped,
                    told,
                )

    def _is_due(self, num_done: int, elapsed_seconds: float) -> bool:
        if not self.saves:
            return False
        by_steps = self.checkpoint_steps is not None and num_done % self.checkpoint_steps == 0
        # Clocks differ: all do what the first process does.
        by_time = bool(self.layout.agree(elapsed_seconds >= self.checkpoint_seconds))
        return by_steps or by_time or num_done in (self.schedule.num_steps, self.schedule.steady_steps)

    def _is_measured(self, num_done: int) -> bool:
        return self.held_out_steps is not None and num_done % self.held_out_steps == 0

    def _measured(self) -> dict[str, float]:
        return {} if self.held_out is None else self.held_out.measure(self.model, self.layout)

    def _save(self, step: int, weights: Weights, state: State, checkpoints: CheckpointWriter) -> None:
        values = {"step": step, "guard": self.guard.state()}
        weights.push(self.working_form(step))
        write_model = self.write_model
        write_files = None if write_model is None else (lambda folder: write_model(self.model, folder))
        checkpoints.save(step, state.tensors(self.layout), values, write_files=write_files)

    def _resume(self, state: State) -> int:
        """The step to go on with."""
        values = take_over(self.folder, state, self.layout)
        if values is None:
            return 0
        if "guard" in values:
            self.guard.restore(values["guard"])
        return int(values["step"])

    def _go_back(self, state: State, checkpoints: CheckpointWriter) -> bool:
        checkpoints.wait()
        return take_over(self.folder, state, self.layout) is not None
