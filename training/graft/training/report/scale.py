"""From numbers to places on a drawing, and the round numbers beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

_ROUND = (1, 2, 5, 10)
_FROM_ZERO = 0.4
"""What begins below this share of its end begins at zero: how far it fell is seen."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """``low`` lies at ``start``, ``high`` at ``end``."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def of(cls, values: Sequence[float], *, start: float, end: float, has_room: bool = False) -> Self:
        """For these values. ``has_room``: around them, and from zero where that is near. Raises ``ValueError`` where
        there are none.
        """
        low, high = float(min(values)), float(max(values))
        if has_room:
            room = 0.06 * (high - low) or 0.5 * abs(high) or 1.0
            low, high = 0.0 if 0 <= low <= _FROM_ZERO * high else low - room, high + room
        elif low == high:
            low, high = low - 0.5, high + 0.5
        return cls(low=low, high=high, start=start, end=end)

    def at(self, value: float) -> float:
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)


def ticks(low: float, high: float, *, most: int) -> list[tuple[float, str]]:
    """Up to ``most`` and one multiples of 1, 2 or 5 times a power of ten, as they are written."""
    raw = (high - low) / most
    power = math.floor(math.log10(raw))
    step = next(factor * 10.0**power for factor in _ROUND if factor * 10.0**power >= raw * (1 - 1e-9))
    values = [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    return [(value, _said(value, step)) for value in values]


def _said(value: float, step: float) -> str:
    if value and (abs(value) >= 1e6 or step < 1e-4):
        return f"{value:.3g}"
    return f"{value:,.{max(0, -math.floor(math.log10(step)))}f}"
