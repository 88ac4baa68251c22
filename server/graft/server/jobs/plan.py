"""What a dry run has found: what a training would do, and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from graft.server.runtime.known import known


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Text that the model sees, as a whole learned or not."""

    text: str
    is_learned: bool


@dataclass(frozen=True, kw_only=True)
class PlannedExample:
    """One of the first examples; `row` is its line in the training file."""

    row: int
    pieces: Sequence[Piece]


@dataclass(frozen=True, kw_only=True)
class JobPlan:
    """`num_tokens` and `num_learned_tokens` are those of the examples once through, `trained_tokens` of all epochs.

    `seconds` is None where it could not be found out. `notes` are whole sentences.
    """

    num_rows: int
    num_examples: int
    num_tokens: int
    num_learned_tokens: int
    num_cut: int
    num_dropped: int
    num_steps: int
    trained_tokens: int
    seconds: float | None = None
    examples: Sequence[PlannedExample] = ()
    notes: Sequence[str] = ()

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Self:
        """From JSON, as `dataclasses.asdict` gives it."""
        examples = tuple(
            PlannedExample(row=one["row"], pieces=tuple(Piece(**known(Piece, piece)) for piece in one["pieces"]))
            for one in row["examples"]
        )
        return cls(**known(cls, row) | {"examples": examples, "notes": tuple(row["notes"])})

    @property
    def said(self) -> str:
        """In one sentence."""
        time = "an unknown time" if self.seconds is None else f"about {self.seconds:,.0f} s on this worker"
        return (
            f"The training would take {self.num_steps:,} steps, {self.trained_tokens:,} tokens and {time}; it learns "
            f"{self.num_learned_tokens:,} of the file's {self.num_tokens:,} tokens. Nothing was trained"
        )
