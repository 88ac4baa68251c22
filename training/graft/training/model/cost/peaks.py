"""What a device could do at best: products of dense 16-bit matrices, by the name that CUDA or ROCm reports.

Numbers are those of data sheets without sparsity, accumulated in float32. NVIDIA's sheets since Ampere print the double
for 2:4 sparsity first, which training does not have. A card whose power is capped does not reach its sheet's clock:
its share is told of the sheet all the same. Of a part of a card (MIG) and of a card not listed nothing is said.
"""

from __future__ import annotations

import logging
import re
import time
from functools import cache

import torch

from graft.training.model.cpu_products import multiply_in_float32

_log = logging.getLogger(__name__)

PEAKS = {
    # Blackwell: architecture technical brief, table 3 (HGX 1,000 W; GB at 1,200 W and above).
    "B200": 2250e12,
    "GB200": 2500e12,
    "B300": 2250e12,
    "GB300": 2500e12,
    "GEFORCE RTX 5090": 209.5e12,
    # Hopper: H100, H200 and GH200 data sheets.
    "H100": 989.4e12,
    "H100 PCIE": 756e12,
    "H100 NVL": 835e12,
    "H200": 989.4e12,
    "H200 NVL": 835e12,
    "GH200": 989.4e12,
    "H800": 989.4e12,
    "H800 PCIE": 756e12,
    "H20": 148e12,
    # Ampere: A100, A800, A10, A10G, A40 and RTX data sheets, GA102 white paper.
    "A100": 312e12,
    "A100 PCIE": 312e12,
    "A800": 312e12,
    "A800 PCIE": 312e12,
    "A40": 149.7e12,
    "A30": 165e12,
    "A10": 125e12,
    "A10G": 70e12,
    "RTX A6000": 154.8e12,
    "GEFORCE RTX 3090": 71e12,
    # Ada: L-series data sheets, Ada white papers.
    "L40S": 362.05e12,
    "L40": 181.05e12,
    "L4": 121e12,
    "RTX 6000 ADA GENERATION": 364.2e12,
    "GEFORCE RTX 4090": 165.2e12,
    # CDNA: Instinct data sheets; of an MI250X each half is a device.
    "MI355X": 2516.6e12,
    "MI350X": 2309.6e12,
    "MI325X": 1307.4e12,
    "MI300X": 1307.4e12,
    "MI250X": 191.5e12,
}
"""FLOP/s in bfloat16 and float16 alike."""
FLOAT16_ONLY = {"V100": 125e12, "V100 PCIE": 112e12, "T4": 65e12}
"""The same in float16, of cards that have no bfloat16 products (Volta and Turing data sheets)."""
_SAID_BESIDE = re.compile(r"\d+G(B|IB)?|HBM\d?E?|SXM\d?|OAM|AC|NVIDIA|TESLA|AMD|INSTINCT|GRAPHICS|ACCELERATOR")
"""Words of a card's name that do not change what it computes: memory, socket and maker."""


def peak_of(name: str, dtype: torch.dtype = torch.bfloat16) -> float | None:
    """FLOP/s of a GPU by its full name, such as ``NVIDIA H100 80GB HBM3``; None where it is not known."""
    words = re.split(r"[\s\-/]+", name.upper())
    key = " ".join(word for word in words if word and not _SAID_BESIDE.fullmatch(word))
    return PEAKS.get(key, FLOAT16_ONLY.get(key) if dtype == torch.float16 else None)


def peak_of_all(device: str, num: int) -> float | None:
    """FLOP/s of so many processes at best; those of one machine without GPUs share its cores."""
    peak = peak_flops(device)
    return peak * num if peak is not None and device == "cuda" else peak


@cache
def peak_flops(device: str) -> float | None:
    """FLOP/s of a device at best, in bfloat16: from the data sheet for a GPU, None, with a warning, where it is not
    known; for CPUs what a large product reaches, measured in half a second.
    """
    if device == "cuda":
        name = torch.cuda.get_device_name()
        peak = peak_of(name)
        if peak is None:
            _log.warning("no data sheet's peak in bfloat16 is known for %s: MFU is left out", name)
        return peak
    multiply_in_float32()  # as a training does
    size = 1536
    one = torch.ones(size, size, dtype=torch.bfloat16)  # no random numbers, which are the training's
    best, end = float("inf"), time.perf_counter() + 0.5  # long enough to find a moment without neighbours
    while (begin := time.perf_counter()) < end:
        one @ one
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best
