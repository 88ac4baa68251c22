"""The objectives by the names that a user gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from graft.training.model.configuration import configuration
from graft.training.model.family import Family, Size
from graft.training.objective.causal import CausalObjective
from graft.training.objective.denoising import DenoisingObjective
from graft.training.objective.experts import ExpertsObjective
from graft.training.objective.masked import MaskedObjective
from graft.training.objective.objective import Objective
from graft.training.objective.permutation import PermutationObjective
from graft.training.objective.prefix import PrefixObjective
from graft.training.objective.replaced_token import ReplacedTokenObjective
from graft.training.objective.sentence_pairs import SentencePairObjective
from graft.training.objective.span_boundary import SpanBoundaryObjective
from graft.training.objective.span_corruption import SpanCorruptionObjective
from graft.training.objective.vocabulary import Vocabulary

_KINDS: Mapping[str, Any] = {
    "causal": CausalObjective,
    "prefix": PrefixObjective,
    "masked": MaskedObjective,
    "next_sentence": SentencePairObjective,
    "sentence_order": SentencePairObjective,
    "span_boundary": SpanBoundaryObjective,
    "replaced_token": ReplacedTokenObjective,
    "permutation": PermutationObjective,
    "span_corruption": SpanCorruptionObjective,
    "denoising": DenoisingObjective,
}


def model_class(name: str) -> Any:
    """The class of models with the heads that an objective needs; it has ``from_config``, and ``from_pretrained`` where
    the objective trains nothing beside the model that is saved.
    """
    return _KINDS[name].model_class


def build(family: Family, name: str, size: Size, tokenizer: PreTrainedTokenizerBase) -> nn.Module:
    """A model with random weights, drawn from torch's generator, and the heads that the objective needs.

    Raises ``ConfigurationError`` where the family cannot be trained with the objective.
    """
    made: nn.Module = model_class(family.objective(name)).from_config(configuration(family, size, tokenizer))
    return made


def objective(
    name: str,
    *,
    family: Family,
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    whole_word: bool = False,
    z_loss: float = 0.0,
) -> Objective[Any]:
    """The objective ``name`` for rows of ``length`` tokens. Raises ``ConfigurationError`` for tokens it has not."""
    kind = _KINDS[name]
    if kind is CausalObjective:
        causal = CausalObjective(z_loss=z_loss)
        return ExpertsObjective(causal=causal) if family.router else causal
    options: dict[str, Any] = {"vocabulary": Vocabulary.of(tokenizer), "length": length}
    if kind is SentencePairObjective:
        options |= {"question": name}
    if kind in (MaskedObjective, SentencePairObjective):
        options |= {"whole_word": whole_word}
    made: Objective[Any] = kind(**options)
    if isinstance(made, SpanCorruptionObjective):
        made.check_length()
    return made
