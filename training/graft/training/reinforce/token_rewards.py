"""PPO's advantages: of each token, by what the value head expected before it and what came. Legend: T tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Estimated:
    """Of an answer's tokens."""

    advantages: list[float]
    returns: list[float]
    """What the value head is to find: what it found, and the advantage."""


def token_rewards(reward: float, logprobs: Sequence[float], reference: Sequence[float], *, beta: float) -> list[float]:
    """−β (log π − log π_ref) at each token, and at the last one the answer's reward (Ziegler et al. 2019,
    arXiv:1909.08593, eq. 2; Ouyang et al. 2022, arXiv:2203.02155, eq. 2).
    """
    found = [-beta * (own - its) for own, its in zip(logprobs, reference, strict=True)]
    found[-1] += reward
    return found


def estimated(rewards: Sequence[float], values: Sequence[float], *, gamma: float = 1.0, lam: float = 0.95) -> Estimated:
    """Σ (γλ)^l δ_{t+l}, δ_t = r_t + γ V_{t+1} − V_t: generalised advantage estimation (Schulman et al. 2016,
    arXiv:1506.02438, eq. 16). Behind an answer's last token nothing is expected, where it was cut off neither.
    """
    ahead, after = 0.0, 0.0
    backwards = []
    for reward, value in zip(reversed(rewards), reversed(values), strict=True):
        ahead = reward + gamma * after - value + gamma * lam * ahead
        after = value
        backwards.append(ahead)
    advantages = backwards[::-1]
    return Estimated(advantages=advantages, returns=[a + v for a, v in zip(advantages, values, strict=True)])
