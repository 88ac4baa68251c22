"""What an adapter is, before it learns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.settings import AdaptSettings
from graft.training.service.refusal import Kind, Refusal

ALPHA = 32.0
"""Of every adapter, whatever its rank (as Tinker has it: Schulman et al. 2025, "LoRA without regret")."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Of a LoRA adapter."""

    rank: int
    seed: int = 0
    """Of its first numbers."""
    attention: bool = True
    """Whether the layers of attention learn."""
    feedforward: bool = True
    """Whether those beside attention do."""

    def settings(self, base: Adaptable, *, max_rank: int) -> AdaptSettings:
        """Raises ``Refusal``, with all that is wrong."""
        reasons = []
        if not 1 <= self.rank <= max_rank:
            reasons.append(
                f"the rank is {self.rank}; it must be from 1 to {max_rank}, the largest that the server takes"
            )
        paths = [path for path in base.layers if (self.attention if _attends(path) else self.feedforward)]
        if not paths:
            reasons.append("no layer learns: let those of attention or the others learn")
        if reasons:
            raise Refusal(Kind.INVALID, f"{'; '.join(reasons)}.")
        names = tuple(sorted({path.rpartition(".")[2] for path in paths}))
        values: dict[str, Any] = {"r": self.rank, "lora_alpha": ALPHA, "target_modules": names, "seed": self.seed}
        return AdaptSettings.from_mapping(values)

    def told(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, told: dict[str, Any]) -> Self:
        return cls(**told)


def _attends(path: str) -> bool:
    return "attn" in path or "attention" in path
