"""Rollouts and groups without a model."""

from __future__ import annotations

from collections.abc import Sequence

from graft.training.reinforce.rollout import Group, Recalled, Rollout


def rollout(num: int = 3, *, prompt: int = 2, step: int = 0, is_whole: bool = True, first: int = 1) -> Rollout:
    """Of ``num`` tokens, of which each value is another."""
    ids = list(range(first, first + num))
    return Rollout(
        prompt_ids=[90] * prompt,
        answer_ids=ids,
        logprobs=[-0.1 * one for one in ids],
        step=step,
        version="sha256:0",
        is_whole=is_whole,
    )


def group(rewards: Sequence[float | None], *, steps: Sequence[int] = (), prompt: int = 0) -> Group:
    """One answer of another length for each reward."""
    steps = steps or [0] * len(rewards)
    rollouts = [rollout(1 + number, step=step, first=10 * number + 1) for number, step in enumerate(steps)]
    return Group(prompt=prompt, rollouts=rollouts, rewards=rewards)


def recalled(one: Rollout, *, shift: float = 0.2, values: bool = False) -> Recalled:
    """The reference finds every token less likely by ``shift`` nats."""
    old = list(one.logprobs)
    return Recalled(
        old=old,
        reference=[value - shift for value in old],
        values=[0.5 + 0.1 * number for number in range(len(old))] if values else None,
    )
