"""What counting alone knows of text: a unigram and a trigram model, to stand beside a trained one.

The trigram is interpolated Kneser–Ney (Kneser & Ney 1995; Chen & Goodman 1999, eq. 20 to 23): each order takes a fixed
discount from its counts and leaves it to the next, in which a token counts for the contexts it was seen in. All of the
text is counted, as the trained model sees all of it. Legend: N tokens asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from graft.training.batch.batch import Batch
from graft.training.batch.packing import IGNORED, PackedBatch

CHUNK_TOKENS = 4_000_000
"""Tokens that are sorted at a time."""
NONE = -1
"""In place of a token before a document's first."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How often each of many numbers was seen, without a Python object for each: sorted keys and their counts, both of
    shape (K,), int64.
    """

    keys: Tensor
    counts: Tensor

    @classmethod
    def of(cls, keys: Tensor) -> Self:
        found, counts = keys.unique(return_counts=True)
        return cls(keys=found, counts=counts)

    def with_keys(self, keys: Tensor) -> Counts:
        """These, and further keys."""
        added = Counts.of(keys)
        every, places = torch.cat((self.keys, added.keys)).unique(return_inverse=True)
        counts = torch.zeros(len(every), dtype=torch.long)
        return Counts(keys=every, counts=counts.index_add_(0, places, torch.cat((self.counts, added.counts))))

    def at(self, keys_N: Tensor) -> Tensor:
        """How often each was seen, as float64: 0 where it was not."""
        if not len(self.keys):
            return torch.zeros(len(keys_N), dtype=torch.double)
        places_N = torch.searchsorted(self.keys, keys_N).clamp(max=len(self.keys) - 1)
        return torch.where(self.keys[places_N] == keys_N, self.counts[places_N], 0).double()


class NGrams:
    """Counts of a text's tokens, pairs and triples."""

    def __init__(self, documents: Iterable[Sequence[int]], *, vocab_size: int) -> None:
        self._size = vocab_size
        self._unigrams = torch.zeros(vocab_size, dtype=torch.long)
        triples = Counts.of(torch.empty(0, dtype=torch.long))
        for ids, is_begun in _chunks(documents):
            self._unigrams += torch.bincount(ids, minlength=vocab_size)
            keys = (ids[:-2] * vocab_size + ids[1:-1]) * vocab_size + ids[2:]
            triples = triples.with_keys(keys[~(is_begun[1:-1] | is_begun[2:])])
        self._triples = _Discounted(triples, vocab_size)
        pairs = Counts.of(triples.keys % vocab_size**2)  # each triple once
        self._pairs = _Discounted(pairs, vocab_size)
        self._contexts = torch.bincount(pairs.keys % vocab_size, minlength=vocab_size)

    def unigrams(self, token_N: Tensor) -> Tensor:
        """p(token) of each, one added to every count."""
        return (self._unigrams[token_N] + 1).double() / (int(self._unigrams.sum()) + self._size)

    def trigrams(self, left_N: Tensor, middle_N: Tensor, token_N: Tensor) -> Tensor:
        """p(token | left, middle) of each; ``left`` may be ``NONE``."""
        lowest_N = (self._contexts[token_N] + 1).double() / (int(self._contexts.sum()) + self._size)
        pair_N = self._pairs.mixed(middle_N, token_N, lowest_N)
        both_N = self._triples.mixed(left_N.clamp(min=0) * self._size + middle_N, token_N, pair_N)
        return torch.where(left_N == NONE, pair_N, both_N)

    def fill(self, left: int, right: int) -> int:
        """The token seen most often between two, and where nothing was, the most frequent of all."""
        between = self._between
        begin, end = torch.searchsorted(
            between.keys, torch.tensor([0, self._size]) + (left * self._size + right) * self._size
        )
        if begin == end:
            return self.commonest
        return int(between.keys[begin + between.counts[begin:end].argmax()] % self._size)

    @property
    def commonest(self) -> int:
        return int(self._unigrams.argmax())

    @cached_property
    def _between(self) -> Counts:
        """The triples again, sorted by their ends."""
        counts, size = self._triples.counts, self._size
        left, middle, right = counts.keys // size**2, counts.keys // size % size, counts.keys % size
        keys, order = ((left * size + right) * size + middle).sort()
        return Counts(keys=keys, counts=counts.counts[order])


def _chunks(documents: Iterable[Sequence[int]]) -> Iterable[tuple[Tensor, Tensor]]:
    """Many tokens at a time, and which of them begin a document. No document is divided."""
    ids: list[int] = []
    begins: list[int] = []
    for document in documents:
        begins.append(len(ids))
        ids += document
        if len(ids) >= CHUNK_TOKENS:
            yield _chunk(ids, begins)
            ids, begins = [], []
    if ids:
        yield _chunk(ids, begins)


def _chunk(ids: list[int], begins: list[int]) -> tuple[Tensor, Tensor]:
    is_begun = torch.zeros(len(ids) + 1, dtype=torch.bool)  # an empty document may be the last
    is_begun[begins] = True
    return torch.tensor(ids), is_begun[:-1]


class _Discounted:
    """One order: counts of tokens behind their contexts."""

    def __init__(self, counts: Counts, size: int) -> None:
        once, twice = (int((counts.counts == number).sum()) for number in (1, 2))
        self._discount = once / (once + 2 * twice) if once else 0.5
        self.counts, self._size = counts, size
        contexts, places, kinds = torch.unique_consecutive(counts.keys // size, return_inverse=True, return_counts=True)
        totals = torch.zeros(len(contexts), dtype=torch.long).index_add_(0, places, counts.counts)
        self._totals, self._kinds = Counts(keys=contexts, counts=totals), Counts(keys=contexts, counts=kinds)

    def mixed(self, context_N: Tensor, token_N: Tensor, lower_N: Tensor) -> Tensor:
        total_N, kinds_N = self._totals.at(context_N), self._kinds.at(context_N)
        own_N = (self.counts.at(context_N * self._size + token_N) - self._discount).clamp(min=0.0)
        found_N = (own_N + self._discount * kinds_N * lower_N) / total_N
        return torch.where(total_N == 0, lower_N, found_N)


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
        ids_BL, asked_BL = batch.input_ids_BL, batch.labels_BL != IGNORED
        left_BL = torch.where(batch.position_ids_BL > 0, ids_BL.roll(1, dims=1), NONE)
        label_N = batch.labels_BL[asked_BL]
        unigram -= float(ngrams.unigrams(label_N).log().sum())
        trigram -= float(ngrams.trigrams(left_BL[asked_BL], ids_BL[asked_BL], label_N).log().sum())
        num += len(label_N)
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
