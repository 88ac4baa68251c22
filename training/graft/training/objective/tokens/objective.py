"""The sum of a loss over tokens. Legend: N tokens of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from graft.training.objective.label_logprobs import label_logprobs
from graft.training.objective.masks import attention_inputs
from graft.training.objective.tokens.batch import TokenBatch
from graft.training.objective.tokens.losses import TokenLoss

SUM = "tokens"


@dataclass(frozen=True, kw_only=True)
class TokenObjective:
    """Of one call: steps take means, and the factor of this one is the number of all the call's tokens."""

    loss: TokenLoss
    num_tokens: int
    """In all batches."""
    options: Mapping[str, float] = field(default_factory=dict)
    """What the loss's own are not to be."""
    tell: Callable[[TokenBatch, Tensor], None] = lambda batch, logprob_N: None
    """Hears log p of each token, without a gradient."""

    @property
    def weights(self) -> Mapping[str, float]:
        return {SUM: float(self.num_tokens)}

    def counts(self, batch: TokenBatch) -> Mapping[str, int]:
        return {SUM: batch.num_tokens}

    def sums(self, model: nn.Module, batch: TokenBatch) -> Mapping[str, Tensor]:
        logprob_N = label_logprobs(
            model,
            batch.packed.labels_BL,
            num_asked=batch.num_tokens,
            input_ids=batch.packed.input_ids_BL,
            position_ids=batch.packed.position_ids_BL,
            use_cache=False,
            **attention_inputs(model, batch.packed),
        )
        self.tell(batch, logprob_N.detach())
        return {SUM: self.loss_of(logprob_N, batch).sum()}

    def loss_of(self, logprob_N: Tensor, batch: TokenBatch) -> Tensor:
        """Of each token. Shapes: (N,)."""
        said = {**self.loss.options, **self.options}
        options = {name: torch.tensor(value, device=logprob_N.device) for name, value in said.items()}
        return self.loss.losses(logprob_N, {**options, **batch.given})
