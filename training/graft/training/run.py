"""The training loop: data + objective + model + optimizers + checkpoints."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from graft.training import state
from graft.training.checkpoint import checkpoint_values, complete_checkpoints, save_checkpoint
from graft.training.data import Data
from graft.training.errors import DataError, Diverged
from graft.training.objective.objective import Objective
from graft.training.optim import MakeOptimizers, Schedule, clip_gradients, set_learning_rates
from graft.training.parallel.layout import Alone, Layout, counted
from graft.training.progress import Progress, Silence
from graft.training.weights import Weights, WorkingForm, bfloat16_form

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
    max_gradient_norm: float = 1.0
    checkpoint_seconds: float = 300.0
    checkpoint_steps: int | None = None
    """Also after every so many steps."""
    write_model: WriteModel | None = None
    """Adds the model to a checkpoint's folder in its own format."""

    def execute(self, *, resume: bool = False) -> dict[str, float]:
        """Trains to the last step and returns its metrics; ``resume`` goes on from the newest finished checkpoint.

        Raises:
            Diverged: a gradient is not finite. Checkpoints so far stay.
        """
        weights = Weights(self.model)
        optimizers = self.optimizers(self.layout.owned(weights.masters))
        start = self._restore(weights, optimizers) if resume else 0
        metrics: dict[str, float] = {}
        saved_at = time.monotonic()
        self.model.train()
        kind = Progress if self.layout.is_first else Silence
        with kind(self.folder, num_steps=self.schedule.num_steps, start=start) as progress:
            for step in range(start, self.schedule.num_steps):
                weights.push(self.working_form(step))
                set_learning_rates(optimizers, self.schedule(step))
                metrics = self._step(step, weights, optimizers)
                progress.report(step, metrics)
                if self._is_due(step + 1, time.monotonic() - saved_at):
                    self._save(step + 1, weights, optimizers)
                    saved_at = time.monotonic()
        weights.push(self.working_form(self.schedule.num_steps))
        self.model.eval()
        return metrics

    def _step(self, step: int, weights: Weights, optimizers: list[torch.optim.Optimizer]) -> dict[str, float]:
        batches = [self.layout.local(batch) for batch in self.data.batches(step, self.layout.share)]
        counts = self.layout.total(counted(batch.counts for batch in batches))
        if not any(counts.values()):
            raise DataError(f"the batches of step {step} ask for no token: nothing can be learned from them.")
        means = self.layout.run_batches(self.objective, self.model, batches, counts, after_each=weights.pull_gradients)
        self.layout.sum_gradients(weights.masters)
        norm = float(self.layout.gradient_norm(weights.masters))
        if not math.isfinite(norm):
            raise Diverged(f"the gradient is {norm} at step {step}; lower the learning rate, or resume with --resume.")
        clip_gradients(weights.masters, norm, self.max_gradient_norm)
        for optimizer in optimizers:
            optimizer.step()
        self.layout.share_updates(weights.masters)
        for master in weights.masters.values():
            master.grad = None
        means = self.layout.total(means)
        tokens = self.layout.total({"tokens": sum(batch.num_tokens for batch in batches)})
        return {
            "loss": sum(self.objective.weights[name] * mean for name, mean in means.items()),
            **({} if len(means) == 1 else {f"loss_{name}": mean for name, mean in means.items()}),
            **tokens,
            "supervised_tokens": max(counts.values()),
            "gradient_norm": norm,
        }

    def _is_due(self, num_done: int, elapsed_seconds: float) -> bool:
        by_steps = self.checkpoint_steps is not None and num_done % self.checkpoint_steps == 0
        # Clocks differ: all do what the first process does.
        by_time = self.layout.agree(elapsed_seconds >= self.checkpoint_seconds)
        return by_steps or by_time or num_done == self.schedule.num_steps

    def _save(self, step: int, weights: Weights, optimizers: list[torch.optim.Optimizer]) -> None:
        values = {"step": step}
        weights.push(self.working_form(step))
        write_model = self.write_model
        write_files = None if write_model is None else (lambda folder: write_model(self.model, folder))
        tensors = state.tensors_of(weights.masters, optimizers, self.layout)
        save_checkpoint(self.folder, step, tensors, values, layout=self.layout, write_files=write_files)

    def _restore(self, weights: Weights, optimizers: list[torch.optim.Optimizer]) -> int:
        checkpoints = complete_checkpoints(self.folder)
        if not checkpoints:
            return 0
        values = checkpoint_values(checkpoints[-1])
        state.restore(checkpoints[-1], weights.masters, optimizers, self.layout)
        return int(values["step"])
