"""What cannot be combined is refused before anything starts, with every reason."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, LlamaConfig

from graft.training.errors import ConfigurationError
from graft.training.parallel.context import places
from graft.training.parallel.mesh import Mesh

LLAMA = LlamaConfig(
    vocab_size=128,
    hidden_size=32,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=64,
)


def check(mesh: Mesh, config: Any = LLAMA, *, num: int | None = None, batches: int = 4, length: int = 32) -> None:
    mesh.check(config, num_processes=num or mesh.size, batches_per_step=batches, length=length)


@pytest.mark.parametrize(
    "mesh", [Mesh(), Mesh(dp_replicate=2, dp_shard=2), Mesh(tp=2, pp=2), Mesh(cp=2, dp_shard=2), Mesh(pp=2, dp_shard=2)]
)
def test_what_can_be_combined(mesh: Mesh) -> None:
    check(mesh)


@pytest.mark.parametrize(
    ("mesh", "options", "reason"),
    [
        (Mesh(tp=2, dp_shard=2), {"num": 8}, "dp_shard 2 × tp 2 asks for 4 processes, and there are 8"),
        (Mesh(dp_shard=3), {}, "4 micro-batches a step cannot be dealt to 3 data-parallel groups alike"),
        (Mesh(tp=2), {"config": GPT2Config()}, "tp cannot split a gpt2, only llama, mistral, qwen3, olmo2, gpt_neox"),
        (Mesh(dp_shard=2, tp=2, zero_stage=2), {}, "zero_stage 2 cannot be combined with tp; use zero_stage 3"),
        (Mesh(tp=4), {}, "2 key-value heads cannot be split among tp 4"),
        (Mesh(pp=8), {"batches": 8}, "4 layers do not make 8 pipeline stages"),
        (Mesh(pp=4, schedule="interleaved"), {}, "4 layers do not make 8 pipeline stages"),
        (Mesh(pp=4), {"batches": 2}, "a pipeline of 4 stages needs as many micro-batches"),
        (Mesh(cp=4), {"length": 36}, "rows of 36 tokens cannot be cut into 8 equal chunks for cp 4"),
        (Mesh(pp=2, cp=2), {}, "pp and cp cannot be combined"),
    ],
)
def test_what_cannot(mesh: Mesh, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=f"this mesh cannot be used: .*{reason}"):
        check(mesh, **options)


def test_all_reasons_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"16 processes.*6 micro-batches.*2 key-value heads"):
        check(Mesh(dp_shard=4, tp=4), num=1, batches=6)


@pytest.mark.parametrize(
    ("values", "problem"),
    [({"tp": 0}, "axis tp has the size 0"), ({"zero_stage": 4}, "zero_stage is 4"), ({"schedule": "zb"}, "'zb'")],
)
def test_values_that_mean_nothing(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        Mesh(**values)


@given(st.integers(1, 8), st.integers(1, 8))
def test_contexts_are_a_partition_with_equal_work(num: int, size: int) -> None:
    length = 2 * num * size
    parts = places(length, num)
    assert torch.cat(parts).sort().values.tolist() == list(range(length))
    assert len({int(part.sum()) for part in parts}) == 1, "under a causal mask a token's work grows with its place"
