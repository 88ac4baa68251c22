"""What a policy answered: the values that rounds are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Self

from graft.training.batch.answers import Answer


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One sampled answer. Raises ``ValueError`` where it is none: without a prompt, a token, or a log p of each."""

    prompt_ids: Sequence[int]
    answer_ids: Sequence[int]
    """With the token that ends it, where one does."""
    logprobs: Sequence[float]
    """Of each of the answer's tokens, in nats, under who sampled it: by itself, at temperature 1."""
    step: int
    """After how many steps of the policy its weights sampled this."""
    version: str
    """Who answered: a digest, empty for the base itself."""
    is_whole: bool
    """Whether the policy ended it; False where it was cut off at its longest."""
    text: str = ""
    """Of the answer, for graders."""

    def __post_init__(self) -> None:
        if not self.prompt_ids or not self.answer_ids:
            raise ValueError("a rollout has a prompt and an answer of one token at least")
        if len(self.logprobs) != len(self.answer_ids):
            raise ValueError(f"{len(self.logprobs)} log-probabilities are given for {len(self.answer_ids)} tokens")

    @property
    def answer(self) -> Answer:
        """As batches hold it."""
        return Answer.of(self.prompt_ids, self.answer_ids)

    def age(self, step: int) -> int:
        """Steps that the policy has taken since, when it has taken ``step``."""
        return step - self.step


@dataclass(frozen=True, kw_only=True)
class Recalled:
    """What the weights before a round's first step find of an answer's tokens. Shapes: (T,). Legend: T tokens."""

    old: Sequence[float]
    """log p in nats, as it is trained."""
    reference: Sequence[float] | None = None
    """log p under the reference."""
    values: Sequence[float] | None = None
    """What the value head expects before each."""

    @property
    def kl(self) -> float:
        """Σ (log π − log π_ref): the divergence in nats, estimated from this answer. Raises ``ValueError`` where the
        reference was not asked.
        """
        if self.reference is None:
            raise ValueError("the reference was not asked")
        return sum(own - its for own, its in zip(self.old, self.reference, strict=True))


@dataclass(frozen=True, kw_only=True)
class Group:
    """Answers to one prompt, and what they are worth."""

    prompt: int
    """Its row."""
    rollouts: Sequence[Rollout]
    rewards: Sequence[float | None]
    """None where a grader could say nothing of the answer."""
    recalled: Sequence[Recalled] | None = None

    def __post_init__(self) -> None:
        num = len(self.rollouts)
        if len(self.rewards) != num or (self.recalled is not None and len(self.recalled) != num):
            raise ValueError(f"a group of {num} rollouts has as many rewards, and is recalled as a whole")

    @property
    def scores(self) -> list[float]:
        """The rewards of a group that is graded throughout. Raises ``ValueError`` of another."""
        found = [one for one in self.rewards if one is not None]
        if len(found) < len(self.rewards):
            raise ValueError("the group holds answers that nobody graded: choose first")
        return found

    @property
    def memories(self) -> Sequence[Recalled]:
        """Raises ``ValueError`` where nothing was recalled."""
        if self.recalled is None:
            raise ValueError("nothing was recalled of the group")
        return self.recalled

    def where(self, keeps: Sequence[bool]) -> Self:
        """With those of its answers alone."""
        return replace(
            self,
            rollouts=list(compress(self.rollouts, keeps)),
            rewards=list(compress(self.rewards, keeps)),
            recalled=None if self.recalled is None else list(compress(self.recalled, keeps)),
        )
