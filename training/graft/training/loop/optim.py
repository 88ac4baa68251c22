"""Optimizers, the learning-rate schedule, and how long a training is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Muon, Optimizer

from graft.training.loop.weights import is_hidden_matrix
from graft.training.settings.settings import TrainingSettings

WSD_DECAY = 0.2
"""The part after the warm-up in which WSD's learning rate falls."""

MakeOptimizers = Callable[[Mapping[str, nn.Parameter]], list[Optimizer]]
"""Groups are made with the learning rate 1, or their part of it: each step says what it is."""
RateOf = Callable[[str], float]
"""A parameter's learning rate by its name, as a multiple of the step's."""


def _even(name: str) -> float:
    return 1.0


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Linear warm-up, then down to ``floor``: along a cosine (Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5), a
    line, not at all, or along a line in the last part only (WSD: Hu et al. 2024, arXiv:2404.06395, §4.2).
    """

    num_steps: int
    warmup_steps: int
    floor: float = 0.0
    """Fraction of the peak that remains at the last step."""
    shape: str = "cosine"
    """``cosine``, ``linear``, ``constant`` or ``wsd``."""

    def __call__(self, step: int) -> float:
        """The fraction of the peak learning rate at ``step``, counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        progress = min(1.0, (step - self.warmup_steps) / max(1, self.num_steps - self.warmup_steps))
        fall = {
            "cosine": (1 - math.cos(math.pi * progress)) / 2,
            "linear": progress,
            "constant": 0.0,
            "wsd": max(0.0, 1 - (1 - progress) / WSD_DECAY),
        }[self.shape]
        return 1 - (1 - self.floor) * fall

    @property
    def steady_steps(self) -> int:
        """The first steps, whose rates a longer schedule of the same warm-up and shape has as well."""
        return {"constant": self.num_steps, "wsd": self._first_below_peak(), "cosine": 0, "linear": 0}[self.shape]

    def _first_below_peak(self) -> int:
        """Of WSD."""
        around = math.floor(self.warmup_steps + (1 - WSD_DECAY) * (self.num_steps - self.warmup_steps))
        later = range(max(self.warmup_steps, around - 1), self.num_steps)
        return next((step for step in later if self(step) < 1), self.num_steps)

    def shared_steps(self, other: Schedule, num_steps: int) -> int:
        """How many of the first ``num_steps`` steps have the same rate in both."""
        shorter = min(num_steps, self.num_steps, other.num_steps)
        return next((step for step in range(shorter) if self(step) != other(step)), shorter)


class Epochs(Protocol):
    """Data that know how many steps it takes to see them."""

    def num_steps(self, epochs: float) -> int: ...


def num_steps_of(settings: TrainingSettings, data: Epochs) -> int:
    """Optimizer steps: what was said, or as many as so many epochs take."""
    return settings.max_steps or max(1, data.num_steps(settings.num_train_epochs))


def schedule_of(settings: TrainingSettings, data: Epochs) -> Schedule:
    """How the learning rate moves, by the settings."""
    num_steps = num_steps_of(settings, data)
    return Schedule(
        num_steps=num_steps,
        warmup_steps=math.ceil(num_steps * settings.warmup_ratio)
        if settings.warmup_steps is None
        else settings.warmup_steps,
        floor=settings.lr_min_ratio,
        shape=settings.lr_scheduler_type,
    )


def adamw(
    *, weight_decay: float = 0.01, betas: tuple[float, float] = (0.9, 0.98), rate_of: RateOf = _even
) -> MakeOptimizers:
    """AdamW for everything (Loshchilov & Hutter 2019, arXiv:1711.05101); only matrices decay."""

    def make(parameters: Mapping[str, nn.Parameter]) -> list[Optimizer]:
        groups = decayed(parameters, weight_decay, rate_of)
        return [AdamW(groups, lr=1.0, betas=betas, fused=True)] if groups else []

    return make


def adamw_8bit(
    *,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.95),
    rate_of: RateOf = _even,
    is_paged: bool = False,
) -> MakeOptimizers:
    """AdamW with its state in blocks of 8-bit numbers (Dettmers et al. 2022, arXiv:2110.02861), a quarter as large.
    ``is_paged``: in memory that a GPU's driver moves to the host's where the GPU's does not suffice (Dettmers et al.
    2023, arXiv:2305.14314, section 3).
    """

    def make(parameters: Mapping[str, nn.Parameter]) -> list[Optimizer]:
        from bitsandbytes.optim import AdamW8bit, PagedAdamW8bit

        groups = decayed(parameters, weight_decay, rate_of)
        kind = PagedAdamW8bit if is_paged else AdamW8bit
        return [kind(groups, lr=1.0, betas=betas)] if groups else []

    return make


def decayed(
    parameters: Mapping[str, nn.Parameter], weight_decay: float, rate_of: RateOf = _even
) -> list[dict[str, Any]]:
    """Groups: matrices, which decay, and norms and biases, which do not; each at its rate. What is split over processes
    stands apart from what is whole: a fused step takes one kind.
    """
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, one in parameters.items():
        decay = weight_decay if one.ndim > 1 else 0.0
        groups.setdefault((decay, rate_of(name), isinstance(one, DTensor)), []).append(one)
    return [{"params": some, "weight_decay": decay, "lr": rate} for (decay, rate, _), some in groups.items()]


def muon(*, weight_decay: float = 0.01, betas: tuple[float, float] = (0.9, 0.98)) -> MakeOptimizers:
    """Muon for the matrices of the blocks (``is_hidden_matrix``), AdamW for the rest, at one learning rate.

    Jordan et al. 2024 (kellerjordan.github.io/posts/muon); the update is scaled to AdamW's size as in Liu et al. 2025
    (arXiv:2502.16982, eq. 4).
    """

    def make(parameters: Mapping[str, nn.Parameter]) -> list[Optimizer]:
        hidden = [parameter for name, parameter in parameters.items() if is_hidden_matrix(name, parameter)]
        rest = {name: parameter for name, parameter in parameters.items() if not is_hidden_matrix(name, parameter)}
        made = adamw(weight_decay=weight_decay, betas=betas)(rest)
        if hidden:
            made.insert(0, Muon(hidden, lr=1.0, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))
        return made

    return make


def set_learning_rates(optimizers: Sequence[Optimizer], lr: float) -> None:
    """Sets every group to ``lr`` times the rate it was made with."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * lr


def clip_gradients(parameters: Mapping[str, nn.Parameter], norm: float, max_norm: float) -> None:
    """Scales all gradients, whose joint norm is ``norm``, to one of at most ``max_norm``."""
    factor = max_norm / (norm + 1e-6)
    if factor < 1:
        for parameter in parameters.values():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)
