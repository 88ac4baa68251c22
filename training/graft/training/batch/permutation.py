"""The numbers below a bound in a random order, of which any stretch is computed by itself."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 8
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
"""SplitMix64's (Steele, Lea & Flood 2014, fig. 15)."""

Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Permutation(Sequence[int]):
    """``range(num)`` in an order that ``seed`` decides, in no memory: number ``i`` is ``i`` enciphered.

    A Feistel network (Luby & Rackoff 1988) permutes the numbers of an even count of bits; where it gives one that is
    ``num`` or more, that is enciphered again until it is below ("cycle walking": Black & Rogaway 2002, §3), fewer than
    four times on average.
    """

    num: int
    seed: str

    def __len__(self) -> int:
        return self.num

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice) -> list[int]: ...
    def __getitem__(self, at: int | slice) -> int | list[int]:
        if isinstance(at, slice):
            return self._enciphered(np.arange(*at.indices(self.num), dtype=np.uint64))
        return self._enciphered(np.array([range(self.num)[at]], dtype=np.uint64))[0]

    def _enciphered(self, numbers: Words) -> list[int]:
        half = max(1, -(-(self.num - 1).bit_length() // 2))
        keys = self._keys()
        found = _network(numbers, keys, half)
        while (outside := found >= self.num).any():
            found[outside] = _network(found[outside], keys, half)
        listed: list[int] = found.tolist()
        return listed

    def _keys(self) -> Words:
        digest = hashlib.sha512(f"{self.num}/{self.seed}".encode()).digest()
        return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


def _network(numbers: Words, keys: Words, half: int) -> Words:
    """A permutation of the numbers of twice ``half`` bits."""
    mask, bits = np.uint64((1 << half) - 1), np.uint64(half)
    left, right = numbers >> bits, numbers & mask
    for key in keys[:_ROUNDS]:
        left, right = right, left ^ (_mixed(right + key) & mask)
    return (left << bits) | right


def _mixed(words: Words) -> Words:
    """Each word so that all of its bits depend on all."""
    for shift, factor in zip((30, 27), _MULTIPLIERS, strict=True):
        words = (words ^ (words >> np.uint64(shift))) * np.uint64(factor)
    return words ^ (words >> np.uint64(31))
