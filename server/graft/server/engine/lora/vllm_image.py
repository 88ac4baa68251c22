"""A slot image as the adapter that vLLM's managers pass around."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from vllm.lora.lora_model import LoRAModel
from vllm.lora.lora_weights import LoRALayerWeights, PackedLoRALayerWeights

from graft.server.engine.lora.tensor_file import map_tensors


def read_image(path: str, adapter_id: int, slices: Mapping[str, Sequence[str]]) -> LoRAModel:
    """Map the image; nothing is read before it is copied into a slot. Raises `OSError`, and as `lora_model`."""
    return lora_model(map_tensors(Path(path)), adapter_id, slices)


def lora_model(image: Mapping[str, torch.Tensor], adapter_id: int, slices: Mapping[str, Sequence[str]]) -> LoRAModel:
    """An adapter of an image's tensors, by name. `slices` names those of each module.

    Raises `ValueError`, `KeyError` for a module that is not among them.
    """
    tensors: dict[str, dict[tuple[int, str], torch.Tensor]] = {}
    for key, tensor in image.items():
        name, index, side = key.rsplit(".", 2)
        tensors.setdefault(name, {})[int(index), side] = tensor
    rank = 0
    loras = {}
    for name, found in tensors.items():
        count = len(slices[name])
        a = [found.get((index, "a")) for index in range(count)]
        b = [each if each is None else each.t() for each in (found.get((index, "b")) for index in range(count))]
        rank = max(rank, *(each.shape[0] for each in a if each is not None))
        loras[name] = _weights(name, rank, a, b)
    return LoRAModel(adapter_id, rank, loras)


def _weights(name: str, rank: int, a: list[torch.Tensor | None], b: list[torch.Tensor | None]) -> LoRALayerWeights:
    """vLLM's layers of one slice take tensors, the others lists of them."""
    if len(a) == 1 and a[0] is not None and b[0] is not None:
        return LoRALayerWeights(name, rank, rank, a[0], b[0], scaling=1.0)
    return PackedLoRALayerWeights(name, rank, [None] * len(a), a, b, scaling=[1.0] * len(a))
