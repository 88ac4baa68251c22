"""What counting alone knows of text: a unigram and a trigram model, to stand beside a trained one.

The trigram is interpolated Kneser–Ney (Kneser & Ney 1995; Chen & Goodman 1999, eq. 20 to 23): each order takes a fixed
discount from its counts and leaves it to the next, in which a token counts for the contexts it was seen in.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from graft.training.corpus.packing import IGNORED, PackedBatch
from graft.training.objective.objective import Batch

MAX_TOKENS = 5_000_000
"""Texts beyond this are counted up to it: the tables are Python's."""


class NGrams:
    """Counts of a text's tokens, pairs and triples."""

    def __init__(self, documents: Iterable[Sequence[int]], *, vocab_size: int) -> None:
        self._unigrams: Counter[int] = Counter()
        triples: Counter[tuple[int, int, int]] = Counter()
        self._between: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
        room = MAX_TOKENS
        for document in documents:
            ids = document[:room]
            room -= len(ids)
            self._unigrams.update(ids)
            triples.update(zip(ids, ids[1:], ids[2:], strict=False))
            for left, middle, right in zip(ids, ids[1:], ids[2:], strict=False):
                self._between[left, right][middle] += 1
        self._vocab_size, self._total = vocab_size, sum(self._unigrams.values())
        self._triples = _Discounted(triples)
        pairs = Counter((middle, right) for _, middle, right in triples)
        self._pairs = _Discounted(pairs)
        self._contexts = Counter(right for _, right in pairs)
        self._num_pairs = sum(self._contexts.values())

    def unigram(self, token: int) -> float:
        """p(token), one added to every count."""
        return (self._unigrams[token] + 1) / (self._total + self._vocab_size)

    def trigram(self, before: tuple[int, int] | tuple[int], token: int) -> float:
        """p(token | the one or two tokens before it)."""
        lowest = (self._contexts[token] + 1) / (self._num_pairs + self._vocab_size)
        pair = self._pairs.mixed((before[-1],), token, lowest)
        return pair if len(before) < 2 else self._triples.mixed(before, token, pair)

    def fill(self, left: int, right: int) -> int:
        """The token seen most often between two, and where nothing was, the most frequent of all."""
        seen = self._between.get((left, right))
        return (seen or self._unigrams).most_common(1)[0][0]

    @property
    def commonest(self) -> int:
        return self._unigrams.most_common(1)[0][0]


class _Discounted:
    """One order: counts of tokens behind their contexts."""

    def __init__(self, counts: Counter[Any]) -> None:
        once, twice = (sum(1 for count in counts.values() if count == number) for number in (1, 2))
        self._discount = once / (once + 2 * twice) if once else 0.5
        self._counts = counts
        self._totals: Counter[Any] = Counter()
        self._kinds: Counter[Any] = Counter()
        for ngram, count in counts.items():
            self._totals[ngram[:-1]] += count
            self._kinds[ngram[:-1]] += 1

    def mixed(self, context: tuple[int, ...], token: int, lower: float) -> float:
        total = self._totals[context]
        if total == 0:
            return lower
        own = max(self._counts[(*context, token)] - self._discount, 0.0)
        return (own + self._discount * self._kinds[context] * lower) / total


def measure(ngrams: NGrams, batches: Iterable[Any]) -> dict[str, float]:
    """The figures that ``HeldOut`` gives for a model, of the same tokens in the same batches, under names that begin
    with ``unigram_`` and ``trigram_``: perplexity of next tokens, or accuracy on masked ones. Empty for others.
    """
    kept = list(batches)
    if all(isinstance(batch, PackedBatch) for batch in kept):
        return _perplexities(ngrams, kept)
    if all(isinstance(batch, Batch) and "masked" in batch.labels for batch in kept):
        return _accuracies(ngrams, kept)
    return {}


def _perplexities(ngrams: NGrams, batches: Iterable[PackedBatch]) -> dict[str, float]:
    unigram, trigram, num = 0.0, 0.0, 0
    for batch in batches:
        rows = zip(batch.input_ids_BL.tolist(), batch.labels_BL.tolist(), batch.position_ids_BL.tolist(), strict=True)
        for ids, labels, positions in rows:
            for at, label in enumerate(labels):
                if label == IGNORED:
                    continue
                before = (ids[at - 1], ids[at]) if positions[at] > 0 else (ids[at],)
                unigram -= math.log(ngrams.unigram(label))
                trigram -= math.log(ngrams.trigram(before, label))
                num += 1
    found = {"unigram_perplexity": unigram, "trigram_perplexity": trigram}
    return {name: math.exp(total / max(1, num)) for name, total in found.items()}


def _accuracies(ngrams: NGrams, batches: Iterable[Batch]) -> dict[str, float]:
    """The trigram fills in what it saw between the two neighbours, which may be masks themselves."""
    commonest, between, num = 0, 0, 0
    for batch in batches:
        ids, labels = batch.inputs["input_ids"], batch.labels["masked"]
        for row, at in torch.nonzero(labels != IGNORED).tolist():
            label = int(labels[row, at])
            commonest += label == ngrams.commonest
            between += label == ngrams.fill(int(ids[row, at - 1]), int(ids[row, at + 1]))
            num += 1
    return {"unigram_accuracy": commonest / max(1, num), "trigram_accuracy": between / max(1, num)}
