"""Attention on cards for which vLLM asks FlashInfer first, with and without what that compiles with."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms.interface import DeviceCapability
from vllm.v1.attention.backends.registry import AttentionBackendEnum

from graft.server.engine.vllm.devices import flashinfer
from graft.server.engine.vllm.devices.arguments import engine_arguments
from graft.server.engine.vllm.devices.cuda import Cuda
from tests.server.engine.vllm.devices.simulated import SETTINGS, SimulatedCuda

CARDS = [(8, 0), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0)]


@pytest.fixture
def toolkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CUDA's, which has no nvcc; ninja is there."""
    for name, folder in (("nvcc", tmp_path / "cuda" / "bin"), ("ninja", tmp_path / "path")):
        folder.mkdir(parents=True)
        (folder / name).touch(mode=0o755)
    (nvcc := tmp_path / "cuda" / "bin" / "nvcc").rename(tmp_path / "kept")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(flashinfer, "find_spec", lambda name: None)
    return nvcc


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """vLLM's platform of its CUDA build, without the kernels that it would load."""
    monkeypatch.setitem(sys.modules, "vllm._C_stable_libtorch", ModuleType("kernels"))
    return importlib.import_module("vllm.platforms.cuda")


def order(cuda: ModuleType, capability: tuple[int, int], *, use_mla: bool) -> Sequence[AttentionBackendEnum]:
    found: Sequence[AttentionBackendEnum] = cuda._get_backend_priorities(use_mla, DeviceCapability(*capability))
    return found


def kernels(capability: tuple[int, int]) -> dict[str, AttentionBackendEnum]:
    device = Cuda(SimulatedCuda(capability=capability))
    return AsyncEngineArgs(**engine_arguments(SETTINGS, device)).attention_config.backend_per_kind


@pytest.mark.parametrize("capability", CARDS, ids=str)
def test_without_nvcc_no_card_computes_with_what_it_would_compile(
    capability: tuple[int, int], toolkit: Path, cuda: ModuleType
) -> None:
    """vLLM's own order says for which cards FlashInfer comes first."""
    first, *_ = order(cuda, capability, use_mla=False)
    chosen = kernels(capability)
    assert chosen.get("full_attention", first) is AttentionBackendEnum.FLASH_ATTN
    assert bool(chosen) is (first is AttentionBackendEnum.FLASHINFER)


def test_latent_attention_has_a_kernel_of_its_own(toolkit: Path, cuda: ModuleType) -> None:
    """FlashAttention is none for it: vLLM would refuse it."""
    chosen = kernels((10, 0))["mla_attention"]
    assert chosen in order(cuda, (10, 0), use_mla=True) and "FLASHINFER" not in chosen.name


def test_with_nvcc_the_choice_is_vllms(toolkit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toolkit.touch(mode=0o755)
    assert kernels((10, 0)) == {}
    monkeypatch.setenv("PATH", "")
    assert kernels((10, 0)), "nvcc without ninja compiles nothing"


def test_what_was_compiled_before_needs_no_nvcc(toolkit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flashinfer, "find_spec", lambda name: object() if name == "flashinfer_jit_cache" else None)
    assert kernels((10, 0)) == {}
