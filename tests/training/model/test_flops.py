"""Arithmetic against torch's own count, peaks by name, and what a plan says of memory (number 22)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedModel

from graft.training.model.flops import flops_per_token, peak_of
from graft.training.parallel.mesh import Mesh
from graft.training.pretrain.memory import memory, num_held
from graft.training.pretrain.settings import PretrainSettings

LENGTH, ROWS = 32, 2


def made(model_type: str, **options: Any) -> PreTrainedModel:
    shared: dict[str, Any] = {
        "vocab_size": 99,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 80,
        "max_position_embeddings": LENGTH,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "attn_implementation": "eager",
        "tie_word_embeddings": False,
    }
    kind: Any = AutoModelForMaskedLM if model_type in ("bert", "albert") else AutoModelForCausalLM
    model: PreTrainedModel = kind.from_config(AutoConfig.for_model(model_type, **shared | options))
    return model


@pytest.mark.parametrize(
    ("model_type", "options"),
    [
        ("llama", {}),
        ("llama", {"num_key_value_heads": 2}),
        ("qwen3", {"num_key_value_heads": 2, "head_dim": 24}),  # 96 wide where the model is 32, as in Qwen3-0.6B
        ("qwen3", {"num_key_value_heads": 1, "head_dim": 4}),
        ("mistral", {"num_key_value_heads": 4, "head_dim": 16}),
        ("gpt2", {}),
        ("gpt_neox", {}),
        ("olmo2", {}),
        ("bert", {"tie_word_embeddings": True}),
        ("albert", {"tie_word_embeddings": True, "embedding_size": 16}),
    ],
)
def test_reading_22_arithmetic_is_what_torch_counts(model_type: str, options: dict[str, Any]) -> None:
    """Products of matrices, forward and backward; rotary angles, which torch counts as such, are a few thousandths."""
    model = made(model_type, **options)
    ids = torch.randint(3, 99, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids).loss.backward()
    found = flops_per_token(model, LENGTH)
    assert found is not None
    assert found * ROWS * LENGTH == pytest.approx(counter.get_total_flops(), rel=2e-3)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA GH200 480GB", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("NVIDIA L40", 181e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA A10G", None),
        ("NVIDIA A10", 125e12),
        ("Tesla V100-SXM2-16GB", 125e12),
        ("Tesla V100-PCIE-16GB", 112e12),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_reading_22_a_gpu_is_known_by_its_whole_name(name: str, peak: float | None) -> None:
    assert peak_of(name) == peak


SPLIT = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def test_reading_22_tensor_parallelism_splits_the_matrices_of_the_blocks_only() -> None:
    model = made("llama")
    sizes = {name: one.numel() for name, one in model.named_parameters()}
    is_split = {name: any(part in name for part in SPLIT) for name in sizes}
    assert num_held(model, Mesh(tp=2)) == sum(size / (2 if is_split[name] else 1) for name, size in sizes.items())
    in_a_third = sum(size for name, size in sizes.items() if ".layers.0." in name)
    assert num_held(model, Mesh(pp=3)) == in_a_third + sizes["lm_head.weight"]
    # The head is whole in every process: its vocabulary need not be a multiple of anything.
    Mesh(tp=2).check(model.config, num_processes=2, batches_per_step=1)


@pytest.mark.parametrize("stage", [2, 3])
def test_reading_22_fsdp_adds_up_micro_batches_in_float32_and_whole(stage: int) -> None:
    model, mesh = made("llama"), Mesh(dp_shard=4, zero_stage=stage)
    num = sum(one.numel() for one in model.parameters())
    small = {"max_length": LENGTH, "per_device_train_batch_size": 1}
    once = memory(model, PretrainSettings(**small), mesh, device="cuda")
    often = memory(model, PretrainSettings(gradient_accumulation_steps=2, **small), mesh, device="cuda")
    assert often.gradients == num * (4 / 4 + 4) and once.gradients < num * 2
    # Float32 masters in four parts; beside them, in 16 bits, two blocks of three, or with ZeRO-2 all.
    assert once.weights == pytest.approx(num * (4 / 4 + (2 if stage == 2 else 2 * 2 / 3)))


def test_reading_22_logits_count_where_the_head_is_not_fused() -> None:
    model = made("llama", vocab_size=30_000)
    settings = PretrainSettings(max_length=LENGTH, per_device_train_batch_size=8)
    one, pipeline = (memory(model, settings, mesh, device="cuda").activations for mesh in (Mesh(), Mesh(pp=3)))
    assert pipeline - one > 12 * 8 * LENGTH * 30_000 / 2
