"""A text from a text (T5: Raffel et al. 2020, arXiv:1910.10683, §2.4; BART: Lewis et al. 2020, §3.3 and §3.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM

from graft.training.batch.batch import Batch
from graft.training.objective.encoder_decoder import target_sum


@dataclass(frozen=True, kw_only=True)
class TextToText:
    """The encoder reads the source; ``labels["tokens"]`` (B, T) is the target with its end token."""

    model_class: ClassVar[Any] = AutoModelForSeq2SeqLM
    weights: Mapping[str, float] = field(default_factory=lambda: {"tokens": 1.0})

    def counts(self, batch: Batch) -> Mapping[str, int]:
        return batch.num_labels

    def sums(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        return {"tokens": target_sum(model, batch)}
