"""Denoising of whole texts (BART: Lewis et al. 2020, arXiv:1910.13461, §2.2): the decoder writes the text as it was."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator

from graft.training.batch.batch import Batch
from graft.training.corpus.texts import Sentences, flat
from graft.training.objective.encoder_decoder import SequenceToSequence
from graft.training.objective.vocabulary import Vocabulary

RATE, MEAN_SPAN = 0.3, 3.0
"""§4.2: 30 % of the tokens are masked, in spans of Poisson(3)."""

Noise = Callable[[Sentences, Vocabulary, Generator], Sentences]


def mask_tokens(document: Sentences, vocabulary: Vocabulary, generator: Generator) -> Sentences:
    """Token masking: single tokens become the mask."""
    return [[vocabulary.mask if _happens(RATE, generator) else one for one in sentence] for sentence in document]


def delete_tokens(document: Sentences, vocabulary: Vocabulary, generator: Generator) -> Sentences:
    """Token deletion: the model must find out where something is missing."""
    return [[one for one in sentence if not _happens(RATE, generator)] for sentence in document]


def infill_text(document: Sentences, vocabulary: Vocabulary, generator: Generator) -> Sentences:
    """Text infilling: spans of Poisson(3) become one mask each; a span of no tokens puts a mask in between."""
    ids = flat(document)
    budget = round(len(ids) * RATE)
    keeps = [True] * len(ids)
    masks_before: dict[int, int] = {}
    num_tries = 0
    while budget > 0 and num_tries < 8 * len(ids):
        num_tries += 1
        size = min(int(torch.poisson(torch.tensor(MEAN_SPAN), generator=generator)), budget)
        begin = int(torch.randint(len(ids) - size + 1, (), generator=generator))
        around = keeps[max(begin - 1, 0) : begin + size + 1]
        if not all(around) or any(at in masks_before for at in range(begin, begin + size + 1)):
            continue  # spans neither overlap nor touch: two masks in a row would be one span more than there was
        keeps[begin : begin + size] = [False] * size
        masks_before[begin] = 1
        budget -= max(size, 1)
    out: list[int] = []
    for at in range(len(ids) + 1):
        out += [vocabulary.mask] * masks_before.get(at, 0)
        if at < len(ids) and keeps[at]:
            out.append(ids[at])
    return [out]


def permute_sentences(document: Sentences, vocabulary: Vocabulary, generator: Generator) -> Sentences:
    """Sentence permutation: in any order."""
    return [document[int(at)] for at in torch.randperm(len(document), generator=generator)]


def rotate_document(document: Sentences, vocabulary: Vocabulary, generator: Generator) -> Sentences:
    """Document rotation: it begins with a token drawn from it."""
    ids = flat(document)
    if not ids:
        return document
    begin = int(torch.randint(len(ids), (), generator=generator))
    return [ids[begin:] + ids[:begin]]


@dataclass(frozen=True, kw_only=True)
class DenoisingObjective(SequenceToSequence):
    """Noises one after the other; by default the two of the paper's large model (§4.2)."""

    noises: Sequence[Noise] = (permute_sentences, infill_text)

    @property
    def row_lengths(self) -> tuple[float, float]:
        """Where spans are infilled each is one mask; the other noises that are used by default change no length."""
        hidden = RATE * (1 - 1 / MEAN_SPAN) if infill_text in self.noises else 0.0
        return 2 + (self.length - 2) * (1 - hidden), self.length

    def collate(self, documents: Sequence[Sentences], generator: Generator) -> Batch:
        sources, targets = [], []
        for document in documents:
            kept = _first(document, self.length - 2)
            noisy: Sentences = kept
            for noise in self.noises:
                noisy = noise(noisy, self.vocabulary, generator)
            sources.append(self._framed(flat(noisy)[: self.length - 2]))
            targets.append(self._framed(flat(kept)))
        return self.batch(sources, targets, target_length=self.length)

    def _framed(self, ids: Sequence[int]) -> list[int]:
        return [self.vocabulary.cls, *ids, self.vocabulary.sep]


def _first(document: Sentences, num_tokens: int) -> list[list[int]]:
    """The document's beginning, its sentences apart."""
    kept: list[list[int]] = []
    for sentence in document:
        room = num_tokens - sum(map(len, kept))
        if room <= 0:
            break
        kept.append(list(sentence[:room]))
    return kept


def _happens(rate: float, generator: Generator) -> bool:
    return float(torch.rand((), generator=generator)) < rate
