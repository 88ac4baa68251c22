"""Votes of sampled paths (self-consistency: Wang et al. 2022, arXiv:2203.11171). Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from fractions import Fraction

MAX_WEIGHT = 1.0
"""Of one ballot: a probability, or 1 where votes are plain."""


_NUMBER = re.compile(r"[-+]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Ballot:
    """What one path answers. `index` is the path's; `weight` is in (0, 1]."""

    index: int
    answer: str
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Vote:
    """The ballots for one answer, which is written as the first of these paths wrote it."""

    answer: str
    num_paths: int
    weight: float
    first_path: int


def path_weight(logprob: float, num_tokens: int) -> float:
    """The probability of a path's tokens, normalised by their number (the paper's section 2, equation 1)."""
    return min(MAX_WEIGHT, math.exp(logprob / max(1, num_tokens)))


def as_text(answer: str) -> str:
    """What makes two answers the same: their words, whatever the spaces between."""
    return " ".join(answer.split())


def as_number(answer: str) -> str:
    """What makes two answers the same: their value, where they are numbers."""
    digits = answer.replace(",", "").strip()
    return str(Fraction(digits)) if _NUMBER.fullmatch(digits) else as_text(answer)


def tally(ballots: Iterable[Ballot], same: Callable[[str], str] = as_text) -> tuple[Vote, ...]:
    """The winner first. Of answers with equal weight that goes before which an earlier path gave."""
    groups: dict[str, list[Ballot]] = {}
    for ballot in sorted(ballots, key=lambda ballot: ballot.index):
        groups.setdefault(same(ballot.answer), []).append(ballot)
    votes = [
        Vote(
            answer=group[0].answer,
            num_paths=len(group),
            weight=math.fsum(ballot.weight for ballot in group),
            first_path=group[0].index,
        )
        for group in groups.values()
    ]
    return tuple(sorted(votes, key=lambda vote: (-vote.weight, vote.first_path)))


def is_decided(votes: tuple[Vote, ...], waiting: Collection[int]) -> bool:
    """Whether the winner stays the winner, whatever the paths with these indices answer, if they answer at all."""
    if not votes:
        return False
    if not waiting:
        return True
    winner, *others = votes
    gain = MAX_WEIGHT * len(waiting)
    # One that nobody has named so far, and those that are named: each with all votes that are to come.
    rivals = [(gain, min(waiting))]
    rivals += [(vote.weight + gain, min(vote.first_path, *waiting)) for vote in others]
    return all((-weight, first) > (-winner.weight, winner.first_path) for weight, first in rivals)
