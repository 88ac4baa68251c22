"""Two ranks that share the matrices, the tokens between them, and the vocabulary find what one finds alone."""

from __future__ import annotations

import functools
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch._dynamo.utils import counters
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from graft.training.batch.packing import Encoded, PackedBatch, batch_of_rows
from graft.training.errors import ConfigurationError
from graft.training.model.blocks import RECOMPUTATIONS, compile_blocks, recompute
from graft.training.model.deferred import Part, drawn
from graft.training.objective.causal import CausalObjective
from graft.training.parallel.buckets import local
from graft.training.parallel.distributed import Distributed
from graft.training.parallel.filling import part_of
from graft.training.parallel.layout import Alone, Layout, Work
from graft.training.parallel.mesh import Mesh
from graft.training.parallel.tensor import split_tensors
from graft.training.runtime.collectives import all_gather
from tests.training.parallel.threads import in_threads

VOCABULARY, LENGTH, WIDTH = 121, 31, 32
"""Two processes share neither the vocabulary nor the rows alike."""
FAMILIES = ("llama", "mistral", "qwen3", "olmo2", "gpt_neox")


def model_of(model_type: str, *, tie: bool) -> PreTrainedModel:
    torch.manual_seed(0)
    options: dict[str, Any] = {} if model_type in ("olmo2", "gpt_neox", "llama") else {"head_dim": 8}
    config = AutoConfig.for_model(
        model_type,
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4 if model_type == "gpt_neox" else 2,
        intermediate_size=64,
        max_position_embeddings=LENGTH,
        pad_token_id=0,
        tie_word_embeddings=tie,
        **options,
    )
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model.train()


def batch() -> PackedBatch:
    rows = [[Encoded(input_ids=[3, 0, *range(5, last)], supervised=[True] * (last - 3))] for last in (20, 34)]
    return batch_of_rows(rows, length=LENGTH, pad_id=0)


def work(model: PreTrainedModel) -> Work:
    return Work(objective=CausalObjective(z_loss=1e-2), model=model, batches=[batch()] * 2, counts={"tokens": 90.0})


def found(model: PreTrainedModel, layout: Layout) -> dict[str, Tensor]:
    """Losses, gradients and logits."""
    parameters = dict(model.named_parameters())
    layout.hold(parameters, parameters)
    means = layout.run(work(model))
    layout.sum_gradients(parameters)
    result = {f"mean {name}": torch.tensor(float(mean)) for name, mean in means.items()}
    result["norm"] = layout.gradient_norm(parameters)
    for name, one in parameters.items():
        assert one.grad is not None
        result[name] = one.grad.full_tensor() if isinstance(one.grad, DTensor) else one.grad.clone()
    own = batch()
    with torch.no_grad():
        result["logits"] = model(input_ids=own.input_ids_BL, position_ids=own.position_ids_BL, use_cache=False).logits
        model.eval()
        result["measured"] = CausalObjective().sums(model, own)["tokens"]
    return result


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize("model_type", FAMILIES)
def test_losses_gradients_and_logits_are_those_of_one_process(model_type: str, tie: bool) -> None:
    expected = found(model_of(model_type, tie=tie), Alone())
    models = [model_of(model_type, tie=tie) for _ in range(2)]  # threads share torch's generator

    def split(rank: int) -> dict[str, Tensor]:
        layout = Distributed(Mesh(tp=2))
        layout.apply(models[rank])
        shapes = {tuple(one.to_local().shape) for one in models[rank].parameters() if isinstance(one, DTensor)}
        assert (61 - rank, WIDTH) in shapes
        return found(models[rank], layout)

    for one in in_threads(2, split):
        assert one.keys() == expected.keys()
        for name, value in one.items():
            assert torch.allclose(value.float(), expected[name].float(), rtol=1e-5, atol=1e-6), name


def test_what_is_computed_again_on_the_way_back_is_the_same() -> None:
    expected = found(model_of("llama", tie=False), Alone())
    models = [model_of("llama", tie=False) for _ in range(2)]

    def split(rank: int) -> dict[str, Tensor]:
        recompute(models[rank])
        layout = Distributed(Mesh(tp=2))
        layout.apply(models[rank])
        return found(models[rank], layout)

    for one in in_threads(2, split):
        for name, value in one.items():
            assert torch.allclose(value.float(), expected[name].float(), rtol=1e-5, atol=1e-6), name


