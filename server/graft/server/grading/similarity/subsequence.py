"""The longest common subsequence, by bits: Hyyrö 2004, "Bit-parallel LCS-length computation revisited"."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence


def common_length(left: Sequence[Hashable], right: Sequence[Hashable]) -> int:
    """Length of the longest subsequence of both, in len(left) · len(right) / 64 word operations."""
    places: dict[Hashable, int] = defaultdict(int)
    for at, one in enumerate(left):
        places[one] |= 1 << at
    whole = (1 << len(left)) - 1
    row = whole
    for one in right:
        matched = row & places.get(one, 0)
        row = ((row + matched) | (row - matched)) & whole
    return len(left) - row.bit_count()
