"""What the policy, its reference and its value head find of sampled answers before a round's first step.

The policy is asked as it is trained, and what it answers is compared with what the server said: of the weights that
sampled, both should say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from graft.training.batch.answers import AnswerBatch
from graft.training.model.quantized import keep_laid_out
from graft.training.objective.policy import as_reference, read_only, token_logprobs
from graft.training.objective.reinforce.values import WithValues
from graft.training.parallel.layout import Layout
from graft.training.reinforce.batches import Laying
from graft.training.reinforce.rollout import Group, Recalled, Rollout


def with_recalled(
    model: nn.Module, groups: Sequence[Group], laying: Laying, layout: Layout, *, asks_reference: bool
) -> list[Group]:
    """The groups with what is recalled of each of their answers."""
    rollouts = [one for group in groups for one in group.rollouts]
    found = iter(recalled(model, rollouts, laying, layout, asks_reference=asks_reference))
    return [replace(group, recalled=[next(found) for _ in group.rollouts]) for group in groups]


def recalled(
    model: nn.Module, rollouts: Sequence[Rollout], laying: Laying, layout: Layout, *, asks_reference: bool
) -> list[Recalled]:
    """Of each rollout. The model is asked as a step asks it, in training, so that both round alike."""
    policy = model.policy if isinstance(model, WithValues) else model
    model.train()
    keep_laid_out(model)
    found: dict[int, Recalled] = {}
    for numbers in laying.parts(rollouts):
        answers = laying.answers([rollouts[number] for number in numbers])
        there = layout.local(answers)
        with read_only(model):
            old_N, value_N = _asked(model, there)
        reference_N = None
        if asks_reference:
            with as_reference(policy):
                reference_N = token_logprobs(policy, there)
        columns = [_apart(answers, one) for one in (old_N, reference_N, value_N)]
        for place, number in enumerate(numbers):
            old, reference, values = (None if column is None else column[place] for column in columns)
            assert old is not None
            found[number] = Recalled(old=old, reference=reference, values=values)
    return [found[number] for number in range(len(rollouts))]


def _asked(model: nn.Module, answers: AnswerBatch) -> tuple[Tensor, Tensor | None]:
    if not isinstance(model, WithValues):
        return token_logprobs(model, answers), None
    found: dict[str, Tensor] = {}

    def ask(both: WithValues) -> dict[str, Tensor]:
        found["old"], found["values"] = both.logprobs_and_values(answers)
        return found

    model(ask)
    return found["old"], found["values"]


def _apart(answers: AnswerBatch, value_N: Tensor | None) -> list[list[float]] | None:
    return None if value_N is None else answers.apart(value_N.detach().to("cpu", torch.float32))
