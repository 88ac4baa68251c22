"""How much of a device's memory a pretraining will take, before it starts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from graft.training.loop.weights import is_hidden_matrix
from graft.training.model.blocks import blocks
from graft.training.model.cost.activations import Activations, activations, probability_bytes, recomputed
from graft.training.model.family import facts_of
from graft.training.model.loading import parts
from graft.training.objective.logits import rows_at_once
from graft.training.parallel.mesh import Mesh
from graft.training.pretrain.settings import PretrainSettings

LOGIT_BYTES = 12
"""Per token and entry of the vocabulary where the head is not fused with its loss: logits and their gradient in 16 bits
and in 32."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one device."""

    weights: float
    """Masters, what is computed with, what is gathered of them at a time, and running means."""
    gradients: float
    """When all are there."""
    optimizer: float
    activations: float
    """Kept for the way back."""
    head: float
    """What the output head takes, on the way there and back."""
    back: float
    """What comes and goes on the way back: gradients of activations, blocks that are computed again, exchanges."""
    gradients_before: float
    """Those for which there is room from the beginning, for sums over micro-batches or processes; the others arise as
    activations go."""

    @property
    def total(self) -> float:
        """At the worst of three times: in the output head, as the way back begins, and at its end."""
        turn = self.gradients_before + self.activations + max(self.head, self.back)
        return self.weights + self.optimizer + max(turn, self.gradients + self.back)


@dataclass(frozen=True, kw_only=True)
class Held:
    """Parameters on the device that holds most of them, before they are sharded: tensor parallelism splits all
    matrices, and in a pipeline the first stage has the embedding, the last one the output head.
    """

    in_blocks: float
    outside: float
    largest_block: float

    @classmethod
    def of(cls, model: nn.Module, mesh: Mesh) -> Held:
        sizes = [sum(one.numel() / _parts(one, mesh) for one in block.parameters()) for block in blocks(model)]
        inside = {id(one): one for block in blocks(model) for one in block.parameters()}
        ends = [one.numel() / _parts(one, mesh) for one in model.parameters() if id(one) not in inside]
        return cls(
            in_blocks=sum(one.numel() / _parts(one, mesh) for one in inside.values()) / mesh.pp,
            outside=max(ends, default=0) if mesh.pp > 1 else sum(ends),
            largest_block=max(sizes, default=0.0),
        )

    @property
    def num(self) -> float:
        return self.in_blocks + self.outside


def _parts(parameter: nn.Parameter, mesh: Mesh) -> int:
    return mesh.tp if parameter.ndim > 1 else 1


def memory(model: nn.Module, settings: PretrainSettings, mesh: Mesh, *, device: str) -> Memory:
    """An estimate for one device of a mesh: the one that holds most."""
    held = Held.of(model, mesh)
    item = 4 if settings.dtype == "float32" else 2
    is_added_up = settings.gradient_accumulation_steps > 1 or mesh.pp > 1
    adds_whole = is_added_up and not settings.sync_each_batch
    weights, gradients, exchanged = (_sharded if mesh.shards_weights else _whole)(held, mesh, item, adds_whole)
    states = _state_bytes(model, settings, held) / mesh.dp_shard
    averages = 0 if settings.ema_decay is None else 4 * held.num / (mesh.dp_shard if mesh.shards_weights else 1)
    if settings.cpu_offload and mesh.shards_weights:  # shards of all lie in the host's memory
        shards = 4 * held.num / mesh.dp_shard
        weights, gradients, states, averages = weights - shards, gradients - shards, 0.0, 0.0
    before = gradients if adds_whole or (mesh.size > 1 and not mesh.shards_weights) else 0.0
    if is_added_up and not adds_whole:  # the sums of the micro-batches before
        before = 0.0 if settings.cpu_offload else 4 * held.num / mesh.dp_shard
    models = parts(model).values()
    return Memory(
        weights=weights + averages,
        gradients=gradients,
        optimizer=states,
        activations=sum(_kept(one, settings, mesh, device) for one in models),
        head=_head_bytes(model, settings, mesh, device),
        back=exchanged + max(_back(one, settings, mesh) for one in models),
        gradients_before=before,
    )


def _whole(held: Held, mesh: Mesh, item: int, adds_whole: bool) -> tuple[float, float, float]:
    """Weights, gradients, and what an exchange takes, where each process has all: masters, and beside them copies in
    what is computed in. Gradients are float32, in the buckets in which they are summed.
    """
    copies = item * held.num if item < 4 else 0.0
    return 4 * held.num + copies, 4 * held.num, item * held.largest_block


