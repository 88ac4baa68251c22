"""A run's processes at work: who reads what, and what they add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from graft.training.data import WHOLE, Share


class Layout(Protocol):
    """What the loop asks of it. Every process calls the same at the same time."""

    @property
    def share(self) -> Share:
        """The micro-batches that this process reads."""
        ...

    @property
    def is_first(self) -> bool:
        """Whether this process speaks for all."""
        ...

    @property
    def rank(self) -> int:
        """This process among all."""
        ...

    def local(self, batch: Any) -> Any:
        """What of a micro-batch this process computes."""
        ...

    def agree(self, value: bool) -> bool:
        """What the first process says."""
        ...

    def total(self, values: Mapping[str, float]) -> dict[str, float]:
        """Each value, summed over the processes that read different data."""
        ...

    def begin_batch(self, model: nn.Module, *, is_last: bool) -> None:
        """Before a micro-batch: gradients need to be exchanged after the last one of a step only."""
        ...

    def sum_gradients(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """After the last micro-batch: every process holds its part of the gradients of all data."""
        ...

    def gradient_norm(self, parameters: Mapping[str, nn.Parameter]) -> Tensor:
        """The 2-norm of all gradients together."""
        ...

    def owned(self, parameters: Mapping[str, nn.Parameter]) -> Mapping[str, nn.Parameter]:
        """The parameters whose optimizer's state this process keeps."""
        ...

    def share_updates(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """After the optimizers' step: everybody gets what only its owner moved."""
        ...

    @property
    def is_alone(self) -> bool:
        """Whether there is no other process."""
        ...

    def wait(self) -> None:
        """Until every process has come here."""
        ...


class Alone:
    """One process."""

    share = WHOLE
    is_first = True
    is_alone = True
    rank = 0

    def local(self, batch: Any) -> Any:
        return batch

    def agree(self, value: bool) -> bool:
        return value

    def total(self, values: Mapping[str, float]) -> dict[str, float]:
        return dict(values)

    def begin_batch(self, model: nn.Module, *, is_last: bool) -> None:
        pass

    def sum_gradients(self, parameters: Mapping[str, nn.Parameter]) -> None:
        pass

    def gradient_norm(self, parameters: Mapping[str, nn.Parameter]) -> Tensor:
        gradients = [parameter.grad for parameter in parameters.values() if parameter.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    def owned(self, parameters: Mapping[str, nn.Parameter]) -> Mapping[str, nn.Parameter]:
        return parameters

    def share_updates(self, parameters: Mapping[str, nn.Parameter]) -> None:
        pass

    def wait(self) -> None:
        pass


def counted(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The counts of several batches together."""
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)
