"""Interleaved pairs of windows, so that what disturbs a machine disturbs both sides alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Window = Callable[[int], Awaitable[float]]
"""Measures once; the argument is the pair's number, from which all randomness comes."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What the two sides gave, in the unit of the windows."""

    first: float
    second: float

    @property
    def ratio(self) -> float:
        return self.first / self.second


def order_of(pair: int) -> tuple[int, int]:
    """Which side goes first: A B, B A, A B, … so that a drift favours neither."""
    return (0, 1) if pair % 2 == 0 else (1, 0)


async def measure_pairs(first: Window, second: Window, num_pairs: int, *, num_warm: int = 1) -> list[Pair]:
    """Run both windows once per pair, alternating; the first `num_warm` pairs warm up and are thrown away."""
    sides, pairs = (first, second), []
    for number in range(-num_warm, num_pairs):
        found = [0.0, 0.0]
        for side in order_of(number):
            found[side] = await sides[side](number)
        if number >= 0:
            pairs.append(Pair(first=found[0], second=found[1]))
    return pairs
