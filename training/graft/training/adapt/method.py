"""A way to train a base on rows: what of it learns, how that is written, and how a server takes what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn
from transformers import PreTrainedModel

from graft.training.adapt.adaptable import Adaptable


class Route(StrEnum):
    """How what a method makes is served."""

    AS_IS = "as-is"
    """It is a LoRA adapter."""
    EXACT = "exact"
    """It has a closed form as a LoRA adapter, which ``graft compile`` makes."""
    MERGE = "merge"
    """Only inside of the base's weights: ``graft compile`` makes a new base."""
    PROMPT = "prompt"
    """As a prompt adapter: vectors in front of the prompt."""
    SVD = "svd"
    """Nearly: as the LoRA adapter that comes closest."""
    NONE = "none"
    """Not at all."""


class Method(Protocol):
    """A value made from settings."""

    @property
    def name(self) -> str:
        """By which ``--method`` knows it."""

    @property
    def route(self) -> Route: ...

    def check(self, base: Adaptable) -> None:
        """Raises ``ConfigurationError`` with everything that is wrong with it for this base, before a weight is
        loaded.
        """

    def inject(self, model: PreTrainedModel, base: Adaptable, *, seed: int) -> nn.Module:
        """The model with what learns: all else is frozen. What learns is held in the type that it is computed with;
        the optimizer keeps float32 masters of it (``loop.weights``). ``seed`` decides its first numbers.
        """

    def save(self, model: nn.Module, whole: Mapping[str, Tensor], folder: Path) -> None:
        """Writes what learned into a folder; ``whole`` are those tensors by their names, on the CPU."""
