"""MFU of a Llama of about a billion parameters in bfloat16, with and without compilation, and where its time goes."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from statistics import median

import torch
from torch.profiler import ProfilerActivity, profile

from graft.bench.training.gpu.teller import Teller
from graft.bench.training.shape import SHAPES, Shape
from graft.training.batch.packing import Encoded, PackedBatch, batch_of_rows
from graft.training.loop.optim import adamw
from graft.training.loop.step import Step
from graft.training.model.blocks import compile_blocks
from graft.training.model.cost.flops import flops_per_token
from graft.training.model.cost.peaks import peak_flops
from graft.training.objective.attending import Circumstances, choose_attention
from graft.training.objective.causal import CausalObjective
from graft.training.parallel.layout import Alone

_TOY = Shape(width=64, num_layers=2, num_heads=4, feed_forward=128, vocab_size=512, rows=2, length=32)
_WARM, _COUNTED = 4, 10
_KERNELS = 14


def measure(teller: Teller) -> None:
    shape = _TOY if teller.rehearses else SHAPES["1b"]
    for name, compiles, documents in (
        ("as it is", False, 1),
        ("compiled", True, 1),
        ("compiled, 8 documents a row", True, 8),
    ):
        if compiles and teller.rehearses:
            continue
        try:
            _trained(teller, shape, name, compiles=compiles, documents=documents)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            teller.lacks(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:300]}")
        gc.collect()
        if teller.device.type == "cuda":
            torch.cuda.empty_cache()


def _trained(teller: Teller, shape: Shape, name: str, *, compiles: bool, documents: int) -> None:
    model = shape.model(teller.device)
    choose_attention(model, "auto", Circumstances(device=teller.device.type, dtype=torch.bfloat16))
    per_token = flops_per_token(model, shape.length)
    if compiles:
        compile_blocks(model)
    step = Step(
        model,
        objective=CausalObjective(),
        optimizers=adamw(weight_decay=0.1, betas=(0.9, 0.95)),
        layout=Alone(teller.device.type),
    )
    batch = _batch(shape, documents)
    seconds = []
    for _ in range(_WARM + _COUNTED):
        begin = time.perf_counter()
        _learn(step, batch, teller)
        seconds.append(time.perf_counter() - begin)
    speed = shape.rows * shape.length / median(seconds[_WARM:])
    teller.figure(f"{name}: speed", speed, "tokens/s")
    teller.figure(f"{name}: first step", seconds[0], "s")
    peak = peak_flops(teller.device.type)
    if per_token is not None and peak is not None:
        teller.figure(f"{name}: MFU", per_token * speed / peak, "ratio")
    if teller.device.type == "cuda":
        teller.figure(f"{name}: peak memory", torch.cuda.max_memory_allocated() / 1e9, "GB")
        torch.cuda.reset_peak_memory_stats()
    teller.text(f"{name}: where a step's time goes", _profile(step, batch, teller))


def _learn(step: Step, batch: PackedBatch, teller: Teller) -> None:
    step.forward_backward([batch])
    step.optimizer_step(1e-4)
    if teller.device.type == "cuda":
        torch.cuda.synchronize()


def _profile(step: Step, batch: PackedBatch, teller: Teller) -> str:
    is_cuda = teller.device.type == "cuda"
    activities: Sequence[ProfilerActivity] = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_cuda else [])]
    with profile(activities=activities) as found:
        _learn(step, batch, teller)
    order = "self_cuda_time_total" if is_cuda else "self_cpu_time_total"
    rows = sorted(found.key_averages(), key=lambda one: -getattr(one, order.replace("cuda", "device")))[:_KERNELS]
    total = sum(getattr(one, order.replace("cuda", "device")) for one in found.key_averages()) or 1
    lines = []
    for one in rows:
        own = getattr(one, order.replace("cuda", "device"))
        lines.append(f"{own / total:6.1%} {own / 1e3:9.2f} ms {one.count:5d} × {one.key[:90]}")
    return "\n".join(lines)


def _batch(shape: Shape, documents: int) -> PackedBatch:
    """Full rows of random tokens."""
    generator = torch.Generator().manual_seed(0)
    size = shape.length // documents
    rows = [
        [
            Encoded(
                input_ids=torch.randint(shape.vocab_size, (size,), generator=generator).tolist(),
                supervised=[True] * size,
            )
            for _ in range(documents)
        ]
        for _ in range(shape.rows)
    ]
    return batch_of_rows(rows, length=shape.length, pad_id=0)
