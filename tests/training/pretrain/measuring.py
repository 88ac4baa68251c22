"""What a training's steps really hold, and what a plan said: in this process, or in one of several.

Arguments: rank, number of processes, folder, names of cases. Each process writes both numbers of each case.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from graft.training.batch.text_rows import PackedText
from graft.training.loop.step import Step
from graft.training.model.blocks import recompute
from graft.training.objective.causal import CausalObjective
from graft.training.parallel.distributed import Distributed
from graft.training.parallel.layout import Alone, Layout
from graft.training.parallel.mesh import Mesh
from graft.training.pretrain.assembly import DTYPES
from graft.training.pretrain.job import optimizers_of
from graft.training.pretrain.memory import memory
from graft.training.pretrain.settings import PretrainSettings
from tests.training.objective.vocabularies import PAD, SEP, documents
from tests.training.pretrain.storages import Storages

NUM_STEPS = 2
"""The optimizer's state is there from the first one's end on."""


@dataclass(frozen=True, kw_only=True)
class Case:
    model_type: str = "llama"
    shape: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    mesh: Mesh = field(default_factory=Mesh)

    @property
    def all_settings(self) -> PretrainSettings:
        plain = {"per_device_train_batch_size": 8, "max_length": 128, "dtype": "bfloat16"}
        return PretrainSettings(**plain | self.settings)

    def model(self) -> PreTrainedModel:
        options: dict[str, Any] = {
            "vocab_size": 2000,
            "hidden_size": 128,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "intermediate_size": 384,
            "max_position_embeddings": 512,
            "tie_word_embeddings": False,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
        config = AutoConfig.for_model(self.model_type, **options | self.shape)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
        return model


AGAIN = {"gradient_checkpointing": True}
TWICE = {"gradient_accumulation_steps": 2}
ALONE: dict[str, Case] = {
    "plain": Case(),
    "checkpointed": Case(settings=AGAIN),
    "selected": Case(settings={"gradient_checkpointing": "selective"}),
    "gpt_neox_selected": Case(model_type="gpt_neox", settings={"gradient_checkpointing": "selective"}),
    "float32": Case(settings={"dtype": "float32"}),
    "float32_checkpointed": Case(settings={"dtype": "float32", **AGAIN}),
    "accumulated": Case(settings=TWICE),
    "muon": Case(settings={"optim": "muon"}),
    "averaged": Case(settings={"ema_decay": 0.9}),
    "few_tokens": Case(
        shape={"hidden_size": 256, "intermediate_size": 1024}, settings={"per_device_train_batch_size": 1}
    ),
    "large_vocabulary": Case(shape={"vocab_size": 20_000}, settings={"per_device_train_batch_size": 2}),
    "long": Case(settings={"max_length": 512, "per_device_train_batch_size": 2}),
    "gpt2": Case(model_type="gpt2", shape={"attn_pdrop": 0.0}),
    "gpt_neox": Case(model_type="gpt_neox"),
    "qwen3": Case(model_type="qwen3", shape={"head_dim": 64, "num_key_value_heads": 2}),
    "qwen3_checkpointed": Case(model_type="qwen3", shape={"head_dim": 64, "num_key_value_heads": 2}, settings=AGAIN),
}
SHARED: dict[str, Case] = {
    f"zero{stage}{'_accumulated' * bool(more)}{'_checkpointed' * bool(again)}": Case(
        mesh=Mesh(dp_shard=2, zero_stage=stage), settings={**more, **again}
    )
    for stage in (1, 2, 3)
    for more in ({}, TWICE)
    for again in ({}, AGAIN)
} | {
    "dp": Case(mesh=Mesh(dp_replicate=2)),
    "zero3_summed_each": Case(mesh=Mesh(dp_shard=2), settings={**TWICE, "sync_each_batch": True}),
    "zero2_summed_each_checkpointed": Case(
        mesh=Mesh(dp_shard=2, zero_stage=2), settings={**TWICE, **AGAIN, "sync_each_batch": True}
    ),
    "zero3_float32": Case(mesh=Mesh(dp_shard=2), settings={"dtype": "float32"}),
    "zero3_few_tokens": Case(
        mesh=Mesh(dp_shard=2),
        shape={"hidden_size": 256, "intermediate_size": 1024},
        settings={"per_device_train_batch_size": 2},
    ),
}


def planned(case: Case) -> float:
    with torch.device("meta"):
        return memory(case.model(), case.all_settings, case.mesh, device="cpu").total


def measured(case: Case) -> int:
    """Bytes at most, of all tensors of two steps and what they begin with."""
    settings, model = case.all_settings, case.model()
    recompute(model, str(settings.gradient_checkpointing))
    layout: Layout = Alone()
    dtype = DTYPES[settings.dtype or "bfloat16"]
    if case.mesh.size == 1:
        model = model.to(dtype)
    else:
        layout = Distributed(case.mesh, sums_each_batch=settings.sync_each_batch)
        layout.place(model, dtype)
    data = PackedText(
        documents(*[settings.max_length + 5] * 40),
        length=settings.max_length,
        end_id=SEP,
        pad_id=PAD,
        rows_per_batch=settings.per_device_train_batch_size,
        batches_per_step=settings.gradient_accumulation_steps * case.mesh.dp,
        seed=0,
    )
    with Storages([*model.parameters(), *model.buffers()]) as storages:
        step = Step(
            model,
            objective=CausalObjective(),
            optimizers=optimizers_of(settings),
            layout=layout,
            average_decay=settings.ema_decay,
        )
        for number in range(NUM_STEPS):
            step.forward_backward(data.batches(number, layout.share))
            step.optimizer_step(1e-3)
    return storages.peak


def main(rank: int, num: int, folder: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), num)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=num)
    found = {name: (planned(SHARED[name]), measured(SHARED[name])) for name in names}
    (folder / f"found-{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
