"""Answers as a sampler that is not quite the policy gave them, and the objectives' findings of them."""

from __future__ import annotations

from random import Random
from typing import Any

import torch
from torch import Tensor

from graft.training.batch.answers import Answer, AnswerBatch
from graft.training.objective.policy import as_reference, token_logprobs
from graft.training.objective.reinforce.batch import RolloutBatch
from graft.training.parallel.layout import Work
from tests.training.objective.preference.peers import PAD, drawn

NUM = 6
"""Answers."""
LENGTHS = tuple(one.num_answer for one in drawn(NUM // 2))
ADVANTAGES = (1.3, -0.4, 0.0, -1.1, 0.7, 0.2)


def answers() -> list[Answer]:
    return drawn(NUM // 2)


def sampled(model: Any, *, packing: bool = True, spread: float = 0.25) -> RolloutBatch:
    """What learned before, and what sampled, lie near the policy; the reference is the policy's own base."""
    laid = AnswerBatch.of(answers(), packing=packing, pad_id=PAD)
    apart = laid.apart(token_logprobs(model, laid).detach())
    rng = Random(7)
    old = [[value + rng.gauss(0, spread) for value in each] for each in apart]
    served = [[value + rng.gauss(0, spread) for value in each] for each in old]
    with as_reference(model):
        reference_N = token_logprobs(model, laid).detach()
    return RolloutBatch(
        answers=laid,
        sampled_N=laid.laid(served),
        advantage_N=laid.spread(torch.tensor(ADVANTAGES)),
        is_fresh_N=torch.ones(laid.packed.num_labels, dtype=torch.bool),
        old_N=laid.laid(old),
        reference_N=reference_N,
    )


def found(objective: Any, model: Any, batches: list[RolloutBatch]) -> tuple[float, dict[str, float], dict[str, Tensor]]:
    """The loss of a step of these micro-batches, its means and its gradients."""
    counts: dict[str, int] = {}
    for batch in batches:
        counts = {name: counts.get(name, 0) + one for name, one in objective.counts(batch).items()}
    work = Work(objective=objective, model=model, batches=batches, counts=counts)
    model.zero_grad()
    means = {name: float(one) for name, one in work.add_gradients().items()}
    gradients = {name: one.grad.clone() for name, one in model.named_parameters() if one.requires_grad}
    return sum(weight * means[name] for name, weight in objective.weights.items()), means, gradients
