"""What an engine is asked on a CPU and on a GPU, which is simulated: vLLM's own argument objects, another platform."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform

from graft.adapters.errors import InvalidBase
from graft.adapters.form import ServingForm
from graft.server.engine.engine import EngineError
from graft.server.engine.vllm import fitness
from graft.server.engine.vllm.devices.arguments import engine_arguments
from graft.server.engine.vllm.devices.cpu import Cpu
from graft.server.engine.vllm.devices.device import Device, device_of
from graft.server.engine.vllm.fitness import check_fitness
from tests.server.engine.vllm.devices.simulated import BASE, CUDA, SETTINGS, OtherPlatform, SimulatedCuda


def arguments(device: Device, **changes: Any) -> AsyncEngineArgs:
    return AsyncEngineArgs(**engine_arguments(replace(SETTINGS, **changes), device))


@pytest.mark.parametrize("form", list(ServingForm))
def test_a_gpu_compiles_wherever_it_can(form: ServingForm) -> None:
    """bitsandbytes' 8-bit products cannot be captured; a CPU gains nothing."""
    assert arguments(CUDA, form=form).enforce_eager is (form is ServingForm.LLM_INT8)
    assert arguments(Cpu(), form=form).enforce_eager is True


def test_a_gpus_memory_can_be_said() -> None:
    default = arguments(CUDA)
    assert (default.gpu_memory_utilization, default.kv_cache_memory_bytes) == (0.9, None)
    assert arguments(CUDA, gpu_memory_fraction=0.4).gpu_memory_utilization == 0.4
    assert "gpu_memory_utilization" not in engine_arguments(SETTINGS, Cpu())
    assert Cpu().variables(replace(SETTINGS, kv_cache_bytes=2**31 + 1))["VLLM_CPU_KVCACHE_SPACE"] == "3"
    assert Cpu().variables(SETTINGS)["VLLM_CPU_KVCACHE_SPACE"] == "1"


def test_a_context_is_as_long_as_the_cache_holds_unless_it_is_said() -> None:
    """A base of 131,072 tokens on a card that holds 20,000 of them is served, not refused."""
    for device in (Cpu(), CUDA):
        assert arguments(device).max_model_len == -1
        assert arguments(device, max_model_tokens=4096).max_model_len == 4096


def test_a_base_is_split_over_gpus() -> None:
    split = arguments(CUDA, tensor_parallel_size=4, pipeline_parallel_size=2, max_step_tokens=4096)
    assert (split.tensor_parallel_size, split.pipeline_parallel_size, split.max_num_batched_tokens) == (4, 2, 4096)


def test_a_gpus_engine_is_spawned_and_compiles_nothing_in_the_way_of_a_request() -> None:
    variables = device_of(SimulatedCuda()).variables(SETTINGS)
    assert variables["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"
    assert variables["VLLM_USE_FLASHINFER_SAMPLER"] == "0"
    assert "TORCHDYNAMO_DISABLE" not in variables
    assert device_of(SimulatedCuda()).arguments(SETTINGS).keys().isdisjoint({"block_size"})


@pytest.mark.parametrize(
    ("changes", "quantized_before", "field"),
    [
        ({"form": ServingForm.FP32}, False, "quantization"),
        ({"form": ServingForm.FP32, "num_slots": 0}, False, None),
        ({"form": ServingForm.NF4, "tensor_parallel_size": 2}, True, "tensor_parallel_size"),
        ({"form": ServingForm.NF4, "tensor_parallel_size": 2}, False, None),
        ({"form": ServingForm.NF4, "pipeline_parallel_size": 2}, True, None),
    ],
)
def test_what_a_gpu_cannot_do_is_said(changes: dict[str, Any], quantized_before: bool, field: str | None) -> None:
    reasons = list(CUDA.reasons(replace(SETTINGS, **changes), quantized_before=quantized_before))
    assert [reason.field for reason in reasons] == ([] if field is None else [field])
    assert all(reason.remedy for reason in reasons)


@pytest.mark.parametrize(
    ("capability", "dtype", "is_refused"),
    [(75, torch.bfloat16, True), (75, torch.float32, False), (80, torch.bfloat16, False), (90, torch.bfloat16, False)],
)
def test_a_card_without_bfloat16_is_refused_before_the_engine_starts(
    capability: int, dtype: torch.dtype, is_refused: bool
) -> None:
    card = SimpleNamespace(
        is_cuda=lambda: True,
        has_device_capability=lambda least: capability >= least,
        get_device_name=lambda: "Tesla T4",
    )
    reasons = list(fitness._dtype_reasons(card, dtype))
    assert bool(reasons) == is_refused
    assert all("Tesla T4 has no bfloat16" in one.problem and one.remedy for one in reasons)
    assert not list(fitness._dtype_reasons(current_platform, dtype)), "a CPU has"


def test_workers_meet_in_shared_memory_where_there_are_several() -> None:
    """On a CPU the engine's process has one below it, on a GPU none unless the base is split."""
    assert Cpu().num_workers(SETTINGS) == 1
    assert CUDA.num_workers(SETTINGS) == 0
    assert CUDA.num_workers(replace(SETTINGS, tensor_parallel_size=4, pipeline_parallel_size=2)) == 8


def test_a_cpus_engine_is_in_one_process() -> None:
    reasons = list(Cpu().reasons(replace(SETTINGS, tensor_parallel_size=2), quantized_before=False))
    assert [reason.field for reason in reasons] == ["tensor_parallel_size"]


def test_a_base_is_judged_before_the_engine_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(SETTINGS, form=ServingForm.FP32)
    check_fitness(settings, BASE.architecture)
    monkeypatch.setattr(fitness, "device_of", lambda platform: CUDA)
    with pytest.raises(InvalidBase, match="16 bits"):
        check_fitness(settings, BASE.architecture)


def test_a_base_is_not_started_on_a_card_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    card = OtherPlatform(is_cuda=True, has_device_capability=False, get_device_name="Tesla T4")
    monkeypatch.setattr(fitness, "current_platform", card)
    with pytest.raises(InvalidBase, match="Tesla T4 has no bfloat16"):
        check_fitness(SETTINGS, BASE.architecture)
    monkeypatch.setattr(fitness, "current_platform", OtherPlatform(is_unspecified=True))
    with pytest.raises(EngineError, match="finds none that it can use here: graft doctor"):
        check_fitness(SETTINGS, BASE.architecture)
