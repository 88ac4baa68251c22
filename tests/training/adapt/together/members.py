"""Trainings of small adapters on one base, each with settings of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from peft import LoraConfig, TaskType, get_peft_model
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from graft.training.adapt.beside.layer import compute_at_once
from graft.training.adapt.together.joint import Joint
from graft.training.adapt.together.met import Met
from graft.training.adapt.together.twin import twin
from graft.training.batch.packing import Encoded
from graft.training.batch.supervised_rows import SupervisedRows
from graft.training.loop.optim import adamw
from graft.training.loop.step import Prepared, Step
from graft.training.objective.causal import CausalObjective
from graft.training.objective.masks import decoder_of


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What may differ between members."""

    seed: int = 0
    rank: int = 8
    alpha: float = 16.0
    targets: str | list[str] = "all-linear"
    learning_rate: float = 5e-3
    length: int = 12
    rows_per_batch: int = 4
    batches_per_step: int = 1
    packing: bool = True
    dropout: float = 0.0


SEVERAL = (
    Settings(seed=1),
    Settings(seed=2, rank=4, alpha=12.0, learning_rate=1e-2, length=24, batches_per_step=3),
    Settings(seed=3, rows_per_batch=7, packing=False),
    Settings(seed=4, dropout=0.2, length=40, targets=["q_proj", "down_proj"]),
    Settings(seed=5, alpha=8.0, learning_rate=2e-3),
)


@dataclass(kw_only=True)
class Member:
    """One training."""

    settings: Settings
    step: Step
    data: SupervisedRows
    generator: torch.Generator
    told: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def of(cls, base: PreTrainedModel, settings: Settings, *, dtype: torch.dtype) -> Member:
        torch.manual_seed(settings.seed)
        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,  # type: ignore[arg-type]  # peft takes any number
            lora_dropout=settings.dropout,
            target_modules=settings.targets,
            task_type=TaskType.CAUSAL_LM,
        )
        model: nn.Module = get_peft_model(twin(base), config, autocast_adapter_dtype=False)
        for one in model.parameters():
            if one.requires_grad:
                one.data = one.data.to(dtype)
        if dtype is not torch.float32:  # where peft's own layers round otherwise
            compute_at_once(model)
        generator = torch.Generator().manual_seed(settings.seed)
        step = Step(model, objective=CausalObjective(), optimizers=adamw(), layout=Met(), generator=generator)
        data = SupervisedRows(
            rows=rows(settings),
            rows_per_batch=settings.rows_per_batch,
            batches_per_step=settings.batches_per_step,
            packing=settings.packing,
            pad_id=0,
            seed=settings.seed,
        )
        return cls(settings=settings, step=step, data=data, generator=generator)

    def prepared(self) -> Prepared:
        return self.step.prepare(self.data.batches(self.step.number))

    def learn(self, prepared: Prepared) -> None:
        self.told.append(self.step.learn(prepared, self.settings.learning_rate))

    def learn_alone(self) -> None:
        """With torch's own random numbers, as a training has them that is alone."""
        torch.set_rng_state(self.generator.get_state())
        self.learn(self.prepared())
        self.generator.set_state(torch.get_rng_state())


def rows(settings: Settings) -> list[Encoded]:
    generator = torch.Generator().manual_seed(settings.seed)
    found = []
    for size in torch.randint(6, settings.length + 1, (20,), generator=generator).tolist():
        ids = torch.randint(1, 200, (size,), generator=generator).tolist()
        found.append(Encoded(input_ids=ids, supervised=[at >= size // 2 for at in range(size)]))
    return found


def joint(base: PreTrainedModel, members: Sequence[Member]) -> Joint:
    return Joint(
        base,
        [one.step.model for one in members],
        attention=decoder_of(members[0].step.model).config._attn_implementation,
        generators={number: one.generator for number, one in enumerate(members)},
    )


def learn_together(made: Joint, members: Sequence[Member], chosen: Sequence[int]) -> None:
    """A step of some of them, by their numbers."""
    prepared = {number: members[number].prepared() for number in chosen}
    works = {number: members[number].step.work(one) for number, one in prepared.items()}
    for number, means in made.add_gradients(works).items():
        layout = members[number].step.layout
        assert isinstance(layout, Met)
        layout.meet(means)
    for number, one in prepared.items():
        members[number].learn(one)


def rows_are_computed_alike() -> bool:
    """Whether a product's rounding of a row is the same in any company. It is on the processors that were tried; no
    library promises it.
    """
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(160, 128, generator=generator).bfloat16() for _ in range(2))
    parts = [functional.linear(x[at : at + 32], weight) for at in range(0, 160, 32)]
    stacked = torch.bmm(x.view(5, 32, 128), weight[:8].mT.expand(5, 128, 8))
    alone = torch.stack([functional.linear(one, weight[:8]) for one in x.split(32)])
    return torch.equal(torch.cat(parts), functional.linear(x, weight)) and torch.equal(stacked, alone)
