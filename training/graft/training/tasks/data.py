"""A task's file: its rows, the examples that are made of them, and those in batches."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from graft.adapters.text.problems import BadLine, parsed
from graft.training.batch.batch import Batch
from graft.training.batch.data import WHOLE, Share
from graft.training.batch.epochs import Epochs
from graft.training.errors import DataError, of_data
from graft.training.tasks.framing.example import Example
from graft.training.tasks.rows.reading import unit_of
from graft.training.tasks.task import Task

_log = logging.getLogger(__name__)

Numbered = Sequence[tuple[int, Any]]


@dataclass(frozen=True, kw_only=True)
class TaskRows:
    """The mean is taken over all that a step asks, not batch by batch."""

    task: Task
    examples: Sequence[Example]
    epochs: Epochs

    @property
    def steps_per_epoch(self) -> int:
        return self.epochs.steps_per_epoch

    def num_steps(self, epochs: float) -> int:
        """Steps that see every row so many times."""
        return self.epochs.num_steps(epochs)

    def batches(self, step: int, share: Share = WHOLE) -> list[Batch]:
        batches = [[self.examples[number] for number in numbers] for numbers in self.epochs.numbers(step)]
        batch = self.task.batch
        return [batch(batches[0][:1]).silent() if rows is None else batch(rows) for rows in share.alike(batches)]


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """Of one file. A row may make several examples, or none."""

    rows: Sequence[Any]
    examples: Sequence[Example]

    @classmethod
    def of(cls, path: Path, numbered: Numbered, task: Task, *, num_positions: int | None, num_embeddings: int) -> Self:
        """Raises ``DataError`` with every row that cannot be learned from, by file and line."""

        def examples_of(row: Any) -> list[Example]:
            made = task.examples(row)
            for example in made:
                _check(example, num_positions, num_embeddings)
            return made

        found = of_data(parsed, path, numbered, examples_of, unit=unit_of(path))
        examples = [replace(example, row=row) for row, (_, examples) in enumerate(found) for example in examples]
        if num := sum(not examples for _, examples in found):
            lines = [str(line) for line, examples in found if not examples]
            told = ", ".join(lines[:10]) + (" …" if num > 10 else "")
            _log.warning("%s: %d of %d rows are too long and left out, in lines %s", path, num, len(found), told)
        if not examples:
            raise DataError(
                f"{path} has no row that is short enough: raise max_length, or cut them with --long-rows cut."
            )
        return cls(rows=[row for _, row in numbered], examples=examples)

    @property
    def kept(self) -> Sequence[int]:
        """The places of the rows that are not left out."""
        return sorted({example.row for example in self.examples})

    def batches(self, task: Task, *, rows_per_batch: int, batches_per_step: int, seed: int) -> TaskRows:
        num = len(self.examples)
        epochs = Epochs(num_rows=num, rows_per_batch=rows_per_batch, batches_per_step=batches_per_step, seed=seed)
        return TaskRows(task=task, examples=self.examples, epochs=epochs)


def _check(example: Example, num_positions: int | None, num_embeddings: int) -> None:
    longest = max(map(len, example.sequences))
    if num_positions is not None and longest > num_positions:
        raise BadLine(
            f"{longest} tokens, and the base has {num_positions} positions: lower max_length to that, and say what "
            "becomes of longer rows with --long-rows cut or drop."
        )
    highest = max(map(max, example.sequences))
    if highest >= num_embeddings:
        raise BadLine(
            f"it has the token id {highest}, and the base's embeddings end at {num_embeddings - 1}: its tokenizer does "
            "not belong to its weights, take the one that came with them."
        )
