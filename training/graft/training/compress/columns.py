"""Changing a layer's weight column by column, later columns making up for the errors of earlier ones (optimal brain
surgery as in Frantar et al. 2023: GPTQ, arXiv:2210.17323, and SparseGPT, arXiv:2301.00774).

The error of a layer's outputs over the calibration inputs X is tr(E H Eᵀ) with H = X Xᵀ; the weights that are still to
be changed move by what minimises it (GPTQ's eq. 2), through the Cholesky factor of H⁻¹ (its section 3.3, step 3).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_DAMPING = 0.01
BLOCK = 128
"""Columns whose errors are pushed on to all later ones together (GPTQ's section 3.3, step 2)."""
_TRIES = 8
"""Each with ten times the damping, up to far above every entry of what is finite."""


def inverse_factor(hessian_II: Tensor) -> Tensor:
    """Upper Cholesky factor of the damped inverse. Raises ``ArithmeticError`` for what is not finite."""
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


def change_columns(weight_OI: Tensor, factor_II: Tensor, replaced: Callable[[int, Tensor], Tensor]) -> Tensor:
    """The changed weight, float32. ``replaced`` gets a column's number and the weight as it has moved so far, in its
    block of ``BLOCK`` columns, and says what becomes of the column. Shape: (O,).
    """
    weight_OI = weight_OI.float().clone()
    for start in range(0, weight_OI.shape[1], BLOCK):
        stop = min(start + BLOCK, weight_OI.shape[1])
        error_OB = weight_OI.new_empty(weight_OI.shape[0], stop - start)
        for column in range(start, stop):
            new_O = replaced(column, weight_OI)
            error_O = (weight_OI[:, column] - new_O) / factor_II[column, column]
            weight_OI[:, column:stop] -= error_O[:, None] * factor_II[column, column:stop]
            weight_OI[:, column] = new_O
            error_OB[:, column - start] = error_O
        weight_OI[:, stop:] -= error_OB @ factor_II[start:stop, stop:]
    return weight_OI


def output_error(weight_OI: Tensor, changed_OI: Tensor, hessian_II: Tensor) -> float:
    """‖W X − W′ X‖² as a share of ‖W X‖², in float32; 0 where no input was ever seen."""

    def squares(error_OI: Tensor) -> float:
        return float(((error_OI @ hessian_II) * error_OI).sum())

    whole = squares(weight_OI.float())
    return squares(weight_OI.float() - changed_OI.float()) / whole if whole > 0 else 0.0
