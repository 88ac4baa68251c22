"""Shares of right answers with Wilson's interval (Wilson 1927), which holds where all or none were right, too."""

from __future__ import annotations

import math

Z = 1.959963984540054
"""The standard normal's quantile at 97.5 %: 95 % lie between."""


def wilson(num_right: int, num: int) -> tuple[float, float]:
    """The 95 % interval of the share. Raises ValueError where there are none, or more right ones than all."""
    if num < 1 or not 0 <= num_right <= num:
        raise ValueError(f"{num_right} of {num} is no share")
    share, square = num_right / num, Z * Z
    middle = (share + square / (2 * num)) / (1 + square / num)
    half = Z * math.sqrt(share * (1 - share) / num + square / (4 * num * num)) / (1 + square / num)
    low = 0.0 if num_right == 0 else middle - half
    return low, 1.0 if num_right == num else middle + half


def newcombe(both: int, better: int, worse: int, neither: int) -> tuple[float, float]:
    """The 95 % interval of the difference of two shares on the same questions, by Newcombe (1998, Statistics in
    Medicine 17: 2635-2650, method 10): Wilson's of each, and their correlation with a continuity correction.

    ``better``: right in the first share alone, ``worse``: in the second alone.
    """
    num = both + better + worse + neither
    first, second = both + better, both + worse
    (low, high), (other_low, other_high) = wilson(first, num), wilson(second, num)
    share, other = first / num, second / num
    product = both * neither - better * worse
    corrected = max(product - num / 2, 0.0) if product >= 0 else product
    spread = math.sqrt(first * (num - first) * second * (num - second))
    phi = corrected / spread if spread else 0.0
    return (
        share - other - _beside(share - low, other_high - other, phi),
        share - other + _beside(high - share, other - other_low, phi),
    )


def _beside(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))
