"""A task's file: its rows, the examples that are made of them, and those in batches."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from graft.adapters.text.problems import parsed
from graft.training.batch.batch import Batch
from graft.training.batch.epochs import Epochs
from graft.training.errors import DataError, of_data
from graft.training.tasks.example import Example
from graft.training.tasks.task import Task

_log = logging.getLogger(__name__)

Numbered = Sequence[tuple[int, Any]]


@dataclass(frozen=True, kw_only=True)
class TaskRows(Epochs[Example]):
    """The mean is taken over all that a step asks, not batch by batch."""

    task: Task

    def batch(self, rows: Sequence[Example]) -> Batch:
        return self.task.batch(rows)


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """Of one file. A row may make several examples, or none."""

    rows: Sequence[Any]
    examples: Sequence[Example]

    @classmethod
    def of(cls, path: Path, numbered: Numbered, task: Task, *, num_positions: int | None, vocab_size: int) -> Self:
        """Raises ``DataError`` with every row that cannot be learned from, by file and line."""
        found = of_data(parsed, path, numbered, task.examples)
        examples = [
            replace(example, row=row) for row, (_, examples) in enumerate(found) for example in examples
        ]
        if num := sum(not examples for _, examples in found):
            lines = [str(line) for line, examples in found if not examples]
            told = ", ".join(lines[:10]) + (" …" if num > 10 else "")
            _log.warning("%s: %d of %d rows are too long and left out, in lines %s", path, num, len(found), told)
        if not examples:
            raise DataError(f"{path} has no row that is short enough: raise max_length, or cut them with --long-rows cut.")
        return cls(rows=[row for _, row in numbered], examples=examples)

    @property
    def mean_length(self) -> float:
        """Tokens of the row that a token stands in, on average."""
        lengths = [example.num_tokens for example in self.examples]
        return sum(length**2 for length in lengths) / sum(lengths)

    def batches(
        self, task: Task, *, rows_per_batch: int, batches_per_step: int = 1, seed: int = 0, is_shuffled: bool = True
    ) -> TaskRows:
        return TaskRows(
            rows=self.examples,
            rows_per_batch=rows_per_batch,
            batches_per_step=batches_per_step,
            seed=seed,
            is_shuffled=is_shuffled,
            task=task,
        )
