"""Runs of n tokens, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def ngrams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    """Each run of n tokens with how often it stands there."""
    return Counter(zip(*(tokens[at:] for at in range(n)), strict=False))


def harmonic(precision: float, recall: float) -> float:
    """F1; 0 where both are."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
