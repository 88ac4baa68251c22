"""What an engine takes of a GPU, beside what its tensors are found to take and what vLLM asks for before it starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.v1.worker.utils import request_memory

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.server.engine.vllm.devices.arguments import engine_arguments
from graft.server.engine.vllm.devices.cuda import Cuda
from graft.server.engine.vllm.devices.gpu_memory import SLACK_BYTES, gpu_memory
from graft.server.engine.vllm.environment import EngineSettings
from graft.training.compress.quantize import Quantization
from tests.server.engine.lora.mixtures import FEED_FORWARD, NUM_EXPERTS, WIDTH, qwen2_moe
from tests.server.engine.vllm.devices.simulated import BASE, SETTINGS, SimulatedCuda

GIB = 2**30


def held_bytes(base: Path, dtype: torch.dtype) -> int:
    """The oracle: a base's numbers as transformers holds them."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    return sum(each.nbytes for each in model.parameters())


@pytest.mark.parametrize(("form", "dtype"), [(ServingForm.BF16, torch.bfloat16), (ServingForm.FP32, torch.float32)])
def test_weights_are_what_they_are_held_in(form: ServingForm, dtype: torch.dtype) -> None:
    found = gpu_memory(replace(SETTINGS, form=form))
    assert found.weights_bytes == held_bytes(BASE.path, dtype)
    halves = gpu_memory(replace(SETTINGS, form=form, tensor_parallel_size=2))
    assert halves.weights_bytes == pytest.approx(found.weights_bytes / 2, abs=1)


def test_quantized_weights_are_smaller_and_tables_are_not(tmp_path: Path) -> None:
    """As bitsandbytes counts: 4 bits and a float32 for 64 of them. Of a folder that is quantized, its files."""
    layers = sum(a * b for name, (a, b) in BASE.modules.items() if ".layers." in name)
    plain = gpu_memory(SETTINGS).weights_bytes
    assert gpu_memory(replace(SETTINGS, form=ServingForm.NF4)).weights_bytes == plain - 2 * layers + layers * 36 // 64
    assert gpu_memory(replace(SETTINGS, form=ServingForm.LLM_INT8)).weights_bytes == plain - layers
    made = Quantization(base=BASE, form=ServingForm.INT8, output=tmp_path / "int8").execute()
    packed = gpu_memory(replace(SETTINGS, base_path=made.path, form=ServingForm.INT8))
    assert packed.weights_bytes == sum(file.stat().st_size for file in made.path.glob("*.safetensors"))
    assert packed.slot_bytes == gpu_memory(SETTINGS).slot_bytes


def test_experts_have_no_slots(tmp_path: Path) -> None:
    """Of rank 8 in bfloat16: q, k, v, o, the router, the shared expert's gate and three layers; one more on its way."""
    base = Base.from_folder(qwen2_moe(tmp_path / "base"))
    settings = EngineSettings(base_path=base.path, base_name=base.name, form=ServingForm.BF16, num_slots=3, max_rank=8)
    half = WIDTH // 2
    attention = 2 * (WIDTH + WIDTH) + 2 * (WIDTH + half)
    gates = WIDTH + NUM_EXPERTS + WIDTH + 1
    shared = 3 * (WIDTH + FEED_FORWARD)
    assert gpu_memory(settings).slot_bytes == 2 * (attention + gates + shared) * 8 * 2 * (3 + 1)
    assert gpu_memory(replace(settings, num_slots=0)).slot_bytes == 0


def arguments(card: SimulatedCuda, **changes: Any) -> AsyncEngineArgs:
    return AsyncEngineArgs(**engine_arguments(replace(SETTINGS, **changes), Cuda(card)))


def starts(asked: AsyncEngineArgs, card: SimulatedCuda, free_bytes: int) -> bool:
    """Whether vLLM's own check of free memory lets the engine start."""
    total = card.get_device_total_memory()
    snapshot: Any = SimpleNamespace(total_memory=total, free_memory=free_bytes, device_="cuda:0")
    cache: Any = SimpleNamespace(gpu_memory_utilization=asked.gpu_memory_utilization)
    try:
        request_memory(snapshot, cache)
    except ValueError:
        return False
    return True


def test_a_cache_whose_bytes_are_said_leaves_room_for_a_neighbour() -> None:
    card = SimulatedCuda()
    said = arguments(card, kv_cache_bytes=4 * GIB)
    assert said.kv_cache_memory_bytes == 4 * GIB
    needed = gpu_memory(replace(SETTINGS, kv_cache_bytes=4 * GIB)).num_bytes
    assert 4 * GIB + SLACK_BYTES < needed < 8 * GIB
    assert starts(said, card, needed + 2**20) and not starts(said, card, needed - 2**20)
    assert not starts(arguments(card), card, needed + 2**20), "by the fraction alone 72 GiB must be free"


def test_the_parts_are_told() -> None:
    plan = Cuda(SimulatedCuda()).plan(replace(SETTINGS, kv_cache_bytes=4 * GIB))
    assert plan is not None and plan.endswith("key-value cache 4.00 GiB")
    assert "weights 0.01 GiB, adapter slots 0." in plan
    rest = Cuda(SimulatedCuda()).plan(SETTINGS)
    assert rest is not None and rest.startswith("72.00 GiB of each GPU: ") and rest.endswith("key-value cache the rest")


def test_what_no_card_here_holds_is_refused_with_its_parts(caplog: pytest.LogCaptureFixture) -> None:
    """Of what is estimated a word is said, no more: activations may be smaller."""
    card = Cuda(SimulatedCuda(total_bytes=24 * GIB))
    assert not list(card.reasons(replace(SETTINGS, kv_cache_bytes=20 * GIB), quantized_before=False))
    assert not caplog.records
    assert not list(card.reasons(replace(SETTINGS, kv_cache_bytes=22 * GIB), quantized_before=False))
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "each has 24.00 GiB" in record.message
    (reason,) = card.reasons(replace(SETTINGS, kv_cache_bytes=24 * GIB), quantized_before=False)
    assert "each has 24.00 GiB" in reason.problem and "key-value cache 24.00 GiB" in reason.problem
    assert "--kv-cache-mib" in reason.remedy and "--num-slots" in reason.remedy


@pytest.mark.parametrize("cache_bytes", [21 * GIB, 22 * GIB, 23 * GIB])
def test_a_card_that_the_engine_fills_is_not_asked_for_all_of_its_memory(cache_bytes: int) -> None:
    """CUDA's own part is never free."""
    card = SimulatedCuda(total_bytes=24 * GIB)
    said, reckoned = arguments(card, kv_cache_bytes=cache_bytes), replace(SETTINGS, kv_cache_bytes=cache_bytes)
    assert starts(said, card, 24 * GIB - 2**29)
    assert not starts(said, card, gpu_memory(reckoned).reckoned_bytes - 2**20)
