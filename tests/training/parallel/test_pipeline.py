"""What a pipeline adds up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from graft.training.batch.packing import Encoded, PackedBatch, batch_of_rows
from graft.training.loop.weights import Weights
from graft.training.objective.causal import CausalObjective
from graft.training.parallel.layout import Alone, Layout, Work
from graft.training.parallel.pipeline import Pipeline, cut
from tests.training.parallel.runs import model_of


@pytest.fixture
def group(tmp_path: Path) -> Iterator[dist.ProcessGroup]:
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    assert dist.group.WORLD is not None
    yield dist.group.WORLD
    dist.destroy_process_group()


@pytest.mark.parametrize("is_pipeline", [True, False])
def test_reading_16_micro_batches_add_up_in_float32(is_pipeline: bool, group: dist.ProcessGroup) -> None:
    """Three, five or seven times a bfloat16 number is none in general: the same micro-batch so often gives exactly so
    often its gradient only where the sum is wider.
    """
    row = Encoded(input_ids=list(range(5, 29)), supervised=[True] * 24)
    batch = batch_of_rows([[row], [row]], length=32, pad_id=0)

    def gradients(batches: list[PackedBatch]) -> dict[str, torch.Tensor]:
        model = model_of("llama").to(torch.bfloat16)
        weights = Weights(model)
        runner: Pipeline | Layout = Alone()
        if is_pipeline:
            stages = cut(model, rank=0, num=1, schedule="1f1b")
            runner = Pipeline(stages, group=group, schedule="1f1b", device="cpu")
        runner.run(Work(objective=CausalObjective(), model=model, batches=batches, counts={"tokens": 64.0}))
        return {name: one.grad for name, one in weights.masters.items() if one.grad is not None}

    once, often = gradients([batch]), gradients([batch] * 7)
    assert once.keys() == often.keys() and len(once) > 30
    for name, one in once.items():
        assert torch.allclose(often[name], 7 * one, rtol=1e-6, atol=0), name
