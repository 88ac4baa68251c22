"""SparseGPT straight from its paper, in float64: no Cholesky factor, no lazy blocks of errors."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK, DAMPING = 128, 0.01


def slow_sparsegpt(weight: Tensor, hessian: Tensor, share: float, group: int | None = None) -> Tensor:
    """Column by column: the inverse Hessian of the columns that are left (eq. 4, one step of Gaussian elimination), the
    best move of all later columns (eq. 3), zeros chosen at every 128th column, or every `group`-th.
    """
    weight, hessian = weight.double().clone(), hessian.double().clone()
    hessian += DAMPING * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=torch.float64)
    inverse, costs, rows = torch.linalg.inv(hessian), [], []
    for _ in range(len(hessian)):
        costs.append(inverse[0, 0].clone())
        rows.append(inverse[0].clone())
        inverse = (inverse - torch.outer(inverse[:, 0], inverse[0]) / inverse[0, 0])[1:, 1:]
    zero = torch.zeros_like(weight, dtype=torch.bool)
    for column in range(weight.shape[1]):
        width = group or BLOCK
        if column % width == 0:
            stop = min(column + width, weight.shape[1])
            scores = weight[:, column:stop] ** 2 / torch.stack(costs[column:stop])
            parts = [scores] if group is None else list(scores)  # all rows together, or each row for itself
            marks = []
            for part in parts:
                count = int(part.numel() * share + 1e-9)
                mark = torch.zeros(part.numel(), dtype=torch.bool)
                mark[part.flatten().argsort()[:count]] = True
                marks.append(mark.reshape(part.shape))
            zero[:, column:stop] = marks[0] if group is None else torch.stack(marks)
        moved = torch.where(zero[:, column], 0.0, weight[:, column])
        error = (weight[:, column] - moved) / costs[column]
        weight[:, column:] -= torch.outer(error, rows[column])
        weight[:, column] = moved
    return weight


def exact_weights(weight: Tensor, hessian: Tensor, zero: Tensor) -> Tensor:
    """For given zeros, each row's least squares: what no method can do better than."""
    weight, hessian, found = weight.double(), hessian.double(), torch.zeros_like(weight, dtype=torch.float64)
    for row in range(len(weight)):
        kept = ~zero[row]
        found[row, kept] = torch.linalg.solve(hessian[kept][:, kept], hessian[kept] @ weight[row])
    return found


def output_square(weight: Tensor, changed: Tensor, inputs: Tensor) -> float:
    """‖W X − W′ X‖², from the inputs themselves; they are (tokens, width)."""
    return float(((weight.double() - changed.double()) @ inputs.double().T).square().sum())
