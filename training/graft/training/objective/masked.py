"""Masked language modelling (BERT: Devlin et al. 2019, arXiv:1810.04805, §3.1; RoBERTa: arXiv:1907.11692, §4.1).

Masks are drawn anew whenever a text is seen, as RoBERTa does; BERT's static ones were an accident of its pipeline.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from transformers import AutoModelForMaskedLM

from graft.training.batch.batch import Batch
from graft.training.batch.packing import IGNORED
from graft.training.corpus.texts import Sentences, flat
from graft.training.objective.head import labelled
from graft.training.objective.objective import rows_of
from graft.training.objective.text_objective import TextObjective
from graft.training.objective.vocabulary import Vocabulary

RATE = 0.15
"""Of the tokens that are text: chosen to be predicted."""
MASKED, RANDOM = 0.8, 0.1
"""Of the chosen ones: replaced by the mask token, by a random word; the others stay as they are."""


def corrupt(ids_BL: Tensor, chosen_BL: Tensor, vocabulary: Vocabulary, generator: Generator) -> Tensor:
    """The chosen tokens by the 80/10/10 rule, each by itself."""
    draw_BL = torch.rand(ids_BL.shape, generator=generator)
    words = (~vocabulary.special_V).nonzero().flatten()
    random_BL = words[torch.randint(len(words), ids_BL.shape, generator=generator)]
    masked_BL = torch.where(chosen_BL & (draw_BL < MASKED), vocabulary.mask, ids_BL)
    return torch.where(chosen_BL & (draw_BL >= MASKED) & (draw_BL < MASKED + RANDOM), random_BL, masked_BL)


def framed_rows(documents: Sequence[Sentences], vocabulary: Vocabulary, length: int) -> Tensor:
    """``[CLS] text [SEP]`` of each document, its text cut to fit. Shape: (B, L)."""
    rows = [[vocabulary.cls, *flat(document)[: length - 2], vocabulary.sep] for document in documents]
    return rows_of(rows, length=length, fill=vocabulary.pad_id)


def choose_tokens(ids_BL: Tensor, vocabulary: Vocabulary, rate: float, generator: Generator) -> Tensor:
    """True for about ``rate`` of the tokens that are text, each drawn by itself, and for one of each row at least (as
    BERT's ``max(1, …)`` of ``create_masked_lm_predictions``).
    """
    draw_BL = torch.rand(ids_BL.shape, generator=generator)
    return _chosen(draw_BL, ~vocabulary.special_V[ids_BL], rate)


def _chosen(draw_BL: Tensor, is_text_BL: Tensor, rate: float) -> Tensor:
    """Where the draw is below the rate; in a row without such a place, where it is lowest."""
    lowest_B1 = torch.where(is_text_BL, draw_BL, 2.0).amin(1, keepdim=True)
    return (draw_BL <= lowest_B1.clamp(min=rate)) & is_text_BL


def choose_words(ids_BL: Tensor, vocabulary: Vocabulary, rate: float, generator: Generator) -> Tensor:
    """As ``choose_tokens``, but of a word all tokens or none (whole-word masking, google-research/bert, May 2019)."""
    word_BL = vocabulary.begins_word(ids_BL).cumsum(1) - 1
    draw_BL = torch.rand(ids_BL.shape, generator=generator).gather(1, word_BL)
    return _chosen(draw_BL, ~vocabulary.special_V[ids_BL], rate)


def masked_batch(
    ids_BL: Tensor, chosen_BL: Tensor, vocabulary: Vocabulary, generator: Generator, **inputs: Tensor
) -> Batch:
    """A batch that asks for the chosen tokens."""
    return Batch(
        inputs={
            "input_ids": corrupt(ids_BL, chosen_BL, vocabulary, generator),
            "attention_mask": (ids_BL != vocabulary.pad_id).long(),
            **inputs,
        },
        labels={"masked": torch.where(chosen_BL, ids_BL, IGNORED)},
    )


@dataclass(frozen=True, kw_only=True)
class MaskedObjective(TextObjective):
    """The chosen tokens are predicted from both sides. One document is one row: ``[CLS] text [SEP]``.

    For models with one masked head: BERT, RoBERTa, DistilBERT, ALBERT, ELECTRA's generator.
    """

    model_class: ClassVar[Any] = AutoModelForMaskedLM
    whole_word: bool = False
    weights: Mapping[str, float] = field(default_factory=lambda: {"masked": 1.0})

    def collate(self, documents: Sequence[Sentences], generator: Generator) -> Batch:
        ids_BL = framed_rows(documents, self.vocabulary, self.length)
        choose = choose_words if self.whole_word else choose_tokens
        return masked_batch(ids_BL, choose(ids_BL, self.vocabulary, RATE, generator), self.vocabulary, generator)

    def sums(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        num_asked = batch.num_labels["masked"]
        return {"masked": labelled(model, batch.labels["masked"], num_asked=num_asked, **batch.inputs).logits}
