"""GPTQ (Frantar et al. 2023, arXiv:2210.17323): rounding in which later columns make up for the errors of earlier ones.

The error of a layer's outputs over the calibration inputs X is tr(E H Eᵀ) with H = X Xᵀ (eq. 1); column by column, the
weights not yet rounded move by what minimises it (eq. 2), through the Cholesky factor of H⁻¹ (section 3.3, step 3).
"""

from __future__ import annotations

import torch
from torch import Tensor

from graft.training.compress.rounding import IntegerWeight, best_scales, codes, spread

_DAMPING = 0.01
_BLOCK = 128
_TRIES = 8
"""Each with ten times the damping, up to far above every entry of what is finite."""


def gptq(weight_OI: Tensor, hessian_II: Tensor, *, bits: int, group_size: int) -> IntegerWeight:
    """Rounds in order of falling importance (the paper's code: `act-order`), with scales fixed beforehand.

    ``hessian_II`` is the sum of x xᵀ over the calibration inputs, float32. Inputs never seen keep their nearest codes.
    Raises ArithmeticError where it is not finite.
    """
    importance_I = hessian_II.diagonal()
    scales_OG = best_scales(weight_OI, importance_I, bits=bits, group_size=group_size)
    order_I = importance_I.argsort(descending=True)
    permuted = _round_columns(
        weight_OI.float()[:, order_I],
        spread(scales_OG, weight_OI)[:, order_I],
        _inverse_factor(hessian_II[order_I][:, order_I]),
        bits,
    )
    return IntegerWeight(codes_OI=permuted[:, order_I.argsort()], scales_OG=scales_OG, bits=bits)


def _round_columns(weight_OI: Tensor, scale_OI: Tensor, factor_II: Tensor, bits: int) -> Tensor:
    weight_OI, rounded_OI = weight_OI.clone(), torch.empty_like(weight_OI, dtype=torch.int8)
    for start in range(0, weight_OI.shape[1], _BLOCK):
        stop = min(start + _BLOCK, weight_OI.shape[1])
        error_OB = weight_OI.new_empty(weight_OI.shape[0], stop - start)
        for column in range(start, stop):
            scale_O = scale_OI[:, column]
            rounded_OI[:, column] = codes(weight_OI[:, column], scale_O, bits)
            error_O = (weight_OI[:, column] - rounded_OI[:, column] * scale_O) / factor_II[column, column]
            weight_OI[:, column:stop] -= error_O[:, None] * factor_II[column, column:stop]
            error_OB[:, column - start] = error_O
        weight_OI[:, stop:] -= error_OB @ factor_II[start:stop, stop:]
    return rounded_OI


def _inverse_factor(hessian_II: Tensor) -> Tensor:
    """Upper Cholesky factor of the damped inverse."""
    hessian_II = hessian_II.clone()
    diagonal_I = hessian_II.diagonal()  # a view
    damping = _DAMPING * max(float(diagonal_I.mean()), 1e-8)
    for _ in range(_TRIES):
        diagonal_I += damping
        lower_II, failed = torch.linalg.cholesky_ex(hessian_II)
        if not failed:
            return torch.linalg.cholesky(torch.cholesky_inverse(lower_II), upper=True)
        damping *= 10
    raise ArithmeticError("the Hessian of the calibration inputs is not finite")
