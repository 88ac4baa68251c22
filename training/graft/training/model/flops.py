"""How much arithmetic a training is, and how much a device could do.

Counted as PaLM does (Chowdhery et al. 2022, arXiv:2204.02311, appendix B): per token 6 for each weight that is
multiplied by, forward and backward, and 12 · layers · heads · head width · length for attention, causal or not. What is
computed again to save memory does not count.
"""

from __future__ import annotations

import re
import time
from functools import cache

import torch
from torch import nn
from transformers import PreTrainedModel

from graft.training.model.family import facts_of

PEAKS = {
    "B200": 2250e12,
    "GH200": 989e12,
    "H200": 989e12,
    "H100": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "A10": 125e12,
    "V100": 125e12,
    "V100 PCIE": 112e12,
}
"""FLOP/s of dense 16-bit matrix products, from NVIDIA's data sheets (SXM forms, where no other is named)."""


def num_multiplied(model: nn.Module) -> float:
    """Weights that a token is multiplied by: all matrices but position and token embeddings, the output head where it
    shares those; of experts those that are asked, and a shared layer as often as it runs (ALBERT).
    """
    weights = {id(parameter): parameter.numel() for parameter in model.parameters() if parameter.ndim > 1}
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            weights.pop(id(module.weight), None)
    total = float(sum(weights.values()))
    for one in _models(model):
        head = one.get_output_embeddings()
        if head is not None and id(head.weight) not in weights:
            total += head.weight.numel()
        total -= _idle_experts(one)
        total += _repeated(one)
    return total


def flops_per_token(model: nn.Module, length: int) -> float | None:
    """Of forward and backward, in rows of ``length`` tokens; None for encoder-decoders, whose two sides read different
    tokens.
    """
    models = _models(model)
    if any(one.config.is_encoder_decoder for one in models):
        return None
    attention = sum(12.0 * one.config.num_hidden_layers * _heads_width(one) * length for one in models)
    return float(6 * num_multiplied(model) + attention)


def _heads_width(model: PreTrainedModel) -> int:
    """Of all query heads together, which need not be the model's."""
    config = model.config
    width: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return width * int(config.num_attention_heads)


def _models(model: nn.Module) -> list[PreTrainedModel]:
    outer = [model] if isinstance(model, PreTrainedModel) else list(model.children())
    return [one for one in outer if isinstance(one, PreTrainedModel)]


def _idle_experts(model: PreTrainedModel) -> float:
    num = getattr(model.config, "num_local_experts", None)
    if not num:
        return 0.0
    experts = sum(
        parameter.numel() for name, parameter in model.named_parameters() if ".experts." in name and parameter.ndim > 1
    )
    return float(experts * (1 - model.config.num_experts_per_tok / num))


def _repeated(model: PreTrainedModel) -> float:
    part = facts_of(model.config).shared_layers
    if part is None:
        return 0.0
    shared = sum(one.numel() for name, one in model.named_parameters() if part in name and one.ndim > 1)
    return float(shared * (model.config.num_hidden_layers / model.config.num_hidden_groups - 1))


def peak_of(name: str) -> float | None:
    """Of a GPU by its full name, such as ``NVIDIA H100 80GB HBM3``; None where it is not known, or a part of one."""
    words = set(re.split(r"[\s-]+", name))
    fitting = [known for known in PEAKS if set(known.split()) <= words]
    if not fitting or "MIG" in words:
        return None
    return PEAKS[max(fitting, key=len)]


def peak_of_all(device: str, num: int) -> float | None:
    """FLOP/s of so many processes at best; those of one machine without GPUs share its cores."""
    peak = peak_flops(device)
    return peak * num if peak is not None and device == "cuda" else peak


@cache
def peak_flops(device: str) -> float | None:
    """FLOP/s of a device at best, in bfloat16: from the data sheet for a GPU, None where it is not known; for CPUs what
    a large product reaches, measured in half a second.
    """
    if device == "cuda":
        return peak_of(torch.cuda.get_device_name())
    size = 1536
    one = torch.ones(size, size, dtype=torch.bfloat16)  # no random numbers, which are the training's
    best, end = float("inf"), time.perf_counter() + 0.5  # long enough to find a moment without neighbours
    while (begin := time.perf_counter()) < end:
        one @ one
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best
