"""GPTQ (Frantar et al. 2023, arXiv:2210.17323): rounding in which later columns make up for the errors of earlier ones
(see ``columns``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from graft.training.compress.columns import change_columns, inverse_factor
from graft.training.compress.rounding import IntegerWeight, best_scales, codes, spread


def gptq(
    weight_OI: Tensor, hessian_II: Tensor, *, bits: int, group_size: int, keep_zeros: bool = False
) -> IntegerWeight:
    """Rounds in order of falling importance (the paper's code: `act-order`), with scales fixed beforehand.

    ``hessian_II`` is the sum of x xᵀ over the calibration inputs, float32. Inputs never seen keep their nearest codes.
    With ``keep_zeros`` what is zero stays so, and the other weights make up for it (SparseGPT's section 3.5).
    """
    importance_I = hessian_II.diagonal()
    scales_OG = best_scales(weight_OI, importance_I, bits=bits, group_size=group_size)
    order_I = importance_I.argsort(descending=True)
    scale_OI, is_zero_OI = (one[:, order_I] for one in (spread(scales_OG, weight_OI), weight_OI == 0))
    rounded_OI = torch.empty_like(weight_OI, dtype=torch.int8)

    def rounded(column: int, current_OI: Tensor) -> Tensor:
        codes_O = codes(current_OI[:, column], scale_OI[:, column], bits)
        if keep_zeros:
            codes_O = codes_O.masked_fill(is_zero_OI[:, column], 0)
        rounded_OI[:, column] = codes_O
        return codes_O * scale_OI[:, column]

    change_columns(weight_OI[:, order_I], inverse_factor(hessian_II[order_I][:, order_I]), rounded)
    return IntegerWeight(codes_OI=rounded_OI[:, order_I.argsort()], scales_OG=scales_OG, bits=bits)
