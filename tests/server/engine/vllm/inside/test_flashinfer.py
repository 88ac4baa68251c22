"""Attention on cards for which vLLM has FlashInfer, with and without what that compiles with: vLLM's own choice."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from vllm.platforms.interface import DeviceCapability
from vllm.v1.attention.backends.mla.prefill import registry as prefill
from vllm.v1.attention.backends.registry import AttentionBackendEnum
from vllm.v1.attention.selector import AttentionSelectorConfig

from graft.server.engine.vllm.inside import flashinfer

BLACKWELL = (10, 0)
LATENT = {"head_size": 576, "use_mla": True}
NEXT: list[tuple[str, dict[str, Any]]] = [
    ("FLASH_ATTN", {"head_size": 128}),
    ("TRITON_ATTN", {"head_size": 320}),
    ("TRITON_ATTN", {"head_size": 128, "dtype": torch.float32}),
    ("TRITON_MLA", LATENT),
    ("FLASHMLA_SPARSE", {**LATENT, "use_sparse": True}),
]
"""What computes a base where FlashInfer is not, of all that can be loaded without a GPU."""


class TakesAnything:
    """FlashInfer's classes, which are not here."""

    @staticmethod
    def validate_configuration(**asked: Any) -> list[str]:
        return []


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    yield
    for backend in AttentionBackendEnum:
        backend.clear_override()
    prefill._MLA_PREFILL_OVERRIDES.clear()


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
    """vLLM's platform of its CUDA build, with FlashInfer, without the kernels that need a GPU to be loaded."""
    monkeypatch.setitem(sys.modules, "vllm._C_stable_libtorch", ModuleType("kernels"))
    names = [backend.value.rsplit(".", 1) for backend in AttentionBackendEnum if backend.name.startswith("FLASHINFER")]
    for path in {path for path, _ in names}:
        monkeypatch.setitem(sys.modules, path, ModuleType(path))
    for path, name in names:
        setattr(sys.modules[path], name, TakesAnything)
    platform = importlib.import_module("vllm.platforms.cuda")

    def loaded(backend: AttentionBackendEnum) -> Any:
        try:
            return backend.get_class()
        except AssertionError as error:  # "Torch not compiled with CUDA enabled"
            raise ImportError(str(error)) from None

    monkeypatch.setattr(platform, "_get_attn_backend_class", loaded)
    return platform


def choice(cuda: ModuleType, base: dict[str, Any], capability: tuple[int, int] = BLACKWELL) -> tuple[list[str], str]:
    """vLLM's fitting kernels, the best first, and why others do not fit."""
    asked = {"dtype": torch.bfloat16, "kv_cache_dtype": "auto", "block_size": None, **base}
    fitting, others = cuda.CudaPlatformBase.get_valid_backends(
        DeviceCapability(*capability), AttentionSelectorConfig(**asked), num_heads=128
    )
    return [each.backend.name for each in fitting], str(others)


@pytest.mark.parametrize(("name", "base"), NEXT, ids=str)
def test_without_nvcc_vllm_takes_the_next_that_computes_the_base(
    name: str, base: dict[str, Any], toolkit: Path, cuda: ModuleType
) -> None:
    before, _ = choice(cuda, base)
    assert before[0].startswith("FLASHINFER")
    flashinfer.pass_over_uncompiled()
    after, others = choice(cuda, base)
    assert after == [each for each in before if "FLASHINFER" not in each]
    assert after[0] == name and "compiled by nvcc and ninja" in others


def test_reading_prompts_with_latent_attention_is_passed_over_too(toolkit: Path) -> None:
    flashinfer.pass_over_uncompiled()
    for name in ("FLASHINFER", "TRTLLM_RAGGED"):
        with pytest.raises(ImportError, match="nvcc"):
            prefill.MLAPrefillBackendEnum[name].get_class()


def test_every_process_of_an_engine_on_a_gpu_does_so(toolkit: Path) -> None:
    """The plugin, loaded in a process of its own: on a CPU, then on what is none."""
    program = """
from vllm.platforms import current_platform
from vllm.v1.attention.backends.registry import AttentionBackendEnum
from graft.server.engine.vllm.inside import plugin
plugin.register()
print(AttentionBackendEnum.FLASHINFER.is_overridden())
type(current_platform).is_cpu = lambda self: False
plugin.register()
print(AttentionBackendEnum.FLASHINFER.is_overridden())
"""
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert said.split()[-2:] == ["False", str(find_spec("flashinfer_jit_cache") is None)]


def test_with_nvcc_the_choice_is_vllms(toolkit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toolkit.touch(mode=0o755)
    flashinfer.pass_over_uncompiled()
    assert not AttentionBackendEnum.FLASHINFER.is_overridden()
    monkeypatch.setenv("PATH", "")
    flashinfer.pass_over_uncompiled()
    assert AttentionBackendEnum.FLASHINFER.is_overridden(), "nvcc without ninja compiles nothing"


def test_what_was_compiled_before_needs_no_nvcc(toolkit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flashinfer, "find_spec", lambda name: object() if name == "flashinfer_jit_cache" else None)
    flashinfer.pass_over_uncompiled()
    assert not AttentionBackendEnum.FLASHINFER.is_overridden()
