"""A slot image as the adapter that vLLM's managers pass around."""

from __future__ import annotations

from safetensors import safe_open
from vllm.lora.lora_model import LoRAModel
from vllm.lora.lora_weights import PackedLoRALayerWeights


def read_image(path: str, adapter_id: int) -> LoRAModel:
    """Map the image; nothing is read before it is copied into a slot. Raises `OSError`."""
    slices: dict[str, dict[int, list]] = {}  # type: ignore[type-arg]
    with safe_open(path, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118  # not a mapping
            name, index, side = key.rsplit(".", 2)
            pair = slices.setdefault(name, {}).setdefault(int(index), [None, None])
            tensor = file.get_tensor(key)
            pair[side == "b"] = tensor.t() if side == "b" else tensor
    rank = 0
    loras = {}
    for name, pairs in slices.items():
        count = max(pairs) + 1
        a = [pairs[index][0] if index in pairs else None for index in range(count)]
        b = [pairs[index][1] if index in pairs else None for index in range(count)]
        rank = max(rank, *(each.shape[0] for each in a if each is not None))
        loras[name] = PackedLoRALayerWeights(name, rank, [None] * count, a, b, scaling=[1.0] * count)
    return LoRAModel(adapter_id, rank, loras)
