"""Span masking with the span-boundary objective (SpanBERT: Joshi et al. 2020, arXiv:1907.10529, §3).

Whole spans are masked, and each of their tokens is predicted twice: by the masked head, and from the two tokens beside
the span together with its place in it (eq. 1 to 3). The loss is the sum of both (eq. 4).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Generator, Tensor, nn
from transformers import AutoModelForMaskedLM, PretrainedConfig, PreTrainedModel

from graft.training.batch.batch import Batch
from graft.training.batch.packing import IGNORED
from graft.training.corpus.texts import Sentences, flat
from graft.training.objective.head import labelled
from graft.training.objective.masked import MASKED, RANDOM, RATE, framed_rows
from graft.training.objective.objective import cross_entropy, places
from graft.training.objective.text_objective import TextObjective
from graft.training.objective.vocabulary import Vocabulary

MAX_SPAN = 10
P = 0.2
"""Of the geometric distribution of a span's length in words: mean 3.8 when cut at ``MAX_SPAN``."""


def span_lengths(num: int, generator: Generator) -> Tensor:
    """Draws from Geo(0.2), cut at 10 and normalised. Shape: (num,)."""
    length = torch.arange(1, MAX_SPAN + 1)
    return 1 + torch.multinomial(P * (1 - P) ** (length - 1.0), num, replacement=True, generator=generator)


def choose_spans(
    ids: Sequence[int], vocabulary: Vocabulary, rate: float, generator: Generator
) -> list[tuple[int, int]]:
    """Disjoint spans [begin, end) of whole words that never touch, until ``rate`` of the text is covered: of a short
    text a word of one token at least, where it has one.
    """
    begins = [
        *vocabulary.begins_word(torch.tensor(ids, dtype=torch.long)[None])[0].nonzero().flatten().tolist(),
        len(ids),
    ]
    budget = round(len(ids) * rate)
    taken = torch.zeros(len(ids) + 2, dtype=torch.bool)  # with the two that stand beside the text
    spans: list[tuple[int, int]] = []
    covered = misses = 0
    while covered < max(1, budget) and misses < 20 and len(begins) > 1:
        num_words = int(span_lengths(1, generator))
        word = int(torch.randint(len(begins) - 1, (), generator=generator))
        begin, end = begins[word], begins[min(word + num_words, len(begins) - 1)]
        if covered + end - begin > budget + 1 or bool(taken[begin : end + 2].any()):
            misses += 1
            continue
        taken[begin + 1 : end + 1] = True
        spans.append((begin, end))
        covered += end - begin
    return sorted(spans)


class SpanBoundaryHead(nn.Module):
    """Two layers over the states beside a span and the embedding of a place in it (eq. 2 and 3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.places = nn.Embedding(MAX_SPAN * 4, width)
        self.layers = nn.Sequential(
            nn.Linear(3 * width, width),
            nn.GELU(),
            nn.LayerNorm(width),
            nn.Linear(width, width),
            nn.GELU(),
            nn.LayerNorm(width),
        )

    def forward(self, left_ND: Tensor, right_ND: Tensor, place_N: Tensor) -> Tensor:
        return self.layers(torch.cat((left_ND, right_ND, self.places(place_N)), dim=-1))


class SpanBoundaryModel(nn.Module):
    """A masked language model with the second head, which is dropped after training: ``pretrained`` is the product."""

    def __init__(self, pretrained: PreTrainedModel) -> None:
        super().__init__()
        self.pretrained = pretrained
        self.boundary = SpanBoundaryHead(pretrained.config.hidden_size).to(pretrained.dtype)

    @classmethod
    def from_config(cls, config: PretrainedConfig) -> Self:
        """Random weights."""
        return cls(AutoModelForMaskedLM.from_config(config))

    @property
    def parts(self) -> Mapping[str, PreTrainedModel]:
        return {"": self.pretrained}

    def forward(self, compute: Callable[[Self], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """Under sharding the weights are whole in here."""
        return compute(self)


@dataclass(frozen=True, kw_only=True)
class SpanBoundaryObjective(TextObjective):
    """Spans are masked, exchanged or kept as a whole; every token of them is asked for twice."""

    model_class: ClassVar[Any] = SpanBoundaryModel
    weights: Mapping[str, float] = field(default_factory=lambda: {"masked": 1.0, "boundary": 1.0})

    def collate(self, documents: Sequence[Sentences], generator: Generator) -> Batch:
        vocabulary = self.vocabulary
        ids_BL = framed_rows(documents, vocabulary, self.length)
        texts = [flat(document)[: self.length - 2] for document in documents]
        inputs_BL, labels_BL = ids_BL.clone(), torch.full_like(ids_BL, IGNORED)
        left_BL, right_BL, place_BL = (torch.zeros_like(ids_BL) for _ in range(3))
        words = (~vocabulary.special_V).nonzero().flatten()
        for row, text in enumerate(texts):
            for begin, end in choose_spans(text, vocabulary, RATE, generator):
                span = slice(begin + 1, end + 1)  # behind [CLS]
                labels_BL[row, span] = ids_BL[row, span]
                left_BL[row, span], right_BL[row, span] = begin, end + 1
                place_BL[row, span] = torch.arange(end - begin).clamp(max=MAX_SPAN * 4 - 1)
                draw = float(torch.rand((), generator=generator))
                if draw < MASKED:
                    inputs_BL[row, span] = vocabulary.mask
                elif draw < MASKED + RANDOM:
                    inputs_BL[row, span] = words[torch.randint(len(words), (end - begin,), generator=generator)]
        return Batch(
            inputs={
                "input_ids": inputs_BL,
                "attention_mask": (ids_BL != vocabulary.pad_id).long(),
                "left": left_BL,
                "right": right_BL,
                "place": place_BL,
            },
            labels={"masked": labels_BL, "boundary": labels_BL},
        )

    def sums(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        sums: Mapping[str, Tensor] = model(functools.partial(self._sums, batch))
        return sums

    def _sums(self, batch: Batch, model: SpanBoundaryModel) -> Mapping[str, Tensor]:
        beside = {"left", "right", "place"}
        inputs = {name: value for name, value in batch.inputs.items() if name not in beside}
        labels_BL, nums = batch.labels["boundary"], batch.num_labels
        inputs |= {"num_asked": nums["masked"], "output_hidden_states": True}
        output = labelled(model.pretrained, batch.labels["masked"], **inputs)
        states_BLD = output.hidden_states[-1]
        asked_N = places(labels_BL, nums["boundary"])
        row_N = asked_N // labels_BL.shape[1]
        left_N, right_N, place_N = (batch.inputs[name].flatten()[asked_N] for name in ("left", "right", "place"))
        predicted_ND = model.boundary(states_BLD[row_N, left_N], states_BLD[row_N, right_N], place_N)
        # The output embeddings are shared with the masked head (§3.2).
        logits_NV = predicted_ND @ model.pretrained.get_input_embeddings().weight.T
        return {
            "masked": output.logits,
            "boundary": cross_entropy(logits_NV, labels_BL.flatten()[asked_N]),
        }
