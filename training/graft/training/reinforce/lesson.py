"""An answer and how much it is to be learned. Legend: T tokens of an answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from graft.training.reinforce.advantages import Estimator, whitened
from graft.training.reinforce.rollout import Group, Recalled, Rollout
from graft.training.reinforce.token_rewards import estimated, token_rewards


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a batch holds of an answer."""

    rollout: Rollout
    advantages: Sequence[float]
    """Of each token. Shape: (T,)."""
    recalled: Recalled | None = None
    """None where the round has a single step, and nothing asks for the reference before it."""
    returns: Sequence[float] | None = None
    """What the value head is to find; PPO's alone. Shape: (T,)."""


def penalised(groups: Iterable[Group], *, beta: float) -> list[Group]:
    """Rewards less β times each answer's divergence (RLOO: Ahmadian et al. 2024, arXiv:2402.14740, eq. 3)."""
    return [
        replace(group, rewards=[r - beta * one.kl for r, one in zip(group.scores, group.memories, strict=True)])
        for group in groups
    ]


def of_groups(groups: Iterable[Group], estimator: Estimator, *, drops_cut: bool = False) -> list[Lesson]:
    """Every token has its answer's advantage. With ``drops_cut`` what was cut off at its longest counts in its group's
    baseline and is not learned from (DAPO: Yu et al. 2025, arXiv:2503.14476, §3.4).
    """
    return [
        Lesson(rollout=rollout, advantages=[advantage] * len(rollout.answer_ids), recalled=recalled)
        for group in groups
        for rollout, recalled, advantage in zip(group.rollouts, _recalled(group), estimator(group.scores), strict=True)
        if rollout.is_whole or not drops_cut
    ]


def of_values(groups: Iterable[Group], *, beta: float, gamma: float = 1.0, lam: float = 0.95) -> list[Lesson]:
    """PPO's: the divergence is a part of each token's reward, and advantages are whitened over all tokens."""
    made = [
        _valued(rollout, score, recalled, beta, gamma, lam)
        for group in groups
        for rollout, score, recalled in zip(group.rollouts, group.scores, group.memories, strict=True)
    ]
    white = iter(whitened([advantage for one in made for advantage in one.advantages]))
    return [replace(one, advantages=[next(white) for _ in one.advantages]) for one in made]


def _valued(rollout: Rollout, score: float, recalled: Recalled, beta: float, gamma: float, lam: float) -> Lesson:
    if recalled.values is None or recalled.reference is None:
        raise ValueError("PPO needs values, and log-probabilities of the reference")
    rewards = token_rewards(score, recalled.old, recalled.reference, beta=beta)
    found = estimated(rewards, recalled.values, gamma=gamma, lam=lam)
    return Lesson(rollout=rollout, advantages=found.advantages, recalled=recalled, returns=found.returns)


def _recalled(group: Group) -> Sequence[Recalled | None]:
    return [None for _ in group.rollouts] if group.recalled is None else group.recalled
