"""Eight adapters in one training of their base beside the same trainings one after another: whole optimizer steps, on
an NF4 base.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from peft import LoraConfig, TaskType
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedModel

from graft.adapters.form import ServingForm
from graft.bench.training.comparison import RATIO, Figure
from graft.bench.training.shape import SHAPES
from graft.training.adapt.attending import goes_by_documents
from graft.training.adapt.beside.layer import compute_at_once
from graft.training.adapt.methods.through_peft import inject
from graft.training.adapt.together.joint import Joint
from graft.training.adapt.together.met import Met
from graft.training.adapt.together.twin import twin
from graft.training.batch.packing import Encoded
from graft.training.batch.supervised_rows import SupervisedRows
from graft.training.job.export import write_base
from graft.training.loop.optim import adamw
from graft.training.loop.step import Prepared, Step
from graft.training.model.loading import load_base, load_tokenizer
from graft.training.objective.attending import Circumstances, choose_attention
from graft.training.objective.causal import CausalObjective
from graft.training.objective.masks import decoder_of

NUM_ADAPTERS, RANK, LEARNING_RATE = 8, 16, 1e-3
NUM_WARM = 2


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Of a micro-batch of each adapter; half of each row's tokens are learned."""

    num: int
    shortest: int
    longest: int


_SHORT_TOKENS = 128
"""Of a micro-batch that is measured in as many steps as were asked for; larger ones take fewer."""
# A word and its label; those of the table of methods' own task; a sentence; whole texts.
CASES: Mapping[str, Rows] = {
    "4_labels": Rows(num=4, shortest=3, longest=8),
    "4_short": Rows(num=4, shortest=11, longest=23),
    "4_longer": Rows(num=4, shortest=16, longest=32),
    "16x256": Rows(num=16, shortest=256, longest=256),
}


@dataclass(frozen=True, kw_only=True)
class _Training:
    step: Step
    data: SupervisedRows

    def prepared(self) -> Prepared:
        return self.step.prepare(self.data.batches(self.step.number))


def together_figures(bases: Mapping[str, Path], *, num_pairs: int, num_steps: int) -> dict[str, Figure]:
    """``together_vs_apart_8_<base>_<case>``: the ratio of a step of all, and each way's milliseconds. Steps are taken
    in turn: a pair is the medians of up to ``num_steps`` of them.
    """
    figures: dict[str, Figure] = {}
    for name, folder in bases.items():
        base = load_base(folder, ServingForm.NF4)
        choose_attention(base, "auto", Circumstances(device="cpu", dtype=torch.bfloat16, learns_rows=True))
        for case, rows in tqdm(CASES.items(), desc=f"together on {name}"):
            num = max(1, min(num_steps, num_steps * _SHORT_TOKENS // (rows.num * rows.longest)))
            apart, together = _pairs(base, rows, num_pairs=num_pairs, num_steps=num)
            ratios = tuple(one / other for one, other in zip(apart, together, strict=True))
            figures[f"together_vs_apart_{NUM_ADAPTERS}_{name}_{case}"] = Figure(
                value=median(ratios), unit=RATIO, runs=ratios
            )
            for way, seconds in (("apart", apart), ("together", together)):
                runs = tuple(1e3 * one for one in seconds)
                figures[f"together_{name}_{case}_{way}"] = Figure(value=median(runs), unit="ms", runs=runs)
    return figures


def random_base(folder: Path, *, tokenizer_of: Path) -> Path:
    """A Llama of 15.7M random parameters, as a base's folder."""
    write_base(SHAPES["16m"].model(torch.device("cpu")), load_tokenizer(tokenizer_of), folder, card="# Random\n")
    return folder


def _pairs(base: PreTrainedModel, rows: Rows, *, num_pairs: int, num_steps: int) -> tuple[list[float], list[float]]:
    """Seconds of a step of all adapters, by either way."""
    apart, members = _trainings(base, rows), _trainings(base, rows)
    attention = decoder_of(members[0].step.model).config._attn_implementation
    joint = Joint(base, [one.step.model for one in members], attention=attention)
    for _ in range(NUM_WARM):
        _apart(apart)
        _together(joint, members)
    found: list[tuple[float, float]] = []
    for _ in range(num_pairs):
        steps = [(_apart(apart), _together(joint, members)) for _ in range(num_steps)]
        found.append((median(one for one, _ in steps), median(one for _, one in steps)))
    return [one for one, _ in found], [one for _, one in found]


def _apart(trainings: Sequence[_Training]) -> float:
    prepared = [one.prepared() for one in trainings]
    begin = time.perf_counter()
    for training, one in zip(trainings, prepared, strict=True):
        training.step.learn(one, LEARNING_RATE)
    return time.perf_counter() - begin


def _together(joint: Joint, trainings: Sequence[_Training]) -> float:
    prepared = [one.prepared() for one in trainings]
    begin = time.perf_counter()
    works = {number: trainings[number].step.work(one) for number, one in enumerate(prepared)}
    for number, means in joint.add_gradients(works).items():
        layout = trainings[number].step.layout
        assert isinstance(layout, Met)
        layout.meet(means)
    for training, one in zip(trainings, prepared, strict=True):
        training.step.learn(one, LEARNING_RATE)
    return time.perf_counter() - begin


def _trainings(base: PreTrainedModel, rows: Rows) -> list[_Training]:
    return [_training(base, rows, seed) for seed in range(NUM_ADAPTERS)]


def _training(base: PreTrainedModel, rows: Rows, seed: int) -> _Training:
    torch.manual_seed(seed)
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type=TaskType.CAUSAL_LM)
    model: nn.Module = inject(twin(base), config, base_name="base")
    compute_at_once(model)
    optimizers = adamw(weight_decay=0.0, betas=(0.9, 0.999))
    step = Step(model, objective=CausalObjective(), optimizers=optimizers, layout=Met())
    data = SupervisedRows(
        rows=_rows(rows, seed),
        rows_per_batch=rows.num,
        batches_per_step=1,
        packing=True,
        pad_id=0,
        seed=seed,
        has_one_line=goes_by_documents(model, "cpu"),
    )
    return _Training(step=step, data=data)


def _rows(rows: Rows, seed: int) -> list[Encoded]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(rows.shortest, rows.longest + 1, (16 * rows.num,), generator=generator).tolist()
    return [
        Encoded(
            input_ids=torch.randint(1, 250, (length,), generator=generator).tolist(),
            supervised=[2 * at >= length for at in range(length)],
        )
        for length in lengths
    ]
