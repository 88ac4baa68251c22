"""Zeros at the lowest scores, the other weights as they are."""

from __future__ import annotations

from torch import Tensor

from graft.training.compress.prune.sparsity import Sparsity


def magnitude(weight_OI: Tensor, sparsity: Sparsity) -> Tensor:
    """The smallest of the whole layer: every layer has the same share (the baseline of SparseGPT and Wanda)."""
    return weight_OI.masked_fill(sparsity.lowest(weight_OI.abs()), 0)


def wanda(weight_OI: Tensor, hessian_II: Tensor, sparsity: Sparsity) -> Tensor:
    """|W| · ‖X‖₂, compared within each output's row (Sun et al. 2023, arXiv:2306.11695, eq. 1 and section 3).

    ``hessian_II`` is the sum of x xᵀ over the calibration inputs.
    """
    scores_OI = weight_OI.float().abs() * hessian_II.diagonal().sqrt()
    return weight_OI.masked_fill(sparsity.lowest(scores_OI, per_row=True), 0)
