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
