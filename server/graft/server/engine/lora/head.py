"""Heads of adapters in the engine's process, and their outputs in the place of next tokens' logits.

An adapter's head asks of a text what its last hidden state says: z = W h + b. The sampler draws nothing of that, but it
tells log-probabilities: output i stands at token id i, behind the last of them a zero, and -inf everywhere else, so
that z_i = log p_i - log p_n, exactly but for float32's rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

WEIGHT, BIAS = "head.weight", "head.bias"
"""Names in a slot image."""


@dataclass(frozen=True, kw_only=True)
class HeadWeights:
    """`weight_NH` of N outputs over hidden states of width H, and `bias_N` where the head has one; float32."""

    weight_NH: torch.Tensor
    bias_N: torch.Tensor | None

    @classmethod
    def of_image(cls, tensors: Mapping[str, torch.Tensor]) -> HeadWeights | None:
        """Copied out of a slot image's tensors; None where it brings no head."""
        if WEIGHT not in tensors:
            return None
        return cls(weight_NH=tensors[WEIGHT].clone(), bias_N=tensors[BIAS].clone() if BIAS in tensors else None)

    def outputs(self, hidden_RH: torch.Tensor) -> torch.Tensor:
        """Of shape [R, N], float32."""
        return torch.nn.functional.linear(hidden_RH.float(), self.weight_NH, self.bias_N)


def with_outputs(
    logits_RV: torch.Tensor, hidden_RH: torch.Tensor, adapters: Sequence[int], heads: Mapping[int, HeadWeights]
) -> torch.Tensor:
    """`logits_RV` with the outputs of heads in the rows of adapters that have one, by their engine ids; other rows say
    what they said. The same tensor where there is no such row; else in float32, which samplers compute in.
    """
    rows = {one: [row for row, adapter in enumerate(adapters) if adapter == one] for one in {*adapters} & heads.keys()}
    if not rows:
        return logits_RV
    made_RV = logits_RV.to(torch.float32, copy=True)
    for adapter, of_it in rows.items():
        outputs = heads[adapter].outputs(hidden_RH[of_it])
        num_labels = outputs.shape[1]
        made_RV[of_it] = -torch.inf
        made_RV[of_it, num_labels] = 0.0
        made_RV[of_it, :num_labels] = outputs
    return made_RV
