"""What is still to be expected of an answer before each of its tokens: a scalar head beside the policy's own, on its
states. Policy, reference and value so share one base. Legend: N tokens of answers, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from graft.training.batch.answers import AnswerBatch
from graft.training.objective.masks import decoder_of
from graft.training.objective.objective import places
from graft.training.objective.policy import token_logprobs


class WithValues(nn.Module):
    """A policy and its value head, which are learned together. The policy is the product."""

    def __init__(self, policy: nn.Module, value: nn.Linear) -> None:
        super().__init__()
        self.policy, self.value = policy, value

    @classmethod
    def of(cls, policy: nn.Module) -> Self:
        """With a head that expects nothing: its weights, in float32, are 0."""
        output = decoder_of(policy).get_output_embeddings()
        value = nn.Linear(output.weight.shape[1], 1, device=output.weight.device, dtype=torch.float32)
        nn.init.zeros_(value.weight)
        nn.init.zeros_(value.bias)
        return cls(policy, value)

    def forward(self, compute: Callable[[Self], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """Under sharding the weights are whole in here."""
        return compute(self)

    def logprobs_and_values(self, answers: AnswerBatch) -> tuple[Tensor, Tensor]:
        """log p of each token of the answers, and what was to be expected before it, from one pass. Shapes: (N,)."""
        found: list[Tensor] = []

        def hear(head: nn.Module, inputs: tuple[Any, ...]) -> None:
            (states,) = inputs
            asked_N = places(answers.packed.labels_BL, answers.packed.num_labels)
            states_ND = states.flatten(0, -2).index_select(0, asked_N)
            found.append(self.value(states_ND.to(self.value.weight.dtype))[:, 0].float())

        heard = decoder_of(self.policy).get_output_embeddings().register_forward_pre_hook(hear)
        try:
            logprob_N = token_logprobs(self.policy, answers)
        finally:
            heard.remove()
        (value_N,) = found
        return logprob_N, value_N


def value_losses(value_N: Tensor, old_N: Tensor, return_N: Tensor, *, clip: float) -> Tensor:
    """½ max((V − R)², (V_clip − R)²), V_clip no further than ``clip`` from what was found before the round's first step
    (as in the code of Ziegler et al. 2019, arXiv:1909.08593; Engstrom et al. 2020, arXiv:2005.12729, §3). Shapes: (N,).
    """
    near_N = value_N.clamp(old_N - clip, old_N + clip)
    return torch.maximum((value_N - return_N).square(), (near_N - return_N).square()) / 2