def test_neither_logits_nor_whole_rows_are_kept_between_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is gathered of the head is two numbers a token; what a block is given and gives is half of the tokens."""
    sizes: list[int] = []

    def counted(part: Tensor, group: dist.ProcessGroup) -> Tensor:
        sizes.append(part.numel())
        return all_gather(part, group)

    models = [model_of("llama", tie=False) for _ in range(2)]
    monkeypatch.setattr(
        "graft.training.objective.sharded_head.all_gather",
        counted,
    )
    seen: list[tuple[int, ...]] = []

    def split(rank: int) -> None:
        layout = Distributed(Mesh(tp=2))
        layout.apply(models[rank])
        for layer in models[rank].model.layers:
            layer.input_layernorm.register_forward_hook(lambda module, args, output: seen.append(tuple(output.shape)))
        layout.hold({}, {})
        layout.run(work(models[rank]))

    in_threads(2, split)
    own = batch()
    assert set(seen) == {(2, 16, WIDTH)}
    assert set(sizes) == {2 * own.num_labels}


@pytest.mark.parametrize(
    ("plan", "told"),
    [({}, "has no plan"), ({"layers.*.mlp.experts": "grouped_gemm"}, "layers.*.mlp.experts by 'grouped_gemm'")],
)
def test_a_plan_that_is_not_understood_is_refused_by_name(plan: dict[str, str], told: str) -> None:
    config = model_of("llama", tie=False).config
    config.base_model_tp_plan = plan
    with pytest.raises(ConfigurationError, match=re.escape(told)):
        Mesh(tp=2).check(config, num_processes=2, batches_per_step=2)


@pytest.mark.parametrize(("model_type", "tie"), [("llama", True), ("olmo2", False), ("gpt_neox", False)])
def test_shards_of_parts_that_were_never_whole_find_the_same(model_type: str, tie: bool) -> None:
    """Two by two: each pair reads another half of the batch."""
    expected = found(model_of(model_type, tie=tie), Alone())
    one_at_a_time = threading.Lock()  # torch's generator is all threads'

    def split(rank: int) -> tuple[Tensor, dict[str, tuple[Part, Tensor]]]:
        layout = Distributed(Mesh(dp_shard=2, tp=2))
        with one_at_a_time:
            deferred = drawn(lambda: model_of(model_type, tie=tie))
            assert deferred is not None
            model = layout.place(deferred, torch.float32).train()
        parameters = dict(model.named_parameters())
        layout.hold(parameters, parameters)
        layout.run(replace(work(model), batches=[batch()]))
        layout.sum_gradients(parameters)
        gradients = {name: (part_of(one), local(one.grad)) for name, one in parameters.items() if one.grad is not None}
        return layout.gradient_norm(parameters), gradients

    ranks = in_threads(4, split)
    assert all(float(norm) == pytest.approx(float(expected["norm"]), rel=1e-5) for norm, _ in ranks)
    for name in ranks[0][1]:
        whole = torch.full_like(expected[name], torch.nan)
        for _, gradients in ranks:
            part, gradient = gradients[name]
            whole[part] = gradient
        assert torch.allclose(whole, expected[name], rtol=1e-5, atol=1e-6), name


@pytest.mark.parametrize("how", RECOMPUTATIONS)
def test_a_split_block_is_compiled_in_one_piece(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    counters["graph_break"].clear()
    try:
        mesh = init_device_mesh("cpu", (1,), mesh_dim_names=("tp",))
        models = [model_of("llama", tie=False) for _ in range(2)]
        for model in models:
            split_tensors(model, mesh)
        recompute(models[0], how)
        compile_blocks(models[0])
        compiled, eager = (Alone().run(work(model)) for model in models)
        assert compiled == eager and not counters["graph_break"]
        for one, other in zip(*(model.parameters() for model in models), strict=True):
            assert one.grad is not None and other.grad is not None
            assert torch.equal(local(one.grad), local(other.grad))
    finally:
        dist.destroy_process_group()
        torch._dynamo.reset()
