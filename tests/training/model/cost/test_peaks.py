"""Peaks by the names that devices report."""

from __future__ import annotations

import logging

import pytest
import torch
from torch._inductor.analysis.device_info import _device_mapping

from graft.training.model.cost import peaks
from graft.training.model.cost.peaks import peak_flops, peak_of


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA B200", 2250e12),
        ("NVIDIA GB200", 2500e12),
        ("NVIDIA B300 SXM6 AC", 2250e12),
        ("NVIDIA GB300", 2500e12),
        ("NVIDIA H100 80GB HBM3", 989.4e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA H200", 989.4e12),
        ("NVIDIA H200 NVL", 835e12),
        ("NVIDIA GH200 480GB", 989.4e12),
        ("NVIDIA GH200 144G HBM3e", 989.4e12),
        ("NVIDIA H800", 989.4e12),
        ("NVIDIA H20", 148e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A100-PCIE-40GB", 312e12),
        ("NVIDIA A100 80GB PCIe", 312e12),
        ("NVIDIA A800-SXM4-80GB", 312e12),
        ("NVIDIA L40", 181.05e12),
        ("NVIDIA L40S", 362.05e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA A10G", 70e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA RTX 6000 Ada Generation", 364.2e12),
        ("NVIDIA GeForce RTX 3090", 71e12),
        ("NVIDIA GeForce RTX 4090", 165.2e12),
        ("NVIDIA GeForce RTX 5090", 209.5e12),
        ("AMD Instinct MI300X", 1307.4e12),
        ("AMD Instinct MI325X", 1307.4e12),
        ("AMD Instinct MI250X", 191.5e12),
        # Parts of cards, others that begin with the same word, and what is not listed.
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA RTX 6000", None),
        ("NVIDIA H300", None),
        ("Tesla V100-SXM2-16GB", None),  # no products in bfloat16
        ("Tesla T4", None),
    ],
)
def test_reading_22_a_gpu_is_known_by_its_whole_name(name: str, peak: float | None) -> None:
    assert peak_of(name) == peak


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("Tesla V100-SXM2-16GB", 125e12),
        ("Tesla V100-PCIE-16GB", 112e12),
        ("Tesla T4", 65e12),
        ("NVIDIA H200", 989.4e12),
    ],
)
def test_cards_without_bfloat16_have_a_peak_in_float16(name: str, peak: float) -> None:
    assert peak_of(name, torch.float16) == peak


def test_torchs_own_table_says_the_same() -> None:
    """Dense, as it divides by what sparsity adds; its L4 still has the number with sparsity."""
    theirs = {name: one.tops[torch.bfloat16] / one.tops_sparsity_factor for name, one in _device_mapping.items()}
    both = {name: value for name, value in theirs.items() if peak_of(name) is not None and name != "NVIDIA L4"}
    assert len(both) >= 4
    assert {name: peak_of(name) for name in both} == pytest.approx(
        {name: 1e12 * one for name, one in both.items()}, rel=2e-3
    )


def test_an_unknown_card_is_said_once_and_not_guessed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H300")
    peak_flops.cache_clear()
    with caplog.at_level(logging.WARNING, logger=peaks.__name__):
        assert peak_flops("cuda") is None and peak_flops("cuda") is None
    peak_flops.cache_clear()
    (told,) = caplog.messages
    assert told == "no data sheet's peak in bfloat16 is known for NVIDIA H300: MFU is left out"
