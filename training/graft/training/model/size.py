"""How large a model is."""

from __future__ import annotations

from dataclasses import dataclass

from graft.training.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a model is. What a family does not have, it leaves out."""

    width: int
    num_layers: int
    num_heads: int
    feed_forward: int
    length: int
    """Tokens that the model is made to read at once."""
    num_kv_heads: int | None = None
    """Default: as many as heads."""
    num_experts: int = 8
    window: int | None = None
    """Of sliding-window attention, in tokens; default: none."""
    dropout: float | None = None
    """Of embeddings and of what blocks add, none of attention; default: the architecture's own."""

    def __post_init__(self) -> None:
        if self.width % self.num_heads:
            raise ConfigurationError(
                f"a width of {self.width} cannot be split among {self.num_heads} heads; choose a multiple."
            )
        if (self.width // self.num_heads) % 2:
            raise ConfigurationError(
                f"{self.num_heads} heads of {self.width // self.num_heads} cannot turn in pairs: choose an even width."
            )
        if self.num_heads % self.kv_heads:
            raise ConfigurationError(
                f"{self.num_heads} heads cannot share {self.kv_heads} key-value heads; choose a divisor."
            )

    @property
    def kv_heads(self) -> int:
        return self.num_kv_heads or self.num_heads
