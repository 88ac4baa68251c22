"""How alike texts are by their words: BM25 (Robertson and Zaragoza 2009), and cosine between a few."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import bm25s
import numpy as np
from numpy.typing import NDArray

MAX_CHARACTERS = 2000
"""What stands behind them in a text is not compared."""

# A word, one character of a script that is written without blanks, or one sign.
_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+|[^\w\s]")


def words(text: str) -> list[str]:
    """In lower case; signs are words, since tasks may differ in nothing else."""
    return _WORDS.findall(text[:MAX_CHARACTERS].lower())


class Texts:
    """Texts that queries are compared with. May be read by several threads."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._words = [words(text) for text in texts]
        self._bm25 = None
        if any(self._words):
            self._bm25 = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
            self._bm25.index(self._words, show_progress=False)

    def __len__(self) -> int:
        return len(self._words)

    def scores(self, query: str) -> NDArray[np.float32]:
        """BM25 of each text for the query; 0 where they share no word. Shape: [texts]."""
        asked = words(query)
        if self._bm25 is None or not asked:
            return np.zeros(len(self), np.float32)
        found: NDArray[np.float32] = self._bm25.get_scores(asked)
        return found

    def nearest(self, query: str) -> list[int]:
        """All texts, the nearest first; of equals the earlier."""
        return [int(index) for index in np.argsort(-self.scores(query), kind="stable")]

    def cosines(self, indices: Sequence[int], query: str) -> Cosines:
        """Of the query, which is row 0, and of these texts, in their order from row 1 on."""
        return Cosines([words(query), *(self._words[index] for index in indices)])


class Cosines:
    """Cosines between a few bags of words, each word weighted by its count and its rarity among the bags."""

    def __init__(self, bags: Sequence[Sequence[str]]) -> None:
        counts = [Counter(bag) for bag in bags]
        frequency = Counter(word for count in counts for word in count)
        rarity = {word: math.log(1 + len(bags) / number) for word, number in frequency.items()}
        self._weights = [_of_length_one({word: n * rarity[word] for word, n in count.items()}) for count in counts]
        columns: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for row, weights in enumerate(self._weights):
            for word, weight in weights.items():
                columns[word].append((row, weight))
        self._columns = {
            word: (np.array([row for row, _ in found]), np.array([weight for _, weight in found]))
            for word, found in columns.items()
        }

    def of(self, row: int) -> NDArray[np.float64]:
        """One bag's cosine with every bag; 0 for one without words. Shape: [bags]."""
        found = np.zeros(len(self._weights))
        for word, weight in self._weights[row].items():
            rows, weights = self._columns[word]
            found[rows] += weight * weights
        return found


def _of_length_one(weights: dict[str, float]) -> dict[str, float]:
    length = math.sqrt(math.fsum(weight * weight for weight in weights.values()))
    return {word: weight / length for word, weight in weights.items()}
