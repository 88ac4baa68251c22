"""What objectives that make their own batches of text have in common."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from graft.training.batch.batch import Batch
from graft.training.objective.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class TextObjective:
    """Rows of ``length`` tokens, special ones included. Raises ``ConfigurationError`` for a token that is missing."""

    needs: ClassVar[tuple[str, ...]] = ("mask", "cls", "sep")
    """Tokens that the vocabulary must have."""
    vocabulary: Vocabulary
    length: int

    def __post_init__(self) -> None:
        self.vocabulary.require(*self.needs)

    def counts(self, batch: Batch) -> Mapping[str, int]:
        return batch.num_labels
