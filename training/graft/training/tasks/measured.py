"""What a model knows of rows that it is not trained on, by a task's measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from graft.training.model.quantized import keep_laid_out
from graft.training.parallel.layout import Alone, Layout, counted
from graft.training.tasks.data import TaskData
from graft.training.tasks.task import Task

PREFIX, LOSS = "validation_", "loss"


@dataclass(frozen=True, kw_only=True)
class TaskMeasure:
    """A file that is read in order."""

    task: Task
    data: TaskData
    rows_per_batch: int

    def measure(self, model: nn.Module, layout: Layout | None = None) -> dict[str, float]:
        """``validation_loss`` and, with the same beginning, the task's measures. Every process of the layout calls this
        and measures all of it.
        """
        return {f"{PREFIX}{name}": value for name, value in self.found(model, layout).items()}

    @torch.no_grad()
    def found(self, model: nn.Module, layout: Layout | None = None) -> dict[str, float]:
        """``loss`` and the measures."""
        layout = layout or Alone()
        was_training = model.training
        model.eval()
        keep_laid_out(model)
        said, loss = self._said(model, layout)
        model.train(was_training)
        return {LOSS: loss, **self.task.metrics(self.data.rows, self.data.examples, said)}

    def _said(self, model: nn.Module, layout: Layout) -> tuple[list[Any], float]:
        said: list[Any] = []
        sums: dict[str, float] = {}
        num = self.rows_per_batch
        batches = [self.task.batch(self.data.examples[at : at + num]) for at in range(0, len(self.data.examples), num)]
        for batch in batches:
            found, answers = self.task.said(model, layout.local(batch))
            sums = {name: sums.get(name, 0.0) + total.item() for name, total in found.items()}
            said += answers
        counts = counted(self.task.objective.counts(batch) for batch in batches)
        weights = self.task.objective.weights
        return said, sum(weights[name] * total / max(1, counts[name]) for name, total in sums.items())


def told(metrics: Mapping[str, float]) -> str:
    """In one line."""
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
