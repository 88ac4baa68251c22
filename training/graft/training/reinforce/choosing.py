"""Which answers are learned from, and what is told of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from graft.training.reinforce.rollout import Group

OLD: Final = "old"
"""Sampled too many steps ago."""
UNGRADED: Final = "ungraded"
"""No grader could say anything of it."""
FLAT: Final = "flat"
"""All answers of its group are worth the same."""
REASONS = (OLD, UNGRADED, FLAT)
_LEAST_DIFFERENCE = 1e-8


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Groups of which every answer is graded."""

    groups: Sequence[Group]
    num_given: int
    """Answers."""
    dropped: Mapping[str, int]
    """Answers, by reason."""

    @property
    def metrics(self) -> dict[str, float]:
        """The share of the answers that was dropped, for each reason."""
        return {f"dropped/{name}": self.dropped.get(name, 0) / max(1, self.num_given) for name in REASONS}


@dataclass(frozen=True, kw_only=True)
class Choosing:
    """Rules, in the order of the reasons: an answer is dropped for the first that holds."""

    max_age: int = 0
    """Steps that the policy may have taken since it sampled an answer."""
    drops_flat: bool = True
    """Whether a group without variance, which shows no direction, is left out (DAPO's dynamic sampling: Yu et al. 2025,
    arXiv:2503.14476, eq. 11). Else it counts in the means, with advantages of 0."""

    def chosen(self, groups: Iterable[Group], *, step: int) -> Chosen:
        """Of what was sampled, for a policy that has taken ``step`` steps."""
        kept, dropped, num_given = list[Group](), Counter[str](), 0
        for group in groups:
            num_given += len(group.rollouts)
            young = group.where([one.age(step) <= self.max_age for one in group.rollouts])
            graded = young.where([reward is not None for reward in young.rewards])
            dropped[OLD] += len(group.rollouts) - len(young.rollouts)
            dropped[UNGRADED] += len(young.rollouts) - len(graded.rollouts)
            if not graded.rollouts:
                continue
            if self.drops_flat and _is_flat(graded.scores):
                dropped[FLAT] += len(graded.rollouts)
            else:
                kept.append(graded)
        return Chosen(groups=kept, num_given=num_given, dropped=dict(dropped))


def _is_flat(scores: Sequence[float]) -> bool:
    return max(scores) - min(scores) < _LEAST_DIFFERENCE
