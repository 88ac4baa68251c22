"""What an engine takes of each GPU: reckoned from the settings and the headers of the base's files."""

from __future__ import annotations

import math
from dataclasses import dataclass

from graft.adapters.base import files as base_files
from graft.adapters.base.files import BaseFiles
from graft.adapters.base.linear_modules import TABLES, linear_modules
from graft.adapters.folder.adaptable import is_expert, is_head
from graft.adapters.form import ServingForm
from graft.server.engine.vllm.environment import EngineSettings

SLACK_BYTES = 2 * 2**30
"""For what is not reckoned: CUDA's own memory, graphs, and the activations of a step."""

# Bytes per number of a quantized layer: NF4's halves with a float32 for each 64. Of all others there are two.
_WIDTH_BYTES = {ServingForm.NF4: 0.5 + 4 / 64, ServingForm.LLM_INT8: 1.0, ServingForm.FP32: 4.0}
_PLAIN_BYTES = 2.0
_SLOT_BYTES = 2
"""Bytes per number in a slot: the kernels of adapters on GPUs compute in 16 bits."""


@dataclass(frozen=True, kw_only=True)
class GpuMemory:
    """Bytes on each GPU. `kv_cache_bytes` is None where the KV cache takes what is left."""

    weights_bytes: int
    slot_bytes: int
    kv_cache_bytes: int | None

    @property
    def reckoned_bytes(self) -> int:
        """Weights, slots and KV cache, without a KV cache that takes what is left."""
        return self.weights_bytes + self.slot_bytes + (self.kv_cache_bytes or 0)

    @property
    def num_bytes(self) -> int:
        """All together, with what is estimated."""
        return self.reckoned_bytes + SLACK_BYTES

    def __str__(self) -> str:
        cache = "the rest" if self.kv_cache_bytes is None else _gib(self.kv_cache_bytes)
        return (
            f"weights {_gib(self.weights_bytes)}, adapter slots {_gib(self.slot_bytes)}, activations, graphs and CUDA "
            f"{_gib(SLACK_BYTES)}, key-value cache {cache}"
        )


def gpu_memory(settings: EngineSettings) -> GpuMemory:
    """Raises `InvalidBase` for a folder that cannot be read."""
    files = base_files.read(settings.base_path)
    num_stages = settings.pipeline_parallel_size
    return GpuMemory(
        weights_bytes=math.ceil(_weights_bytes(files, settings.form) / (num_stages * settings.tensor_parallel_size)),
        slot_bytes=math.ceil(_slot_bytes(files, settings) / num_stages),
        kv_cache_bytes=settings.kv_cache_bytes,
    )


def _weights_bytes(files: BaseFiles, form: ServingForm) -> float:
    if files.form is not None:
        return files.size_bytes
    return sum(math.prod(info.shape) * _width_bytes(name, info.shape, form) for name, info in files.tensors.items())


def _width_bytes(name: str, shape: tuple[int, ...], form: ServingForm) -> float:
    """Look-up tables, norms and the output head are not quantized."""
    module = name.removesuffix(".weight")
    is_layer = len(shape) > 1 and not is_head(module) and module.rpartition(".")[2] not in TABLES
    width = _WIDTH_BYTES.get(form, _PLAIN_BYTES)
    return width if is_layer or form is ServingForm.FP32 else _PLAIN_BYTES


def _slot_bytes(files: BaseFiles, settings: EngineSettings) -> int:
    """A and B of the largest rank for each slot, and once more for the adapter that is under way; at most so many, as
    tensor parallelism splits one of the two."""
    if not settings.num_slots:
        return 0
    shapes = linear_modules(files.tensors, files.packed).shapes
    sides = sum(sum(shape) for name, shape in shapes.items() if not is_head(name) and not is_expert(name))
    return (settings.num_slots + 1) * settings.rank_step * sides * _SLOT_BYTES


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f} GiB"
