"""SparseGPT (Frantar & Alistarh 2023, arXiv:2301.00774, algorithm 1): zeros where they cost least, and the weights to
the right of each make up for it (see ``columns``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from graft.training.compress.columns import BLOCK, change_columns, inverse_factor
from graft.training.compress.prune.sparsity import Sparsity


def sparsegpt(weight_OI: Tensor, hessian_II: Tensor, sparsity: Sparsity) -> Tensor:
    """The weight with its zeros, float32. ``hessian_II`` is the sum of x xᵀ over the calibration inputs.

    Zeros are chosen anew for each block of 128 columns, among all its rows, or for each group of a pattern (section
    3.3), by w² / [H⁻¹]² of the weights as they have moved until then.
    """
    factor_II = inverse_factor(hessian_II)
    cost_I = factor_II.diagonal().square()
    span = sparsity.group or BLOCK
    becomes_zero_OI = torch.zeros_like(weight_OI, dtype=torch.bool)

    def pruned(column: int, current_OI: Tensor) -> Tensor:
        if column % span == 0:
            own = slice(column, column + span)
            becomes_zero_OI[:, own] = sparsity.lowest(current_OI[:, own].square() / cost_I[own])
        return current_OI[:, column].masked_fill(becomes_zero_OI[:, column], 0)

    return change_columns(weight_OI, factor_II, pruned)
