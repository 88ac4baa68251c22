"""A slot image as the adapter that vLLM's managers pass around."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from vllm.lora.lora_model import LoRAModel
from vllm.lora.lora_weights import LoRALayerWeights, PackedLoRALayerWeights

from graft.server.engine.lora.head import BIAS, WEIGHT, HeadWeights
from graft.server.engine.lora.tensor_file import map_tensors


class ImageModel(LoRAModel):
    """An adapter whose slices are merged already, as the slots hold them, and its head where it brings one."""

    head: HeadWeights | None = None


def map_image(path: str, slices: Mapping[str, Sequence[str]]) -> dict[str, torch.Tensor]:
    """The image's tensors of the modules in `slices` and of its head, mapped; nothing is read before it is copied.

    Under pipeline parallelism a worker has some of the model's layers, and the image all of them.
    Raises `ValueError` for a broken file, `OSError`.
    """
    return {
        key: tensor
        for key, tensor in map_tensors(Path(path)).items()
        if key in (WEIGHT, BIAS) or key.rsplit(".", 2)[0] in slices
    }


def image_model(image: Mapping[str, torch.Tensor], adapter_id: int, slices: Mapping[str, Sequence[str]]) -> ImageModel:
    """An adapter of the tensors of `map_image`, by name. `slices` names those of each module."""
    tensors: dict[str, dict[tuple[int, str], torch.Tensor]] = {}
    for key, tensor in image.items():
        if key in (WEIGHT, BIAS):
            continue
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
    model = ImageModel(adapter_id, rank, loras)
    model.head = HeadWeights.of_image(image)
    return model


def _weights(name: str, rank: int, a: list[torch.Tensor | None], b: list[torch.Tensor | None]) -> LoRALayerWeights:
    """vLLM's layers of one slice take tensors, the others lists of them."""
    if len(a) == 1 and a[0] is not None and b[0] is not None:
        return LoRALayerWeights(name, rank, rank, a[0], b[0], scaling=1.0)
    return PackedLoRALayerWeights(name, rank, [None] * len(a), a, b, scaling=[1.0] * len(a))
