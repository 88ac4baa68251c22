"""A task with a head, or of text to text: how rows become examples and batches, and what is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedTokenizerFast

from graft.training.batch.batch import Batch
from graft.training.objective.objective import Objective
from graft.training.tasks.framing.example import Example
from graft.training.tasks.framing.frame import Frame
from graft.training.tasks.framing.lengths import Lengths
from graft.training.tasks.head import Head
from graft.training.tasks.record import TaskRecord
from graft.training.tasks.settings import TaskSettings


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What every task is made of beside its rows."""

    settings: TaskSettings
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerFast
    frame: Frame
    trained: TaskRecord | None = None
    """Of a model that is only measured: its labels are those of its head, whatever rows there are."""

    @property
    def lengths(self) -> Lengths:
        return Lengths(most=self.settings.max_length, long_rows=self.settings.long_rows)


class Task(Protocol):
    """One of a kind of rows (``Any`` here)."""

    @property
    def head(self) -> Head: ...

    @property
    def objective(self) -> Objective[Batch]: ...

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of what is measured, the first first."""

    def examples(self, row: Any) -> list[Example]:
        """What is learned from a row; nothing where it is too long and is to be left out. Raises ``BadLine``."""

    def batch(self, examples: Sequence[Example]) -> Batch: ...

    def said(self, model: nn.Module, batch: Batch) -> tuple[Mapping[str, Tensor], list[Any]]:
        """The loss of each term, summed, and for each example what the model says."""

    def metrics(self, rows: Sequence[Any], examples: Sequence[Example], said: Sequence[Any]) -> dict[str, float]:
        """Of all examples of a file and what was said to each."""
