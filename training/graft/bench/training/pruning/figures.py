"""What is known of one pruned base."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The plain base's stand under ``plain``, others under ``METHOD_SPARSITY``."""

    zeros: float
    """Share of the weights of the blocks' layers."""
    error: float | None
    """Mean over the layers of ‖WX − W′X‖² / ‖WX‖² on the calibration text."""
    perplexity: float
    recovered_perplexity: float | None
    """With the adapter."""
    dense_bytes: int
    """Of the weight files."""
    sparse_bytes: int
    """If of each pruned layer the other weights were kept, with a bit for each place, or for a pattern each one's place
    in its group (two bits of 2:4, as sparse tensor cores read it).
    """
    tokens_per_second: float
    """Through the whole model, whose zeros are multiplied like any weight."""
    sparse_speed: float | None
    """Of the pruned layers' products in torch's sparse form, to that of dense ones; None where torch has none."""
