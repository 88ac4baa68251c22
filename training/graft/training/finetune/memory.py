"""How much of a device's memory a fine-tuning will take, before a weight is loaded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from graft.adapters.form import ServingForm
from graft.training.model.blocks import blocks
from graft.training.model.cost.activations import Activations, activations, probability_bytes, recomputed
from graft.training.model.family import facts_of
from graft.training.model.quantized import BLOCK
from graft.training.objective.logits import rows_at_once
from graft.training.parallel.mesh import Mesh

FORM_BYTES = {ServingForm.NF4: 0.5 + 4 / BLOCK, ServingForm.LLM_INT8: 1.0}
"""Per weight of the blocks' linear layers, with float32 scales of blocks or of rows; all else is held in 16 bits, and
packed integers are computed with as such."""
DOUBLE_QUANTIZED_BYTES = 0.5 + (1 + 4 / 256) / BLOCK
"""Of NF4 whose scales are 8-bit numbers in blocks of 256 (QLoRA, section 3)."""
LEARNING_BYTES = 2 + 4 + 4
"""Per weight that learns: what is computed with, its float32 master and its gradient."""
MOMENT_BYTES = {"adamw": 8.0, "adamw_8bit": 2 + 8 / 256, "paged_adamw_8bit": 2 + 8 / 256}
"""AdamW's two moments, in float32, or in 8 bits with a scale for each block of 256."""
LOGIT_BYTES = 12
"""Per logit where the head is not fused with its loss."""


@dataclass(frozen=True, kw_only=True)
class AdaptingMemory:
    """Bytes of one device."""

    base: float
    adapter: float
    activations: float
    """Kept for the way back."""
    besides: float
    """The more of what the output head and what the way back take: some rows of logits; a layer that is made plain, a
    block that is computed again, gradients of activations."""

    @property
    def total(self) -> float:
        return self.base + self.adapter + self.activations + self.besides


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """A base with adapters, on the meta device."""

    model: PreTrainedModel
    """The base's own class, in which the adapters lie."""
    form: ServingForm
    num_outside: int = 0
    """Numbers that learn and lie outside of it, such as those of a prompt."""
    num_ahead: int = 0
    """Vectors before each row."""
    optim: str = "adamw"
    is_double_quantized: bool = False
    beside_bytes: float = 0.0
    """Of another model, which lies on every device."""

    @property
    def num_adapter(self) -> int:
        """Numbers that learn."""
        inside: int = sum(one.numel() for one in self.model.parameters() if one.requires_grad)
        return self.num_outside + inside

    @property
    def base_bytes(self) -> float:
        return self._frozen_bytes(self.model)

    def base_bytes_on(self, mesh: Mesh) -> float:
        """Of one device. FSDP2 gathers what it has sharded: what lies outside of the blocks and, with ZeRO-2 for the
        whole step, the blocks; with ZeRO-3 two of them at a time.
        """
        if not mesh.shards_weights:
            return self.base_bytes
        each = [self._frozen_bytes(block) for block in blocks(self.model)]
        gathered = sum(each) if mesh.zero_stage == 2 else min(2 * max(each), sum(each))
        return self.base_bytes / mesh.dp_shard + (self.base_bytes - sum(each)) + gathered

    def memory(
        self, *, rows: int, length: int, recomputes: str | bool, device: str, mesh: Mesh | None = None
    ) -> AdaptingMemory:
        """With so many rows of so many tokens in a micro-batch; on one device, or on each of a mesh."""
        mesh = mesh or Mesh()
        length += self.num_ahead
        found = self.activations(rows, length)
        again = recomputed(self.model, recomputes)
        made_plain = 0.0 if self.form is ServingForm.BF16 else 2.0 * max(one.numel() for one in self._layers())
        probabilities = 0.0
        if device == "cpu" and again == "none":
            probabilities = probability_bytes(self.model.config, rows=rows, length=length) * len(found.blocks)
        return AdaptingMemory(
            base=self.base_bytes_on(mesh) + self.beside_bytes,
            adapter=self._adapter_bytes(mesh),
            activations=found.kept(again) + probabilities,
            besides=max(self._head_bytes(rows * length, device), found.on_the_way_back(again) + made_plain),
        )

    def activations(self, rows: int, length: int) -> Activations:
        """Of one micro-batch."""
        return activations(self.model, rows=rows, length=length, dtype=torch.bfloat16)

    def _adapter_bytes(self, mesh: Mesh) -> float:
        """Sharded, all of it is gathered at the most."""
        each = LEARNING_BYTES + MOMENT_BYTES[self.optim]
        if not mesh.shards_weights:
            return float(each * self.num_adapter)
        return self.num_adapter * (each / mesh.dp_shard + 2)

    def _frozen_bytes(self, module: nn.Module) -> float:
        """Of the model or of a block."""
        layers = {id(one) for one in self._layers()}
        frozen = [one for one in module.parameters() if not one.requires_grad]
        each = FORM_BYTES.get(self.form, 2.0)
        if self.form is ServingForm.NF4 and self.is_double_quantized:
            each = DOUBLE_QUANTIZED_BYTES
        return float(sum(one.numel() * (each if id(one) in layers else 2.0) for one in frozen))

    def _layers(self) -> list[nn.Parameter]:
        """Frozen matrices of linear layers in the blocks."""
        layers = [module for block in blocks(self.model) for module in block.modules() if isinstance(module, nn.Linear)]
        return [module.weight for module in layers if not module.weight.requires_grad]

    def _head_bytes(self, tokens: int, device: str) -> float:
        """The frozen head has no gradient of its own; only its states have."""
        config = self.model.config.get_text_config()
        if not facts_of(config).ends_in_its_head:
            return float(LOGIT_BYTES * tokens * config.vocab_size)
        rows = min(tokens, rows_at_once(torch.device(device), config.vocab_size))
        each = 10 if device == "cuda" else 6
        return float(each * rows * config.vocab_size + 2 * tokens * config.hidden_size)
