"""A slot image as the adapter that vLLM's managers pass around."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from vllm.lora.lora_model import LoRAModel
from vllm.lora.lora_weights import PackedLoRALayerWeights

from graft.server.engine.lora_cpu.tensor_file import map_tensors


def read_image(path: str, adapter_id: int, slices: Mapping[str, Sequence[str]]) -> LoRAModel:
    """Map the image; nothing is read before it is copied into a slot. `slices` names those of each module.

    Raises `OSError`, `ValueError`, `KeyError` for a module that is not among them.
    """
    tensors: dict[str, dict[tuple[int, str], torch.Tensor]] = {}
    for key, tensor in map_tensors(Path(path)).items():
        name, index, side = key.rsplit(".", 2)
        tensors.setdefault(name, {})[int(index), side] = tensor
    rank = 0
    loras = {}
    for name, found in tensors.items():
        count = len(slices[name])
        a = [found.get((index, "a")) for index in range(count)]
        b = [each if each is None else each.t() for each in (found.get((index, "b")) for index in range(count))]
        rank = max(rank, *(each.shape[0] for each in a if each is not None))
        loras[name] = PackedLoRALayerWeights(name, rank, [None] * count, a, b, scaling=[1.0] * count)
    return LoRAModel(adapter_id, rank, loras)
