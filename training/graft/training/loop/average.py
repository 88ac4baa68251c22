"""A running mean of the weights, which is often better than the weights (Polyak & Juditsky 1992).

Its decay rises to its value, as in Tarvainen & Valpola 2017 (arXiv:1703.01780, §3.1): early weights are soon forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Average:
    """Of float32 masters, wherever they lie."""

    def __init__(self, masters: Mapping[str, Tensor], decay: float) -> None:
        self.means = {name: master.detach().clone() for name, master in masters.items()}
        self._decay = decay

    @torch.no_grad()
    def follow(self, step: int, masters: Mapping[str, Tensor]) -> None:
        """Takes in the weights after ``step``, counted from 0."""
        decay = min(self._decay, (step + 1) / (step + 10))
        for name, mean in self.means.items():
            mean.lerp_(masters[name], 1 - decay)
