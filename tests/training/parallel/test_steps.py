"""Several AdamW steps on every kind of mesh have the losses and gradient norms of one process.

Ranks are threads, which know no `reduce`: ZeRO-1 alone is among the layouts in processes.
"""

from __future__ import annotations

import threading

import pytest
import torch

from graft.training.loop.optim import adamw
from graft.training.loop.step import Step
from graft.training.model.deferred import drawn
from graft.training.objective.causal import CausalObjective
from graft.training.parallel.distributed import Distributed
from graft.training.parallel.layout import Alone, Layout
from graft.training.parallel.mesh import Mesh
from tests.training.parallel.test_tensor import batch, model_of
from tests.training.parallel.threads import in_threads

NUM_STEPS, NUM_BATCHES = 4, 4
MESHES = {
    "dp": Mesh(dp_replicate=2),
    "zero1 in two copies": Mesh(dp_replicate=2, dp_shard=2, zero_stage=1),
    "tp": Mesh(tp=2),
    "dp and tp": Mesh(dp_replicate=2, tp=2),
    "zero2": Mesh(dp_shard=2, zero_stage=2),
    "zero3 and tp": Mesh(dp_shard=2, tp=2),
}


def steps(model: torch.nn.Module, layout: Layout) -> list[float]:
    """Losses and norms, in turn."""
    step = Step(model, objective=CausalObjective(), optimizers=adamw(weight_decay=0.1), layout=layout)
    found = []
    for number in range(NUM_STEPS):
        metrics = step.forward_backward([batch()] * (NUM_BATCHES // layout.share.num))
        metrics |= step.optimizer_step(lr=1e-2 / (1 + number))
        found += [metrics["loss"], metrics["gradient_norm"]]
    return found


@pytest.mark.parametrize("name", MESHES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_and_norms_are_those_of_one_process(name: str, dtype: torch.dtype) -> None:
    """In float32. In bfloat16 they stay near: one process by itself is 5 % away in its last norm."""
    mesh, one_at_a_time = MESHES[name], threading.Lock()
    expected = steps(model_of("qwen3", tie=True), Alone())

    def split(rank: int) -> list[float]:
        layout = Distributed(mesh)
        with one_at_a_time:  # torch's generator is all threads'
            deferred = drawn(lambda: model_of("qwen3", tie=True))
            assert deferred is not None
            model = layout.place(deferred, dtype)
        return steps(model, layout)

    tolerance = {"rel": 1e-5, "abs": 1e-5} if dtype == torch.float32 else {"rel": 0.1}
    for found in in_threads(mesh.size, split):
        assert found == pytest.approx(expected, **tolerance)
    assert expected[-2] < expected[0] - 0.5