def _sharded(held: Held, mesh: Mesh, item: int, adds_whole: bool) -> tuple[float, float, float]:
    """The same of FSDP2. Float32 masters are sharded; what is computed with is gathered: what lies outside of the
    blocks and, with ZeRO-2 for the whole step, the blocks; with ZeRO-3 two of them at a time, the next one's while one
    computes.

    Micro-batches are added up in float32, whole unless they are summed one by one. Else a block's gradients are whole
    until they are summed, under the float32 buffer of the exchange, and those outside of the blocks to the end.
    """
    shards = 4 * held.num / mesh.dp_shard
    gathered = held.in_blocks if mesh.zero_stage == 2 else min(2 * held.largest_block, held.in_blocks)
    weights = shards + item * (held.outside + gathered)
    exchanged = (item + 4) * held.largest_block
    if adds_whole:
        return weights, 4 * held.num + shards, exchanged
    return weights, shards + (item + 4) * held.outside, exchanged


def _state_bytes(model: nn.Module, settings: PretrainSettings, held: Held) -> float:
    """Of the optimizer, for all that the device holds: AdamW's two moments in float32 or in blocks of 8-bit numbers,
    Muon's one for the matrices of the blocks.
    """
    if settings.optim == "adamw_8bit":
        return 2.1 * held.num
    if settings.optim == "adamw":
        return 8 * held.num
    hidden = sum(one.numel() for name, one in model.named_parameters() if is_hidden_matrix(name, one))
    total = sum(one.numel() for one in model.parameters())
    return float(held.num * (8 - 4 * hidden / total))


def _kept(model: PreTrainedModel, settings: PretrainSettings, mesh: Mesh, device: str) -> float:
    """Activations of one model, of as many micro-batches as the first stage of 1F1B has under way. Tensor parallelism
    splits channels inside the halves of a block and tokens between them.
    """
    found = activations_of(model, settings, mesh)
    again = recomputed(model, settings.gradient_checkpointing)
    probabilities = 0.0
    if device == "cpu" and settings.dtype != "float32" and again == "none" and not settings.torch_compile:
        rows = settings.per_device_train_batch_size
        each = probability_bytes(model.config, rows=rows, length=settings.max_length)
        probabilities = each * len(found.blocks) / mesh.cp
    context = (
        0.0 if again == "full" or mesh.cp == 1 else _context_bytes(model.config, settings) * len(found.blocks) / mesh.pp
    )
    return (found.kept(again) + probabilities + context) / mesh.tp


def _context_bytes(config: PretrainedConfig, settings: PretrainSettings) -> float:
    """Of a layer: keys and values of whole rows, which each part of a row gathers."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    tokens = settings.per_device_train_batch_size * settings.max_length
    return float((8 if settings.dtype == "float32" else 4) * tokens * heads * width)


def _back(model: PreTrainedModel, settings: PretrainSettings, mesh: Mesh) -> float:
    found = activations_of(model, settings, mesh)
    return found.on_the_way_back(recomputed(model, settings.gradient_checkpointing)) / mesh.tp


def activations_of(model: PreTrainedModel, settings: PretrainSettings, mesh: Mesh) -> Activations:
    """Of one micro-batch, before it is split along tp."""
    dtype = torch.float32 if settings.dtype == "float32" else torch.bfloat16
    length = max(1, settings.max_length // mesh.cp)
    return activations(model, rows=settings.per_device_train_batch_size, length=length, dtype=dtype)


def _head_bytes(model: nn.Module, settings: PretrainSettings, mesh: Mesh, device: str) -> float:
    """Fused, the output head has its weight's gradient in float32 and then once more, and some rows of logits at a
    time; else all logits are there. Split, it has fewer entries of more rows.
    """
    config = parts(model)[""].config
    tokens = settings.per_device_train_batch_size * settings.max_length / mesh.cp
    if mesh.pp > 1 or not facts_of(config).ends_in_its_head:
        return float(LOGIT_BYTES * tokens * config.vocab_size)
    item = 4 if settings.dtype == "float32" else 2
    entries = -(-config.vocab_size // mesh.tp)
    weight = entries * config.hidden_size
    logits = min(tokens, rows_at_once(torch.device(device), entries)) * entries
    if mesh.tp > 1:
        there = 8  # in float32, and once more while log Z is found
    else:  # in float32, on a GPU their logarithms, and the gradient in what is computed in
        there = (8 if device == "cuda" else 4) + item
    product = 0 if device == "cuda" else item * weight
    again = item * weight if item < 4 else 0
    return float(4 * weight + max(there * logits + product, again) + item * tokens * config.hidden_size)
