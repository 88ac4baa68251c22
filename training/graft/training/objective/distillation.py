"""Learning from a larger model of the same vocabulary.

For encoders DistilBERT's three terms (Sanh et al. 2019, arXiv:1910.01108, §2 and §3): the teacher's distribution, the
masked tokens, and the direction of the last hidden states. For decoders the teacher's distribution and the tokens
(Hinton et al. 2015, arXiv:1503.02531, §2; other divergences: see ``divergence``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from graft.training.batch.batch import Batch
from graft.training.batch.packing import IGNORED, PackedBatch
from graft.training.corpus.texts import Sentences
from graft.training.objective.divergence import Divergence
from graft.training.objective.masked import MaskedObjective
from graft.training.objective.masks import attention_inputs
from graft.training.objective.objective import cross_entropy, places
from graft.training.objective.taught_head import taught, teaching


def asked_of_a_teacher(batch: Batch) -> Batch:
    """A masked batch that asks for a teacher's distribution at the masks, and for its states at every text token."""
    is_text_BL = torch.where(batch.inputs["attention_mask"] == 1, 0, IGNORED)
    return Batch(inputs=batch.inputs, labels={**batch.labels, "soft": batch.labels["masked"], "direction": is_text_BL})


@dataclass(frozen=True, kw_only=True)
class EncoderDistillation:
    """The triple loss. ``teacher`` is evaluated as it is and not trained."""

    masked: MaskedObjective
    teacher: PreTrainedModel
    weights: Mapping[str, float] = field(default_factory=lambda: {"soft": 5.0, "masked": 2.0, "direction": 1.0})
    """Those of the published training code; the paper says a linear combination."""

    def collate(self, documents: Sequence[Sentences], generator: Generator) -> Batch:
        return asked_of_a_teacher(self.masked.collate(documents, generator))

    def counts(self, batch: Batch) -> Mapping[str, int]:
        return batch.num_labels

    def sums(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        student = model(**batch.inputs, output_hidden_states=True)
        with torch.no_grad():
            teacher = self.teacher(**batch.inputs, output_hidden_states=True)
        asked_N, text_M = (places(batch.labels[name], batch.num_labels[name]) for name in ("soft", "direction"))
        own_ND, its_ND = (one.hidden_states[-1].flatten(0, 1)[text_M] for one in (student, teacher))
        own_NV, its_NV = (one.logits.flatten(0, 1)[asked_N] for one in (student, teacher))
        return {
            "soft": Divergence().losses(own_NV.float(), its_NV.float()).sum(),
            "masked": cross_entropy(student.logits, batch.labels["masked"]),
            "direction": (1 - functional.cosine_similarity(own_ND.float(), its_ND.float(), dim=-1)).sum(),
        }


@dataclass(frozen=True, kw_only=True)
class DecoderDistillation:
    """The teacher's next-token distribution, and the token that came. ``teacher`` is evaluated as it is and not
    trained; it may be a base with an adapter.
    """

    teacher: nn.Module
    divergence: Divergence = field(default_factory=Divergence)
    weights: Mapping[str, float] = field(default_factory=lambda: {"soft": 0.5, "tokens": 0.5})

    def counts(self, batch: PackedBatch) -> Mapping[str, int]:
        return dict.fromkeys(("soft", "tokens"), batch.num_labels)

    def sums(self, model: nn.Module, batch: PackedBatch) -> Mapping[str, Tensor]:
        labels_BL, num_asked = batch.labels_BL, batch.num_labels
        inputs: dict[str, Any] = {
            "input_ids": batch.input_ids_BL,
            "position_ids": batch.position_ids_BL,
            "use_cache": False,
        }
        its = {**inputs, **attention_inputs(self.teacher, batch)}
        soft, tokens = taught(
            model,
            teaching(self.teacher, labels_BL, num_asked=num_asked, inputs=its),
            labels_BL,
            num_asked=num_asked,
            divergence=self.divergence,
            **inputs,
            **attention_inputs(model, batch),
        )
        return {"soft": soft, "tokens": tokens}
