"""Next-token prediction (Bengio et al. 2003, eq. 1; Radford et al. 2018, eq. 1)."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from graft.training.batch.packing import PackedBatch
from graft.training.objective.head import labelled
from graft.training.objective.masks import attention_inputs
from graft.training.objective.noise import noisy_embeddings


@dataclass(frozen=True, kw_only=True)
class CausalObjective:
    """Each supervised token from those before it in its document: attention stays within each document of a row."""

    model_class: ClassVar[Any] = AutoModelForCausalLM
    weights: Mapping[str, float] = field(default_factory=lambda: {"tokens": 1.0})
    z_loss: float = 0.0
    """Factor of log² Z, which keeps logits from drifting; PaLM has 1e-4. It counts in the loss."""

    label_smoothing: float = 0.0
    """Part of each label that is spread evenly over the vocabulary while the model learns."""
    neftune_noise_alpha: float = 0.0
    """Of the noise on embeddings while the model learns (see ``noisy_embeddings``)."""

    def counts(self, batch: PackedBatch) -> Mapping[str, int]:
        return dict.fromkeys(self.weights, batch.num_labels)

    def sums(self, model: nn.Module, batch: PackedBatch) -> Mapping[str, Tensor]:
        is_noisy = model.training and self.neftune_noise_alpha > 0
        with noisy_embeddings(model, batch, self.neftune_noise_alpha) if is_noisy else contextlib.nullcontext():
            output = labelled(
                model,
                batch.labels_BL,
                num_asked=batch.num_labels,
                z=self.z_loss if model.training else 0.0,
                smoothing=self.label_smoothing if model.training else 0.0,
                input_ids=batch.input_ids_BL,
                position_ids=batch.position_ids_BL,
                use_cache=False,
                **attention_inputs(model, batch),
            )
        return {"tokens": output.logits}
