"""A way to train a base on rows: what of it learns, how that is written, and how a server takes what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn
from transformers import PreTrainedModel

from graft.adapters.form import ServingForm
from graft.training.adapt.adaptable import Adaptable
from graft.training.loop.optim import RateOf
from graft.training.loop.state import Companion
from graft.training.objective.objective import Objective


class Route(StrEnum):
    """How what a method makes is served."""

    AS_IS = "as-is"
    """It is a LoRA adapter."""
    EXACT = "exact"
    """It has a closed form as a LoRA adapter, which ``graft compile`` makes."""
    MERGE = "merge"
    """Only inside of the base's weights: ``graft compile`` makes a new base."""
    BASE = "base"
    """It is a new base."""
    PROMPT = "prompt"
    """As a prompt adapter: vectors in front of the prompt."""
    SVD = "svd"
    """Nearly: as the LoRA adapter that comes closest."""
    NONE = "none"
    """Not at all."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """From what a method makes to a server."""

    route: Route
    rank: int | None = None
    """Of the LoRA adapter that is served."""
    why: str = ""
    """Why there is no better one."""

    def __str__(self) -> str:
        """One sentence, without its full stop."""
        because = f": {self.why}" if self.why else ""
        return {
            Route.AS_IS: f"served as it is, a LoRA adapter of rank {self.rank}",
            Route.EXACT: f"graft compile makes an exact LoRA adapter of rank {self.rank}",
            Route.MERGE: "graft compile merges it into a new base, to be served with --quantization bf16",
            Route.BASE: "served as a new base of its own, with --quantization bf16: four bits round small changes away",
            Route.PROMPT: "served as a prompt adapter",
            Route.SVD: f"graft compile makes the nearest LoRA adapter of rank {self.rank}",
            Route.NONE: "cannot be served",
        }[self.route] + because


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What of a training's loop is a method's own."""

    objective: Callable[[Objective[Any]], Objective[Any]] = lambda objective: objective
    """What is learned beside the rows."""
    rate_of: RateOf = lambda name: 1.0
    companion: Companion | None = None


class Method(Protocol):
    """A value made from settings."""

    @property
    def name(self) -> str:
        """By which ``--method`` knows it."""

    @property
    def uses(self) -> frozenset[str]:
        """The settings of methods that it looks at."""

    @property
    def packs(self) -> bool:
        """Whether several rows may stand in one line of a batch."""

    @property
    def num_ahead(self) -> int:
        """Vectors that stand before each row."""

    @property
    def shards(self) -> bool:
        """Whether the base's weights may be split over processes."""

    @property
    def shards_optimizer(self) -> bool:
        """Whether the optimizer's state may be."""

    def check(self, base: Adaptable, form: ServingForm) -> None:
        """Raises ``ConfigurationError`` with everything that is wrong with it for this base in this form, before a
        weight is loaded.
        """

    def way(self, base: Adaptable) -> Way:
        """How what it makes is served. What ``check`` refuses has none."""

    def fixed(self, num_steps: int) -> Mapping[str, str]:
        """What of a training's length decides each of its steps, beside the learning rate: such a training cannot be
        prolonged. Raises ``ConfigurationError`` where it is too short.
        """

    def inject(self, model: PreTrainedModel, base: Adaptable, *, seed: int) -> nn.Module:
        """The model with what learns: all else is frozen. What learns is held in the type that it is computed with;
        the optimizer keeps float32 masters of it (``loop.weights``). ``seed`` decides its first numbers.
        """

    def learning(self, model: nn.Module, num_steps: int) -> Learning:
        """For so many steps of what ``inject`` made."""

    def save(self, model: nn.Module, whole: Mapping[str, Tensor], folder: Path) -> None:
        """Writes what learned into a folder; ``whole`` are those tensors by their names, on the CPU."""
