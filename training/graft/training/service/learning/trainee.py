"""An adapter that learns what it is told to, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from graft.adapters.adapter import Lineage
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.folder.reference import Reference, ReferenceRow
from graft.training.adapt.made.reference import drawn
from graft.training.adapt.made.written import whole_adapter
from graft.training.job.lineage import code_version
from graft.training.loop.optim import adamw
from graft.training.loop.step import Step
from graft.training.model.quantized import keep_laid_out
from graft.training.objective.policy import read_only
from graft.training.objective.tokens.batch import Datum, TokenBatch, micro_batches
from graft.training.objective.tokens.losses import TOKEN_LOSSES, TokenLoss
from graft.training.objective.tokens.objective import TokenObjective
from graft.training.parallel.layout import Alone
from graft.training.service.learning.held_base import HeldBase
from graft.training.service.learning.shape import Shape
from graft.training.service.refusal import Kind, Refusal

TOKENS_PER_PASS = {"cpu": 2048, "cuda": 16384}
"""Of a micro-batch, padding counted."""
Logprobs = np.ndarray[tuple[int], np.dtype[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What is learned in one call: the sum of a loss over all tokens of all texts."""

    data: Sequence[Datum]
    loss: TokenLoss
    options: Mapping[str, float] = field(default_factory=dict)
    """The loss's own, where they are not what they are by themselves."""


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What came of it, before the weights move."""

    logprobs: Sequence[Logprobs]
    """Nats of each position's target, text by text."""
    loss: float
    """Summed over all positions."""
    num_tokens: int


MIN_EPS = 1e-30
"""With 0 a gradient that was always 0, as that of LoRA's A before the first step, is divided by 0."""


@dataclass(frozen=True, kw_only=True)
class Adam:
    """A step of AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101); all numbers may change from step to step."""

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-12
    weight_decay: float = 0.0
    max_gradient_norm: float | None = None
    """None clips nothing."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What a step was."""

    gradient_norm: float
    """Of all gradients since the step before, as they were before they were clipped."""


class Trainee:
    """One caller at a time."""

    def __init__(self, held: HeldBase, shape: Shape) -> None:
        """Raises ``Refusal``."""
        self.held, self.shape = held, shape
        self.method, model = held.adapted(shape)
        nothing = TokenObjective(loss=TOKEN_LOSSES["cross_entropy"], num_tokens=0)
        make = adamw(weight_decay=0.0, betas=(0.9, 0.95))
        self.step = Step(model, objective=nothing, optimizers=make, layout=Alone(held.device))
        self._first_token = 0
        """Of a text that it learned from."""

    def learn(self, lesson: Lesson, *, forward_only: bool = False) -> Learned:
        """Adds the gradients of the lesson to those of the lessons before, unless it is asked only."""
        data, needs = lesson.data, sorted(lesson.data[0].given)
        sizes = [len(one.input_ids) for one in data]
        parts = micro_batches(sizes, tokens=TOKENS_PER_PASS[self.held.device])
        batches = [TokenBatch.of([data[number] for number in part], needs, pad_id=0) for part in parts]
        found: list[Tensor] = []
        objective = TokenObjective(
            loss=lesson.loss, options=lesson.options, num_tokens=sum(sizes), tell=lambda batch, one: found.append(one)
        )
        self.step.objective = objective
        total = self._asked(objective, batches) if forward_only else self.step.forward_backward(batches)["loss"]
        logprobs: dict[int, Logprobs] = {}
        for part, batch, all_N in zip(parts, batches, found, strict=True):
            each = all_N.to("cpu", torch.float32).split(list(batch.lengths))
            logprobs |= {number: one.numpy() for number, one in zip(part, each, strict=True)}
        if not forward_only:
            self._first_token = data[0].input_ids[0]
        return Learned(logprobs=[logprobs[number] for number in range(len(data))], loss=total, num_tokens=sum(sizes))

    def move(self, adam: Adam) -> Moved:
        """Moves the weights along the gradients so far.

        Raises ``Refusal`` where the gradients are no numbers: they are forgotten, and the weights stay. And where the
        weights are none behind it.
        """
        for optimizer in self.step.state.optimizers:
            for group in optimizer.param_groups:
                group.update(betas=(adam.beta1, adam.beta2), eps=adam.eps, weight_decay=adam.weight_decay)
        most = float("inf") if adam.max_gradient_norm is None else adam.max_gradient_norm
        found = self.step.optimizer_step(adam.learning_rate, max_gradient_norm=most)
        if not np.isfinite(found["gradient_norm"]):
            raise Refusal(
                Kind.INVALID,
                "the gradients are no numbers, and the weights stayed as they were: look at the losses, and take a "
                "lower learning rate or values nearer to 0.",
            )
        if not self.step.is_finite():
            raise Refusal(
                Kind.INVALID,
                "the weights are no numbers behind this step: go on from a state that was saved, with a lower learning "
                "rate or a larger eps.",
            )
        return Moved(gradient_norm=found["gradient_norm"])

    def write(self, folder: Path, *, job: str) -> None:
        """A version that a server takes: PEFT's files, where it comes from, and log-probabilities to compare with."""
        held, model = self.held, self.step.model
        self.method.save(model, whole_adapter(model), folder)
        lineage = Lineage(job=job, data_digest=None, code_version=code_version(), seed=self.shape.seed)
        TrainedRecord(base=held.base.identity, form=held.form, lineage=lineage).write(folder)
        self._reference().write(folder)

    def _reference(self) -> Reference:
        """What a server compares with: tokens that the model itself draws, whose log-probabilities are the least rough.

        In training, as all that is computed here: for an evaluation bitsandbytes would lay the base's weights out anew,
        which are those of all other trainings.
        """
        model = self.step.model.train()
        keep_laid_out(model)
        with torch.no_grad():
            ids = drawn(model, self._first_token, torch.Generator().manual_seed(0))
        row = Datum(input_ids=ids[:-1], target_ids=ids[1:], given={})
        found = self.learn(Lesson(data=[row], loss=TOKEN_LOSSES["cross_entropy"]), forward_only=True)
        logprobs = tuple(min(0.0, round(float(one), 6)) for one in found.logprobs[0])
        asked = ReferenceRow(token_ids=tuple(ids), num_prompt_tokens=1, logprobs=logprobs)
        return Reference(form=self.held.form, rows=(asked,))

    def _asked(self, objective: TokenObjective, batches: Sequence[TokenBatch]) -> float:
        """The loss alone, as a step computes it."""
        model = self.step.model
        model.train()
        keep_laid_out(model)
        with read_only(model):
            return sum(
                float(total)
                for batch in batches
                for total in objective.sums(model, self.step.layout.local(batch)).values()
            )
