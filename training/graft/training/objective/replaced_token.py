"""Replaced-token detection (ELECTRA: Clark et al. 2020, arXiv:2003.10555, §2).

A small generator learns to fill masks; the discriminator learns, of every token, whether the generator put it there.
Loss: masked language modelling of the generator + 50 × the discriminator's (eq. in §2). Nothing flows back through the
sampling.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from transformers import AutoModelForMaskedLM, AutoModelForPreTraining, PretrainedConfig, PreTrainedModel

from graft.training.batch.batch import Batch
from graft.training.batch.packing import IGNORED
from graft.training.corpus.texts import Sentences
from graft.training.objective.masked import RATE, choose_tokens, framed_rows
from graft.training.objective.objective import cross_entropy, places
from graft.training.objective.text_objective import TextObjective


class GeneratorAndDiscriminator(nn.Module):
    """Both models; the discriminator is the product. Their embeddings are one where they have the same width (§3.2)."""

    def __init__(self, generator: PreTrainedModel, discriminator: PreTrainedModel) -> None:
        super().__init__()
        own, its = generator.get_input_embeddings(), discriminator.get_input_embeddings()
        if own.weight.shape == its.weight.shape:
            generator.set_input_embeddings(its)
            generator.tie_weights()
        self.generator, self.discriminator = generator, discriminator

    @classmethod
    def from_config(cls, config: PretrainedConfig) -> Self:
        """Random weights. The generator is a quarter as wide (§3.2 and table 1)."""
        names = ("hidden_size", "intermediate_size", "num_attention_heads")
        small = {name: max(getattr(config, name) // 4, 1) for name in names}
        generator = AutoModelForMaskedLM.from_config(type(config).from_dict({**config.to_dict(), **small}))
        return cls(generator, AutoModelForPreTraining.from_config(config))

    @property
    def parts(self) -> Mapping[str, PreTrainedModel]:
        return {"": self.discriminator, "generator": self.generator}

    def forward(self, compute: Callable[[Self], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """Under sharding the weights are whole in here."""
        return compute(self)


@dataclass(frozen=True, kw_only=True)
class ReplacedTokenObjective(TextObjective):
    """All chosen tokens are masked for the generator: it has no 80/10/10 rule (appendix A of the paper's code)."""

    model_class: ClassVar[Any] = GeneratorAndDiscriminator
    weights: Mapping[str, float] = field(default_factory=lambda: {"generator": 1.0, "discriminator": 50.0})

    def collate(self, documents: Sequence[Sentences], generator: Generator) -> Batch:
        vocabulary = self.vocabulary
        ids_BL = framed_rows(documents, vocabulary, self.length)
        chosen_BL = choose_tokens(ids_BL, vocabulary, RATE, generator)
        is_text_BL = ids_BL != vocabulary.pad_id
        return Batch(
            inputs={
                "original": ids_BL,
                "input_ids": torch.where(chosen_BL, vocabulary.mask, ids_BL),
                "attention_mask": is_text_BL.long(),
                # Drawn here and not at the model: a batch gives one loss, wherever and however often it is computed.
                "draw": torch.rand(ids_BL.shape, generator=generator, dtype=torch.float64),
            },
            labels={
                "generator": torch.where(chosen_BL, ids_BL, IGNORED),
                "discriminator": torch.where(is_text_BL, 0, IGNORED),  # who was replaced shows at the model only
            },
        )

    def sums(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        sums: Mapping[str, Tensor] = model(functools.partial(self._sums, batch))
        return sums

    def _sums(self, batch: Batch, model: GeneratorAndDiscriminator) -> Mapping[str, Tensor]:
        mask = batch.inputs["attention_mask"]
        logits_BLV = model.generator(input_ids=batch.inputs["input_ids"], attention_mask=mask).logits
        replaced_BL = self._replace(logits_BLV.detach(), batch)
        is_replaced_BL = replaced_BL != batch.inputs["original"]  # a generator that was right replaced nothing
        logits_BL = model.discriminator(input_ids=replaced_BL, attention_mask=mask).logits
        asked_N = places(batch.labels["discriminator"], batch.num_labels["discriminator"])
        return {
            "generator": cross_entropy(logits_BLV, batch.labels["generator"]),
            "discriminator": functional.binary_cross_entropy_with_logits(
                logits_BL.flatten()[asked_N].float(), is_replaced_BL.flatten()[asked_N].float(), reduction="sum"
            ),
        }

    def _replace(self, logits_BLV: Tensor, batch: Batch) -> Tensor:
        """The generator's own words at the chosen places: from the batch's draws by the inverse of the distribution."""
        chosen_N = places(batch.labels["generator"], batch.num_labels["generator"])
        sums_NV = logits_BLV.flatten(0, 1)[chosen_N].double().softmax(-1).cumsum(-1)
        words_N = torch.searchsorted(sums_NV, batch.inputs["draw"].flatten()[chosen_N][:, None])[:, 0]
        original_BL = batch.inputs["original"]
        replaced_T = original_BL.flatten().index_copy(0, chosen_N, words_N.clamp(max=sums_NV.shape[-1] - 1))
        return replaced_T.view_as(original_BL)
