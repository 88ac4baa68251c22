"""The objectives by the names that a user gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from graft.training.objective.causal import CausalObjective
from graft.training.objective.denoising import DenoisingObjective
from graft.training.objective.experts import ExpertsObjective
from graft.training.objective.masked import MaskedObjective
from graft.training.objective.objective import Objective
from graft.training.objective.permutation import PermutationObjective
from graft.training.objective.prefix import PrefixObjective
from graft.training.objective.replaced_token import ReplacedTokenObjective
from graft.training.objective.sentence_pairs import Question, SentencePairObjective
from graft.training.objective.span_boundary import SpanBoundaryObjective
from graft.training.objective.span_corruption import SpanCorruptionObjective
from graft.training.objective.vocabulary import Vocabulary

QUESTIONS: Mapping[str, Question] = {"next_sentence": "next_sentence", "sentence_order": "sentence_order"}
_PLAIN: Mapping[str, Callable[..., Objective[Any]]] = {
    "prefix": PrefixObjective,
    "span_boundary": SpanBoundaryObjective,
    "replaced_token": ReplacedTokenObjective,
    "permutation": PermutationObjective,
    "denoising": DenoisingObjective,
}


def objective(
    name: str,
    *,
    model_type: str,
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    whole_word: bool = False,
    z_loss: float = 0.0,
) -> Objective[Any]:
    """The objective ``name`` for rows of ``length`` tokens. Raises ``ConfigurationError`` for tokens it has not."""
    if name == "causal":
        causal = CausalObjective(z_loss=z_loss)
        return ExpertsObjective(causal=causal) if model_type == "mixtral" else causal
    vocabulary = Vocabulary.of(tokenizer)
    if name == "masked":
        return MaskedObjective(vocabulary=vocabulary, length=length, whole_word=whole_word)
    if name in QUESTIONS:
        return SentencePairObjective(
            vocabulary=vocabulary, length=length, question=QUESTIONS[name], whole_word=whole_word
        )
    if name == "span_corruption":
        corruption = SpanCorruptionObjective(vocabulary=vocabulary, length=length)
        corruption.check_length()
        return corruption
    return _PLAIN[name](vocabulary=vocabulary, length=length)
