"""How alike two texts are, from 0 to 1. Words are what stands between blanks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

MAX_ITEMS = 20_000
"""Characters or words that are compared; what stands behind them is left out."""


def common(left: Sequence[object], right: Sequence[object]) -> int:
    """Length of the longest common subsequence, by words of bits (Hyyrö 2004)."""
    left, right = left[:MAX_ITEMS], right[:MAX_ITEMS]
    places: dict[object, int] = {}
    for index, item in enumerate(left):
        places[item] = places.get(item, 0) | 1 << index
    full = (1 << len(left)) - 1
    row = full
    for item in right:
        matches = row & places.get(item, 0)
        row = (row + matches | row - matches) & full
    return len(left) - row.bit_count()


def fuzzy_match(text: str, reference: str) -> float:
    """1 minus the insertions and deletions between the texts over their length, as rapidfuzz's ``ratio`` has it."""
    length = len(text[:MAX_ITEMS]) + len(reference[:MAX_ITEMS])
    return 2 * common(text, reference) / length if length else 1.0


def rouge_l(text: str, reference: str) -> float:
    """F1 over the longest common subsequence of words (Lin 2004)."""
    said, right = _words(text), _words(reference)
    return _f1(common(said, right), len(said[:MAX_ITEMS]), len(right[:MAX_ITEMS]))


def rouge(order: int, text: str, reference: str) -> float:
    """F1 over runs of ``order`` words (Lin 2004)."""
    said, right = _runs(_words(text), order), _runs(_words(reference), order)
    return _f1((said & right).total(), said.total(), right.total())


def bleu(text: str, reference: str) -> float:
    """Sentence BLEU of up to four words with brevity penalty, not smoothed (Papineni et al. 2002)."""
    said, right = _words(text), _words(reference)
    if not said:
        return 0.0
    logs = 0.0
    for order in range(1, 5):
        runs = _runs(said, order)
        kept = (runs & _runs(right, order)).total()
        if not kept:
            return 0.0
        logs += math.log(kept / runs.total()) / 4
    return min(1.0, math.exp(1 - len(right) / len(said))) * math.exp(logs)


def gleu(text: str, reference: str) -> float:
    """The lesser of precision and recall over all runs of one to four words (Wu et al. 2016, arXiv:1609.08144)."""
    said = sum((_runs(_words(text), order) for order in range(1, 5)), Counter[tuple[str, ...]]())
    right = sum((_runs(_words(reference), order) for order in range(1, 5)), Counter[tuple[str, ...]]())
    most = max(said.total(), right.total())
    return (said & right).total() / most if most else 0.0


LIKENESSES: dict[str, Callable[[str, str], float]] = {
    "fuzzy_match": fuzzy_match,
    "bleu": bleu,
    "gleu": gleu,
    **{f"rouge_{order}": partial(rouge, order) for order in range(1, 6)},
    "rouge_l": rouge_l,
}


def _words(text: str) -> list[str]:
    return text.lower().split()


def _runs(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[at : at + order]) for at in range(len(words) - order + 1))


def _f1(common_items: int, said: int, right: int) -> float:
    return 2 * common_items / (said + right) if common_items else 0.0
