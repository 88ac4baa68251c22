"""Next-token prediction by a mixture of experts, with the loss that keeps them equally busy.

Switch Transformer (Fedus et al. 2022, arXiv:2101.03961, eq. 4 to 6), over all layers together as Hugging Face has it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from graft.training.batch.packing import PackedBatch
from graft.training.model.family import facts_of
from graft.training.objective.causal import CausalObjective

BALANCE = 0.02
"""The factor of the second term, as in Mixtral-8x7B's configuration (``router_aux_loss_coef``)."""


@contextlib.contextmanager
def recorded_routers(model: nn.Module) -> Iterator[list[Tensor]]:
    """The logits of every router that runs inside the block, in order. Shapes: (tokens, experts)."""
    seen: list[Tensor] = []
    router = facts_of(model.config).router
    hooks = [
        module.register_forward_hook(lambda _, inputs, output: seen.append(output[0]))
        for module in model.modules()
        if type(module).__name__ == router
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def balance_loss(logits: list[Tensor], text_N: Tensor, *, num_chosen: int) -> Tensor:
    """Experts × Σ over experts of (share of the choices that fell on it × mean probability); ``num_chosen`` at best.

    Of the tokens ``text_N``, by their places or as true and false.
    """
    logits_NE = torch.cat([one[text_N] for one in logits]).float()
    num_experts = logits_NE.shape[-1]
    probability_NE = logits_NE.softmax(-1)
    chosen_NK = probability_NE.topk(num_chosen, dim=-1).indices
    share_E = functional.one_hot(chosen_NK, num_experts).float().sum(1).mean(0)
    return num_experts * (share_E * probability_NE.mean(0)).sum()


@dataclass(frozen=True, kw_only=True)
class ExpertsObjective:
    """The second term belongs to a micro-batch as a whole: of several, the mean by their tokens is taken."""

    causal: CausalObjective = field(default_factory=CausalObjective)
    balance: float = BALANCE

    @property
    def weights(self) -> Mapping[str, float]:
        return {**self.causal.weights, "balance": self.balance}

    def counts(self, batch: PackedBatch) -> Mapping[str, int]:
        return dict.fromkeys(self.weights, batch.num_labels)

    def sums(self, model: nn.Module, batch: PackedBatch) -> Mapping[str, Tensor]:
        with recorded_routers(model) as logits:
            sums = self.causal.sums(model, batch)
        chosen: int = model.config.num_experts_per_tok
        text_N = torch.nonzero_static(batch.document_BL.flatten(), size=batch.num_tokens)[:, 0]
        loss = balance_loss(logits, text_N, num_chosen=chosen)
        return {**sums, "balance": loss * batch.num_labels}
