"""Twenty steps of a tiny model on every layout, in one set of processes: started by `test_layouts.py`.

Arguments: rank, number of processes, folder, names of cases. Each case writes its losses and, from the first process,
the whole weights that it ended with.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from graft.training.batch.data import WHOLE, Share
from graft.training.batch.packing import PackedBatch
from graft.training.batch.text_rows import PackedText
from graft.training.loop.optim import Schedule, adamw
from graft.training.loop.run import Run
from graft.training.loop.step import Step
from graft.training.model.blocks import RECOMPUTATIONS, compile_blocks, recompute
from graft.training.model.deferred import drawn
from graft.training.objective.attending import Circumstances, choose_attention
from graft.training.objective.causal import CausalObjective
from graft.training.parallel.distributed import Distributed
from graft.training.parallel.layout import Alone, Layout
from graft.training.parallel.mesh import Mesh
from tests.training.objective.vocabularies import PAD, SEP, SIZE, documents

NUM_STEPS = 20
INTERRUPTED_AT = 10
BATCHES_PER_STEP = 4
LENGTH = 32


@dataclass(frozen=True, kw_only=True)
class Case:
    mesh: Mesh
    model_type: str = "llama"
    attention: str = "auto"
    warmup_steps: int = 0
    """In which the batch grows."""
    stops: bool = False
    """It ends after a checkpoint in the middle."""
    goes_on_from: str | None = None
    """It resumes what this case left."""
    offloads: bool = False
    sums_each_batch: bool = False
    recomputes: str = "none"
    compiles: bool = False


class Stopped(Exception):
    pass


class StoppingText(PackedText):
    def batches(self, step: int, share: Share = WHOLE) -> list[PackedBatch]:
        if step == INTERRUPTED_AT:
            raise Stopped
        return super().batches(step, share)


CASES: dict[str, Case] = {
    "dp": Case(mesh=Mesh(dp_replicate=4)),
    "zero1": Case(mesh=Mesh(dp_shard=4, zero_stage=1)),
    "zero2": Case(mesh=Mesh(dp_shard=4, zero_stage=2)),
    "zero3": Case(mesh=Mesh(dp_shard=4)),
    "zero3_summed_each": Case(mesh=Mesh(dp_shard=2, cp=2), sums_each_batch=True),
    "zero3_offload": Case(mesh=Mesh(dp_shard=4), offloads=True, recomputes="selective"),
    "hsdp": Case(mesh=Mesh(dp_replicate=2, dp_shard=2)),
    "tp": Case(mesh=Mesh(tp=4)),
    "fsdp_tp": Case(mesh=Mesh(dp_shard=2, tp=2)),
    "cp": Case(mesh=Mesh(cp=4)),
    "fsdp_cp": Case(mesh=Mesh(dp_shard=2, cp=2)),
    "pp": Case(mesh=Mesh(pp=4)),
    "pp_interleaved": Case(mesh=Mesh(pp=2, dp_replicate=2, schedule="interleaved")),
    "pp_tp": Case(mesh=Mesh(pp=2, tp=2)),
    "fsdp_tp_tied": Case(mesh=Mesh(dp_shard=2, tp=2), model_type="tied llama"),
    "zero1_dp": Case(mesh=Mesh(dp_replicate=2, dp_shard=2, zero_stage=1)),
    "pp_fsdp": Case(mesh=Mesh(pp=2, dp_shard=2)),
    "cp_varlen": Case(mesh=Mesh(cp=4), attention="varlen"),
    "cp_varlen_window": Case(mesh=Mesh(dp_replicate=2, cp=2), model_type="mistral", attention="varlen"),
    "pp_varlen": Case(mesh=Mesh(pp=4), attention="varlen"),
    "dp_warmup": Case(mesh=Mesh(dp_replicate=4), warmup_steps=10),
    "pp_warmup": Case(mesh=Mesh(pp=2, dp_replicate=2, schedule="interleaved"), warmup_steps=10),
}
FAMILIES: dict[str, Case] = {
    f"{name}_{model_type}": Case(mesh=mesh, model_type=model_type)
    for model_type in ("mistral", "qwen3", "olmo2", "gpt_neox")
    for name, mesh in (
        ("fsdp_tp", Mesh(dp_shard=2, tp=2)),
        ("cp_tp", Mesh(cp=2, tp=2)),
        ("pp_dp", Mesh(pp=2, dp_replicate=2)),
    )
} | {"zero3_mixtral": Case(mesh=Mesh(dp_shard=4), model_type="mixtral")}
INTERRUPTED: dict[str, Case] = {"interrupted": Case(mesh=Mesh(dp_shard=2, tp=2), stops=True)}
RESUMED: dict[str, Case] = {"resumed": Case(mesh=Mesh(dp_shard=2), goes_on_from="interrupted")}
"""In two processes."""
COMPILED: dict[str, Case] = {
    f"{name}_{how}": Case(mesh=mesh, recomputes=how, compiles=True)
    for name, mesh in (("tp", Mesh(tp=2)), ("zero3", Mesh(dp_shard=2)))
    for how in RECOMPUTATIONS
}
"""In two processes."""


def model_of(model_type: str) -> PreTrainedModel:
    """Weights are drawn from a seed."""
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "vocab_size": SIZE,
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": LENGTH,
        "pad_token_id": PAD,
        "bos_token_id": None,
        "eos_token_id": SEP,
        "tie_word_embeddings": model_type.startswith("tied"),
    }
    if model_type in ("qwen3", "mistral"):
        options["head_dim"] = 8
    if model_type == "mistral":
        options["sliding_window"] = 6
    if model_type == "mixtral":
        options["num_local_experts"] = 4
    model: PreTrainedModel = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(model_type.removeprefix("tied "), **options)
    )
    return model


def trained(
    model: PreTrainedModel,
    layout: Layout,
    folder: Path,
    *,
    warmup_steps: int = 0,
    stops: bool = False,
    resume: bool = False,
) -> None:
    data = (StoppingText if stops else PackedText)(
        documents(*[25] * 400),
        length=LENGTH,
        end_id=SEP,
        pad_id=PAD,
        rows_per_batch=2,
        batches_per_step=BATCHES_PER_STEP,
        warmup_steps=warmup_steps,
        seed=0,
    )
    optimizers = adamw(weight_decay=0.1, betas=(0.9, 0.95))
    Run(
        step=Step(model, objective=CausalObjective(), optimizers=optimizers, layout=layout),
        data=data,
        schedule=Schedule(num_steps=NUM_STEPS, warmup_steps=4, floor=0.1),
        learning_rate=3e-3,
        folder=folder,
        checkpoint_seconds=1e9,
        checkpoint_steps=INTERRUPTED_AT if stops else None,
    ).execute(resume=resume)


def whole(model: nn.Module) -> dict[str, Tensor]:
    """The parameters as one process would have them. Every process calls this."""
    return {
        name: (one.full_tensor() if isinstance(one, DTensor) else one).detach().clone()
        for name, one in model.named_parameters()
    }


def alone(model_type: str, folder: Path, *, warmup_steps: int = 0) -> dict[str, Tensor]:
    model = model_of(model_type)
    trained(model, Alone(), folder, warmup_steps=warmup_steps)
    return whole(model)


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def main(rank: int, num: int, folder: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / f"store-{num}"), num)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=num)
    for name in names:
        case = (CASES | FAMILIES | INTERRUPTED | RESUMED | COMPILED)[name]
        deferred = drawn(functools.partial(model_of, case.model_type))
        assert deferred is not None and isinstance(deferred.model, PreTrainedModel)
        case.mesh.check(deferred.model.config, num_processes=num, batches_per_step=BATCHES_PER_STEP, length=LENGTH)
        split = {"is_split": case.mesh.cp > 1, "is_staged": case.mesh.pp > 1}
        choose_attention(deferred.model, case.attention, Circumstances(device="cpu", dtype=torch.float32, **split))
        recompute(deferred.model, case.recomputes)
        layout = Distributed(case.mesh, offloads=case.offloads, sums_each_batch=case.sums_each_batch)
        model = layout.place(deferred, torch.float32)
        assert isinstance(model, PreTrainedModel)
        if case.compiles:
            with mock.patch.object(torch, "compile", functools.partial(torch.compile, backend="aot_eager")):
                compile_blocks(model)  # traced and split into ways there and back, and no code is made of it
        with contextlib.suppress(Stopped):
            own = folder / (case.goes_on_from or name)
            resume = case.goes_on_from is not None
            trained(model, layout, own, warmup_steps=case.warmup_steps, stops=case.stops, resume=resume)
        weights = whole(model)
        layout.wait()
        torch.save(weights, own / f"weights-{rank}.pt")
        layout.wait()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
