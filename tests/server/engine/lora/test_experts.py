"""Adapters on mixtures of experts: of attention, routers and shared experts; the experts have no slots."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from vllm.model_executor.models.mixtral import MixtralForCausalLM
from vllm.model_executor.models.qwen2_moe import Qwen2MoeForCausalLM
from vllm.model_executor.models.utils import WeightsMapper

from graft.adapters.base.base import Base
from graft.adapters.folder.adaptable import is_expert
from graft.server.engine.engine import ContinuationScore, EngineAdapter
from graft.server.engine.lora.vllm_manager import _renames
from graft.server.engine.vllm.devices.gpu_memory import gpu_memory
from graft.server.engine.vllm.launch import start_engine
from graft.server.engine.vllm.warm_up.adapter import write_warm_up_adapter
from graft.server.engine.vllm.warm_up.warm_up import warm_up
from tests.server.engine.lora.mixtures import mixtral, qwen2_moe, qwen3_moe
from tests.server.engine.lora_cuda.test_split import IDS, asked
from tests.server.engine.making import engine_settings, write_adapter

START = 4
MAX_MEAN_DIFFERENCE = 0.03


def adaptable(base: Base) -> dict[str, tuple[int, int]]:
    return {name: shape for name, shape in base.modules.items() if ".layers." in name and not is_expert(name)}


def mean_difference(score: ContinuationScore, wanted: list[float]) -> float:
    return sum(abs(token.logprob - one) for token, one in zip(score.tokens, wanted, strict=True)) / len(wanted)


def merged_logprobs(base: Base, adapter: Path) -> list[float]:
    """The oracle: log p of `IDS[START:]` by transformers, with the update in the weights (peft adapts no routers)."""
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    weights = dict(model.named_parameters())
    tensors = load_file(adapter / "adapter_model.safetensors")
    with torch.no_grad():
        for name in adaptable(base):
            a, b = (tensors[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
            weights[f"{name.replace('block_sparse_moe', 'mlp')}.weight"] += b @ a
        logprobs = model(torch.tensor([IDS])).logits[0].log_softmax(-1)
    return [float(logprobs[at - 1, IDS[at]]) for at in range(START, len(IDS))]


@pytest.mark.parametrize("make", [qwen2_moe, qwen3_moe, mixtral])
async def test_all_but_the_experts_is_adapted(make: Callable[[Path], Path], tmp_path: Path) -> None:
    base = Base.from_folder(make(tmp_path / "base"))
    adapter = write_adapter(tmp_path / "adapter", adaptable(base), rank=8, seed=3)
    known = EngineAdapter(digest="sha256:mixture", engine_id=1, path=adapter)
    settings = engine_settings(base, num_slots=2, max_rank=8, max_model_tokens=64)
    engine = await start_engine(settings)
    try:
        assert await warm_up(engine, base)
        await engine.load(known)
        path = engine.lora_request(known)
        assert path is not None and path.lora_path.endswith(".slot"), "else it is read in the engine's loop"
        # In float32, without room for one on its way.
        (report,) = await engine.llm.collective_rpc("graft_lora_report")
        assert report["slot_bytes"] == gpu_memory(settings).slot_bytes * 2 * 2 // 3
        found = await engine.score(IDS[:START], IDS[START:], request_id="a", adapter=known)
        alone = await engine.score(IDS[:START], IDS[START:], request_id="b", adapter=None)
    finally:
        await engine.close()
    wanted = merged_logprobs(base, adapter)
    assert mean_difference(found, wanted) <= MAX_MEAN_DIFFERENCE
    assert mean_difference(alone, wanted) > 5 * MAX_MEAN_DIFFERENCE


@pytest.mark.slow
def test_all_but_the_experts_is_adapted_on_a_gpu(tmp_path: Path) -> None:
    """By CUDA's manager, whose copies a CPU makes here."""
    base = Base.from_folder(qwen2_moe(tmp_path / "base"))
    adapter = write_adapter(tmp_path / "adapter", adaptable(base), rank=8, seed=3)
    told = asked(base, adapter, tmp_path)
    assert told["slots"][0].keys() == adaptable(base).keys()
    found = told["logprobs"][START - 1 :]
    wanted = merged_logprobs(base, adapter)
    assert sum(abs(one - other) for one, other in zip(found, wanted, strict=True)) / len(wanted) <= MAX_MEAN_DIFFERENCE


def test_the_warm_up_leaves_experts_alone(tmp_path: Path) -> None:
    base = Base.from_folder(mixtral(tmp_path / "base"))
    write_warm_up_adapter(tmp_path, base)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert {name.removeprefix("base_model.model.").rpartition(".lora_")[0] for name in tensors} == adaptable(
        base
    ).keys()


@pytest.mark.parametrize(
    ("model", "renames"),
    [
        (MixtralForCausalLM, False),  # experts only: `.gate_proj.` to `.w1.`
        (Qwen2MoeForCausalLM, False),  # nothing but what is packed
        (object(), False),
        (SimpleNamespace(hf_to_vllm_mapper=WeightsMapper(orig_to_new_substr={".a.": ".layers."})), True),
        (SimpleNamespace(hf_to_vllm_mapper=WeightsMapper(orig_to_new_prefix={"language.": "model."})), True),
        (SimpleNamespace(hf_to_vllm_mapper=WeightsMapper(orig_to_new_prefix={"visual.": "tower."})), False),
        (SimpleNamespace(hf_to_vllm_mapper=WeightsMapper(orig_to_new_prefix={"language.": ""})), True),
        (SimpleNamespace(hf_to_vllm_mapper=WeightsMapper(orig_to_new_suffix={".q.weight": ".q_proj.weight"})), True),
    ],
)
def test_a_renaming_counts_where_slots_are(model: Any, renames: bool) -> None:
    """A name in the base's files may be another one only where what it is turned into stands in vLLM's name."""
    assert _renames(model, ["model.layers.0.self_attn.q_proj"]) is renames
