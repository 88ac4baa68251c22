"""How much of a device's memory a pretraining will take, before it starts."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from graft.training.model.attention import LONGEST
from graft.training.model.blocks import blocks
from graft.training.model.family import facts_of
from graft.training.model.loading import parts
from graft.training.objective.head import rows_at_once
from graft.training.parallel.mesh import Mesh
from graft.training.pretrain.settings import PretrainSettings

ACTIVATION_BYTES = 34
"""Per token, layer and unit of width, in 16 bits, attention's probabilities not kept (Korthikanti et al. 2022,
arXiv:2205.05198, eq. 1)."""
KEPT_BYTES = {"none": ACTIVATION_BYTES, "selective": 18, "full": 2}
"""The same by what is computed again. With ``full`` a block's input stays; with ``selective`` attention's output and
every other product beside it: of a Llama with a feed-forward of four widths queries, values, gates and the last one."""
LOGIT_BYTES = 12
"""Per token and entry of the vocabulary, where the head is not fused with its loss."""
STATE_BYTES = {"adamw": 8.0, "adamw_8bit": 2.1, "muon": 5.0}
"""Of the optimizer, per parameter."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one device."""

    weights: float
    gradients: float
    optimizer: float
    activations: float

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.activations


def memory(model: nn.Module, settings: PretrainSettings, mesh: Mesh, *, device: str) -> Memory:
    """An estimate for one device of a mesh: the one that holds most."""
    num = num_held(model, mesh)
    is_bfloat16 = settings.dtype != "float32"
    is_sharded = mesh.shards_weights
    shards = mesh.dp_shard if is_sharded else 1
    layers = max(1, parts(model)[""].config.num_hidden_layers / mesh.pp)
    copy = 2 * num if is_bfloat16 else 4 * num
    # Sharded, float32 weights are the masters, and what is computed with is gathered: with ZeRO-2 for the whole step,
    # with ZeRO-3 two blocks at a time. Else bfloat16 copies stand beside them.
    gathered = copy if mesh.zero_stage == 2 else 2 * copy / layers
    # FSDP2 adds up the micro-batches of a step in float32, whole, and sums over the processes behind the last one.
    is_added_up = is_sharded and (settings.gradient_accumulation_steps > 1 or mesh.pp > 1)
    return Memory(
        weights=4 * num / shards + (gathered if is_sharded else 2 * num * is_bfloat16),
        gradients=4 * num / shards + (4 * num if is_added_up else copy / layers if is_sharded else 0),
        optimizer=STATE_BYTES[settings.optim] * num / (mesh.dp_shard if mesh.dp_shard > 1 else 1),
        activations=_activation_bytes(model, settings, mesh, device),
    )


def num_held(model: nn.Module, mesh: Mesh) -> float:
    """Parameters on the device that holds most of them, before they are sharded: tensor parallelism splits all
    matrices, and in a pipeline the first stage has the embedding, the last one the output head.
    """
    in_blocks = {id(one): one for block in blocks(model) for one in block.parameters()}
    outside = [one for one in model.parameters() if id(one) not in in_blocks]

    def held(one: Tensor) -> float:
        return float(one.numel()) / (mesh.tp if one.ndim > 1 else 1)

    split, ends = sum(map(held, in_blocks.values())), list(map(held, outside))
    return split / mesh.pp + (max(ends, default=0) if mesh.pp > 1 else sum(ends))


def _activation_bytes(model: nn.Module, settings: PretrainSettings, mesh: Mesh, device: str) -> float:
    config = parts(model)[""].config
    vocabulary: int = config.vocab_size
    tokens = settings.per_device_train_batch_size * settings.max_length / mesh.cp
    in_flight = mesh.pp  # micro-batches of the first stage in 1F1B
    per_layer = KEPT_BYTES[str(settings.gradient_checkpointing)]
    width = config.hidden_size / mesh.tp
    scale = 2 if settings.dtype == "float32" else 1
    per_token = width * per_layer * scale + _probability_bytes(config, settings, mesh, device)
    is_fused = mesh.pp == 1 and facts_of(config).ends_in_its_head
    # Fused, the output head keeps its own gradient, and of a part logits and their logarithms; else all logits and
    # their gradients, in 16 bits and in 32.
    part = min(tokens, rows_at_once(torch.device(device), vocabulary))
    head = (4 * config.hidden_size + 8 * part if is_fused else LOGIT_BYTES * tokens) * vocabulary / mesh.tp
    return float(tokens * per_token * config.num_hidden_layers / mesh.pp * in_flight + head)


def _probability_bytes(config: PretrainedConfig, settings: PretrainSettings, mesh: Mesh, device: str) -> float:
    """Per token and layer: what ``graft.training.model.attention`` keeps; half of it where attention is causal."""
    is_used = device == "cpu" and settings.dtype != "float32" and settings.max_length <= LONGEST
    if not is_used or settings.gradient_checkpointing != "none" or settings.torch_compile:
        return 0.0
    is_causal = facts_of(config).kind == "decoder"
    heads: int = config.num_attention_heads
    return 2.0 * heads / mesh.tp * settings.max_length * (0.5 if is_causal else 1.0)


def device_memory(device: str, processes: int) -> float:
    """Bytes of a GPU, or of this machine's memory for each of its processes."""
    if device == "cuda":
        return float(torch.cuda.get_device_properties(0).total_memory)
    return float(psutil.virtual_memory().available / processes)
