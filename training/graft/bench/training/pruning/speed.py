"""How fast zeros are multiplied."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import Tensor, nn

_RUNS = 5
_TOKENS = 512


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Median of several runs after one that does not count."""
    found = []
    for _ in range(_RUNS + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - start)
    return float(median(found[1:]))


@torch.inference_mode()
def tokens_per_second(model: nn.Module, batch_BL: Tensor) -> float:
    """Of whole forward passes."""
    return int(batch_BL.numel()) / seconds(lambda: model(input_ids=batch_BL, use_cache=False), batch_BL.device)


@torch.no_grad()
def sparse_speed(layers: Sequence[nn.Linear], *, is_2_of_4: bool) -> float | None:
    """Seconds of all dense products over seconds of the sparse ones: on GPUs sparse tensor cores in bfloat16, which
    take 2:4 only, on CPUs compressed rows in float32, the one type that torch multiplies there.
    """
    device = layers[0].weight.device
    if device.type == "cuda" and not is_2_of_4:
        return None
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    dense = sparse = 0.0
    for layer in layers:
        weight_OI = layer.weight.to(dtype)
        inputs_IT = torch.randn(weight_OI.shape[1], _TOKENS, device=device, dtype=dtype)
        form = (
            torch.sparse.to_sparse_semi_structured(weight_OI)
            if is_2_of_4 and device.type == "cuda"
            else weight_OI.to_sparse_csr()
        )
        dense += seconds(functools.partial(torch.matmul, weight_OI, inputs_IT), device)
        sparse += seconds(functools.partial(torch.matmul, form, inputs_IT), device)
    return dense / sparse
