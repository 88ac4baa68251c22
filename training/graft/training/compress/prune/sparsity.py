"""How many of a layer's weights become zeros, and where they may lie."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from graft.training.compress.columns import BLOCK
from graft.training.errors import ConfigurationError

_PATTERN = re.compile(r"([1-9]\d{0,3}):([1-9]\d{0,3})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Sparsity:
    """A share of zeros, from 0 to 1 without both; with ``group``, of every so many neighbours in a row."""

    share: float
    group: int | None = None

    @classmethod
    def anywhere(cls, share: float) -> Self:
        """Raises ``ConfigurationError`` for a share outside."""
        if not 0 < share < 1:
            raise ConfigurationError(f"--sparsity {share}: a share of zeros is above 0 and below 1, such as 0.5.")
        return cls(share=share)

    @classmethod
    def pattern(cls, text: str) -> Self:
        """``2:4``: two of four neighbours stay, as sparse tensor cores take it. Raises ``ConfigurationError``."""
        found = _PATTERN.fullmatch(text)
        stay, group = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 0 < stay < group or BLOCK % group:
            raise ConfigurationError(
                f"--pattern {text}: must be N:M, N of M neighbours stay, N below M, and M divides {BLOCK}, such as 2:4."
            )
        return cls(share=1 - stay / group, group=group)

    def __str__(self) -> str:
        if self.group is None:
            return f"{self.share:.4g}"
        return f"{self.group - self._zeros(self.group)}:{self.group}"

    def check(self, layers: Mapping[str, tuple[int, int]]) -> None:
        """``layers`` are (outputs, inputs) by path. Raises ``ConfigurationError``."""
        odd = [(path, inputs) for path, (_, inputs) in layers.items() if self.group and inputs % self.group]
        if odd:
            path, inputs = odd[0]
            raise ConfigurationError(
                f"--pattern {self}: {path} has {inputs} inputs, which {self.group} does not divide ({len(odd)} such "
                "layers); give --sparsity instead."
            )

    def lowest(self, scores_OI: Tensor, *, per_row: bool = False) -> Tensor:
        """Where zeros come: at the lowest scores of every group, else of each row or of all. Bool, shape (O, I)."""
        if self.group is not None:
            parts = scores_OI.reshape(-1, self.group)
        else:
            parts = scores_OI if per_row else scores_OI.reshape(1, -1)
        order = parts.argsort(dim=1, stable=True)
        mask = torch.zeros_like(parts, dtype=torch.bool)
        mask.scatter_(1, order[:, : self._zeros(parts.shape[1])], True)
        return mask.reshape(scores_OI.shape)

    def _zeros(self, num: int) -> int:
        return int(num * self.share + 1e-6)  # 0.3 of 10 is 3
