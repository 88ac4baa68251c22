"""How well classes are told apart: of rows that have one, and of rows that have several."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


def of_one(said: Sequence[int], right: Sequence[int], *, num_classes: int) -> dict[str, float]:
    """``accuracy``; ``f1`` of class 1 where there are two; ``macro_f1``, the mean over classes; and
    ``matthews_correlation`` (Matthews 1975, eq. 1; for several classes Gorodkin 2004), which is 0 where one class is
    said throughout.
    """
    from sklearn import metrics

    classes = list(range(num_classes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a file with one class only, whose correlation is 0
        matthews = float(metrics.matthews_corrcoef(right, said))
    each = metrics.f1_score(right, said, labels=classes, average=None, zero_division=0.0)
    return {
        "accuracy": float(metrics.accuracy_score(right, said)),
        **({"f1": float(each[1])} if num_classes == 2 else {}),
        "macro_f1": float(each.mean()),
        "matthews_correlation": matthews,
    }


def of_several(said: Numbers, right: Numbers) -> dict[str, float]:
    """``accuracy``: the share of rows whose classes are all right; ``micro_f1`` over all classes of all rows, and
    ``macro_f1``, the mean over classes. Shapes: (rows, classes), of 0 and 1.
    """
    from sklearn import metrics

    return {
        "accuracy": float((said == right).all(1).mean()),
        "micro_f1": float(metrics.f1_score(right, said, average="micro", zero_division=0.0)),
        "macro_f1": float(metrics.f1_score(right, said, average="macro", zero_division=0.0)),
    }
