"""A row of the table of methods: what was trained, how it is served, and what it is without a server."""

from __future__ import annotations

from dataclasses import dataclass

from graft.bench.training.methods import task
from graft.bench.training.methods.reference import InFourBits, Reference
from graft.bench.training.methods.route import Servable
from graft.bench.training.methods.said import Said
from graft.bench.training.methods.trial import Trial

NEAR_NATS = 0.3
"""A served token that stands no further below the reference's first choice is a matter of rounding: engine and peft
add bfloat16 numbers in other orders, and one request alone and several at once already part by 0.07 nats (LOG).
"""
LEAST_ACCURACY = 0.9
"""What each method is to reach."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One row of the table, as far as it came."""

    name: str
    trial: Trial | None = None
    servable: Servable | None = None
    served: Said | None = None
    reference: Reference | None = None
    failure: str | None = None
    """Why it came no further."""

    @property
    def accuracy(self) -> float | None:
        """By peft and transformers, of words that nothing asked about before."""
        return None if self.reference is None else accuracy_of(self.reference.own)

    @property
    def served_accuracy(self) -> float | None:
        return None if self.served is None else accuracy_of(self.served)

    @property
    def in_four_bits(self) -> InFourBits | None:
        """Of a new base."""
        return None if self.reference is None else self.reference.in_four_bits

    @property
    def accuracy_in_four_bits(self) -> float | None:
        return None if self.in_four_bits is None else accuracy_of(self.in_four_bits.said)

    @property
    def num_equal(self) -> int | None:
        """Of the served answers, those that are the reference's, token by token: the trained adapter's under peft, or
        the new base's under transformers.
        """
        pairs = self._pairs()
        return None if pairs is None else sum(ids == other for ids, other, _ in pairs)

    @property
    def num_near(self) -> int | None:
        """And those that are no further from the reference than ``NEAR_NATS``."""
        pairs = self._pairs()
        return None if pairs is None else sum(ids == other or below <= NEAR_NATS for ids, other, below in pairs)

    @property
    def below_nats(self) -> float | None:
        """How far the worst served token stands below the reference's first choice."""
        return max(self.reference.below_nats) if self.reference and self.reference.below_nats else None

    @property
    def shortfall(self) -> str | None:
        """What of the table's promise it misses."""
        if self.failure is not None:
            return self.failure
        if self.accuracy is not None and self.accuracy < LEAST_ACCURACY:
            return f"accuracy {self.accuracy:.0%}, promised are {LEAST_ACCURACY:.0%}"
        if self.num_near is not None and self.num_near < task.NUM_QUESTIONS:
            return f"{task.NUM_QUESTIONS - self.num_near} served answers are not the reference's"
        return None

    def _pairs(self) -> list[tuple[list[int], list[int], float]] | None:
        if self.served is None or self.reference is None:
            return None
        there = self.reference
        return list(zip(self.served.ids, there.said.ids, there.below_nats, strict=True))


def accuracy_of(said: Said) -> float:
    """Of answers to all questions."""
    return task.accuracy(task.asked(), said.texts)
