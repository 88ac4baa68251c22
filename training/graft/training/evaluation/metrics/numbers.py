"""How well numbers are met."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def of_numbers(said: Sequence[float], right: Sequence[float]) -> dict[str, float]:
    """``pearson``, ``spearmanr`` (GLUE's names for the correlations of values and of ranks) and ``mse``. A correlation
    is 0 where either side is the same throughout.
    """
    import torch
    from torchmetrics.functional.regression import pearson_corrcoef

    given, wanted = np.asarray(said, dtype=np.float64), np.asarray(right, dtype=np.float64)
    varies = len(given) > 1 and np.ptp(given) > 0 and np.ptp(wanted) > 0
    sides = [torch.from_numpy(one) for one in (given, wanted)]
    ranks = [torch.from_numpy(_ranks(one)) for one in (given, wanted)]
    return {
        "pearson": float(pearson_corrcoef(*sides)) if varies else 0.0,
        "spearmanr": float(pearson_corrcoef(*ranks)) if varies else 0.0,
        "mse": float(np.square(given - wanted).mean()),
    }


def _ranks(values: np.ndarray) -> np.ndarray:
    """From 1; of equal values, the mean of theirs. torchmetrics' own correlation of ranks is off by 1e-6."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[places]
