"""Span corruption with sentinels (T5: Raffel et al. 2020, arXiv:1910.10683, §3.1.4 and §3.3).

15 % of the tokens are taken out in spans of 3 on average. The encoder reads the text with a sentinel in place of each
span; the decoder writes each sentinel and what it stands for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator

from graft.training.batch.batch import Batch
from graft.training.corpus.texts import Sentences, flat
from graft.training.errors import ConfigurationError
from graft.training.objective.encoder_decoder import SequenceToSequence

RATE, MEAN_SPAN = 0.15, 3.0
T5_SENTINELS = 100


def spans_to_take(
    length: int, generator: Generator, *, rate: float = RATE, mean_span: float = MEAN_SPAN
) -> list[slice]:
    """Kept and taken pieces in turn, each split evenly at random; a kept one is the first and a taken one the last.

    The numbers are exact, only their places are drawn (``random_spans_noise_mask`` of the paper's code).
    """
    num_taken = min(max(round(length * rate), 1), length - 1)
    num = num_spans(length, rate=rate, mean_span=mean_span)
    kept = _parts(length - num_taken, num, generator)
    taken = _parts(num_taken, num, generator)
    spans, at = [], 0
    for before, size in zip(kept, taken, strict=True):
        spans.append(slice(at + before, at + before + size))
        at += before + size
    return spans


def num_sentinels(context_tokens: int) -> int:
    """T5's, or as many as a row of so many tokens needs."""
    return max(T5_SENTINELS, num_spans(context_tokens - 1))


def num_spans(length: int, *, rate: float = RATE, mean_span: float = MEAN_SPAN) -> int:
    """Spans that are taken from a text of so many tokens: each needs a sentinel."""
    num_taken = min(max(round(length * rate), 1), length - 1)
    return max(min(round(num_taken / mean_span), num_taken, length - num_taken), 1)


def _parts(total: int, num: int, generator: Generator) -> list[int]:
    """``total`` as ``num`` positive numbers, every way alike likely."""
    cuts = (torch.randperm(total - 1, generator=generator)[: num - 1] + 1).sort().values.tolist() if num > 1 else []
    return [end - begin for begin, end in zip([0, *cuts], [*cuts, total], strict=True)]


@dataclass(frozen=True, kw_only=True)
class SpanCorruptionObjective(SequenceToSequence):
    """For encoder-decoders. Both sides end with the end token."""

    needs: ClassVar[tuple[str, ...]] = ("sep", "sentinel")
    rate: float = RATE
    mean_span: float = MEAN_SPAN

    @property
    def row_lengths(self) -> tuple[float, float]:
        num = self.length - 1
        taken = min(max(round(num * self.rate), 1), num - 1)
        sentinels = num_spans(num, rate=self.rate, mean_span=self.mean_span)
        return num - taken + sentinels + 1, taken + sentinels + 1

    def check_length(self) -> None:
        """Raises ``ConfigurationError`` where a full row has more spans than there are sentinels."""
        has = len(self.vocabulary.sentinel_ids)
        if num_spans(self.length - 1, rate=self.rate, mean_span=self.mean_span) <= has:
            return
        longest = self.length
        while num_spans(longest - 1, rate=self.rate, mean_span=self.mean_span) > has:
            longest -= 1
        raise ConfigurationError(
            f"max_length is {self.length}, and the tokenizer's {has} sentinels (<extra_id_0> …) are enough for rows of "
            f"{longest} tokens: lower max_length to that, or take a tokenizer with more."
        )

    def collate(self, documents: Sequence[Sentences], generator: Generator) -> Batch:
        end = self.vocabulary.sep
        sources, targets = [], []
        for document in documents:
            source, target = self._corrupt(flat(document)[: self.length - 1], generator)
            sources.append([*source, end])
            targets.append([*target, end])
        return self.batch(sources, targets, target_length=max(map(len, targets)))

    def _corrupt(self, ids: list[int], generator: Generator) -> tuple[list[int], list[int]]:
        if len(ids) < 2:
            return ids, []
        source: list[int] = []
        target: list[int] = []
        at = 0
        spans = spans_to_take(len(ids), generator, rate=self.rate, mean_span=self.mean_span)
        if len(spans) > len(self.vocabulary.sentinel_ids):
            raise ValueError(
                f"{len(spans)} spans in a row of {len(ids)} tokens, and {len(self.vocabulary.sentinel_ids)} sentinels: "
                "take shorter rows"
            )
        for sentinel, span in zip(self.vocabulary.sentinel_ids, spans, strict=False):
            source += [*ids[at : span.start], sentinel]
            target += [sentinel, *ids[span]]
            at = span.stop
        return source + ids[at:], target
