"""Which card, with what installed, and what it does at best."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, version

import torch

from graft.bench.training.gpu.teller import Teller
from graft.bench.training.gpu.timing import cost
from graft.training.model.cost.peaks import peak_of

_PACKAGES = (
    *("torch", "triton", "transformers", "peft", "accelerate", "bitsandbytes", "torchao"),
    *("flash-attn", "vllm", "vllm-bnb-plugin", "pytest"),
)


def measure(teller: Teller) -> None:
    for name in _PACKAGES:
        try:
            teller.figure(name, version(name), "version")
        except PackageNotFoundError:
            teller.lacks(name)
    if not teller.rehearses:
        _card(teller)
    _limits(teller)


def _card(teller: Teller) -> None:
    properties = torch.cuda.get_device_properties(0)
    teller.figure("card", properties.name)
    teller.figure("compute capability", f"{properties.major}.{properties.minor}")
    teller.figure("memory", properties.total_memory / 1e9, "GB")
    teller.figure("CUDA of torch", str(torch.version.cuda))
    asked = ["nvidia-smi", "--query-gpu=driver_version,power.limit,mig.mode.current", "--format=csv,noheader"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
        teller.figure("driver, power limit, MIG", said)
    except (OSError, subprocess.SubprocessError) as error:
        teller.lacks(f"nvidia-smi: {error}")


def _limits(teller: Teller) -> None:
    """Of one large product and of one large copy: what all other figures are shares of."""
    size = 256 if teller.rehearses else 8192
    one, other = (torch.randn(size, size, device=teller.device, dtype=torch.bfloat16) for _ in range(2))
    speed = 2 * size**3 / cost(lambda: one @ other, teller.device, rounds=20).seconds
    teller.figure(f"bfloat16 product of {size}", speed / 1e12, "TFLOP/s")
    if not teller.rehearses and (peak := peak_of(torch.cuda.get_device_name())):
        teller.figure("of the data sheet's peak", speed / peak, "ratio")
    elements = 1 << (20 if teller.rehearses else 30)
    source = torch.zeros(elements, device=teller.device, dtype=torch.bfloat16)
    target = torch.empty_like(source)
    seconds = cost(lambda: target.copy_(source), teller.device, rounds=10).seconds
    teller.figure("memory, read and written", 4 * elements / seconds / 1e9, "GB/s")
