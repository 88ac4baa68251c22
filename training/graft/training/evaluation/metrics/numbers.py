"""How well numbers are met."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def of_numbers(said: Sequence[float], right: Sequence[float]) -> dict[str, float]:
    """``pearson``, ``spearmanr`` (GLUE's names for the correlations of values and of ranks) and ``mse``. A correlation
    is 0 where either side is the same throughout.
    """
    import torch
    from torchmetrics.functional.regression import pearson_corrcoef, spearman_corrcoef

    given, wanted = np.asarray(said, dtype=np.float64), np.asarray(right, dtype=np.float64)
    varies = len(given) > 1 and np.ptp(given) > 0 and np.ptp(wanted) > 0
    sides = torch.from_numpy(given), torch.from_numpy(wanted)
    return {
        "pearson": float(pearson_corrcoef(*sides)) if varies else 0.0,
        "spearmanr": float(spearman_corrcoef(*sides)) if varies else 0.0,
        "mse": float(np.square(given - wanted).mean()),
    }
