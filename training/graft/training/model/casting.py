"""A model in the numbers that it is computed with: all of it but the frequencies of rotary positions (Su et al. 2021,
arXiv:2104.09864, §3.2.2), which are multiplied by places up to the length of a context. bfloat16 has eight bits, so an
angle at place 10,000 would be off by whole turns. Hugging Face's ``from_pretrained`` leaves them in float32, too.

It leaves more, which is rounded here: finished sines (``embed_positions`` of GPT-J and CodeGen), which lose no turns,
and what routers add to their scores (``e_score_correction_bias`` of DeepSeek-V3 and its kin).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

ModelT = TypeVar("ModelT", bound=nn.Module)


def cast(model: ModelT, dtype: torch.dtype, device: torch.device | str | None = None) -> ModelT:
    """The model itself, its parameters and buffers in a type, and moved where a device is named."""
    frequencies = [(module, name, one) for module, name, one in _buffers(model) if _is_frequency(name)]
    model.to(device=device, dtype=dtype)
    for module, name, one in frequencies:
        module._buffers[name] = one.to(device=device)
    return model


def cast_buffers(model: nn.Module, dtype: torch.dtype | None, device: torch.device | str | None = None) -> None:
    """The same of a model whose parameters are still to come; without a type each keeps its own."""
    for module, name, one in _buffers(model):
        is_cast = one.is_floating_point() and not _is_frequency(name)
        module._buffers[name] = one.to(device=device, dtype=dtype if is_cast else None)


def _buffers(model: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    for module in model.modules():
        for name, one in list(module.named_buffers(recurse=False)):
            yield module, name, one


def _is_frequency(name: str) -> bool:
    """``inv_freq``, ``original_inv_freq``, and before them the kind of the layers where kinds differ."""
    return name.endswith("inv_freq")
