"""How well classes are told apart: of rows that have one, and of rows that have several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


def of_one(said: Sequence[int], right: Sequence[int], *, num_classes: int) -> dict[str, float]:
    """``accuracy``; ``f1`` of class 1 where there are two; ``macro_f1``, the mean over classes; and
    ``matthews_correlation`` (Matthews 1975, eq. 1; for several classes Gorodkin 2004), which is 0 where one class is
    said, or right, throughout.
    """
    given, wanted = np.eye(num_classes, dtype=np.int64)[list(said)], np.eye(num_classes, dtype=np.int64)[list(right)]
    each = f1_of_each(given, wanted)
    return {
        "accuracy": float((given == wanted).all(1).mean()),
        **({"f1": float(each[1])} if num_classes == 2 else {}),
        "macro_f1": float(each.mean()),
        "matthews_correlation": _matthews(said, right, num_classes),
    }


def of_several(said: Numbers, right: Numbers) -> dict[str, float]:
    """``accuracy``: the share of rows whose classes are all right; ``micro_f1`` over all classes of all rows, and
    ``macro_f1``, the mean over classes. Shapes: (rows, classes), of 0 and 1.
    """
    return {
        "accuracy": float((said == right).all(1).mean()),
        "micro_f1": float(f1_of_each(said.reshape(-1, 1), right.reshape(-1, 1))[0]),
        "macro_f1": float(f1_of_each(said, right).mean()),
    }


def f1_of_each(said: Numbers, right: Numbers) -> NDArray[np.float64]:
    """2 TP / (2 TP + FP + FN) of each class, 0 of one that never occurs. Shapes: (rows, classes), of 0 and 1."""
    both, either = (said & right).sum(0), said.sum(0) + right.sum(0)
    found: NDArray[np.float64] = 2 * both / np.maximum(either, 1)
    return found


def _matthews(said: Sequence[int], right: Sequence[int], num_classes: int) -> float:
    import torch
    from torchmetrics.functional.classification import multiclass_matthews_corrcoef

    if len(set(said)) < 2 or len(set(right)) < 2:  # torchmetrics gives other numbers where it is not defined
        return 0.0
    return float(multiclass_matthews_corrcoef(torch.tensor(said), torch.tensor(right), num_classes=num_classes))
