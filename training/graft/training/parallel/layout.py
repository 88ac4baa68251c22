"""A run's processes at work: who reads what, and what they add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from graft.training.batch.data import WHOLE, Share
from graft.training.objective.objective import Objective
from graft.training.runtime.pinned import pinned_copy


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a step has this process compute."""

    objective: Objective[Any]
    model: nn.Module
    batches: Sequence[Any]
    counts: Mapping[str, float]
    """Of each term and each metric, over all processes: its mean's divisor."""

    def loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """A micro-batch's part of the loss, with a gradient, and of each mean, without."""
        weight = self.objective.weights
        sums = self.objective.sums(self.model, batch)
        parts = {name: total / max(1.0, self.counts[name]) for name, total in sums.items()}
        loss = torch.stack([weight[name] * part for name, part in parts.items() if name in weight]).sum()
        return loss, {name: part.detach() for name, part in parts.items()}

    def add_gradients(self, before_last: Callable[[], None] = lambda: None) -> dict[str, Tensor]:
        """One micro-batch after the other; see ``Layout.run``."""
        means: dict[str, Tensor] = {}
        for number, batch in enumerate(self.batches, start=1):
            if number == len(self.batches):
                before_last()
            loss, parts = self.loss(batch)
            loss.backward()
            for name, part in parts.items():
                means[name] = means[name] + part if name in means else part.double()
        return means


class Layout(Protocol):
    """What the loop asks of it. Every process calls the same at the same time."""

    @property
    def share(self) -> Share:
        """The micro-batches that this process reads."""

    @property
    def device(self) -> str:
        """Where this process computes: ``cpu`` or ``cuda``."""

    @property
    def num(self) -> int:
        """Processes."""

    @property
    def is_first(self) -> bool:
        """Whether this process speaks for all."""

    @property
    def rank(self) -> int:
        """This process among all."""

    def part(self, batch: Any) -> Any:
        """What of a micro-batch this process computes, where the batch is."""

    def local(self, batch: Any) -> Any:
        """The same on this process's device."""

    def agree(self, value: float) -> float:
        """What the first process says."""

    def all(self, value: bool) -> bool:
        """Whether it holds in every process."""

    def agreed(self, values: Tensor) -> Tensor:
        """What the first process says, left on the device."""

    def total(self, values: Mapping[str, float]) -> dict[str, float]:
        """Each value, summed over the processes that read different data."""

    def summed(self, values: Tensor) -> Tensor:
        """The same of a tensor, left on the device."""

    def hold(self, working: Mapping[str, nn.Parameter], masters: Mapping[str, nn.Parameter]) -> None:
        """Before the first step: backward passes add to the gradients of ``working``, hooks there to the masters'."""

    def release(self) -> None:
        """After the last step: what is held of the model and its gradients is let go."""

    def run(self, work: Work) -> dict[str, Tensor]:
        """Forward and backward of a step's micro-batches; gradients add up. Returns the means here, in float64 and on
        the device: nothing waits for it.
        """

    def sum_gradients(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Before the optimizers' step: every process holds its part of the gradients of all data, or those it owns."""

    def gradient_norm(self, parameters: Mapping[str, nn.Parameter]) -> Tensor:
        """The 2-norm of all gradients together."""

    def owned(self, parameters: Mapping[str, nn.Parameter]) -> Mapping[str, nn.Parameter]:
        """The parameters whose optimizer's state this process keeps."""

    def share_updates(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """After the optimizers' step: everybody gets what only its owner moved."""

    @property
    def is_alone(self) -> bool:
        """Whether there is no other process."""

    def wait(self) -> None:
        """Until every process has come here."""


class Alone:
    """One process."""

    share = WHOLE
    is_first = True
    is_alone = True
    rank = 0
    num = 1

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    def part(self, batch: Any) -> Any:
        return batch

    def local(self, batch: Any) -> Any:
        return moved(batch, self.device)

    def agreed(self, values: Tensor) -> Tensor:
        return values

    def agree(self, value: float) -> float:
        return value

    def all(self, value: bool) -> bool:
        return value

    def total(self, values: Mapping[str, float]) -> dict[str, float]:
        return dict(values)

    def summed(self, values: Tensor) -> Tensor:
        return values

    def hold(self, working: Mapping[str, nn.Parameter], masters: Mapping[str, nn.Parameter]) -> None:
        pass

    def release(self) -> None:
        pass

    def run(self, work: Work) -> dict[str, Tensor]:
        return work.add_gradients()

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


def moved(batch: Any, device: str) -> Any:
    """A batch on a device. From pinned memory it is copied while the device computes."""
    return batch if device == "cpu" else batch.to(device)


def pinned(batch: Any) -> Any:
    """A batch in memory that a GPU can copy from by itself; one that cannot be copied tensor by tensor as it is."""
    return batch.each(pinned_copy) if hasattr(batch, "each") else batch


def counted(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The counts of several batches together."""
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)
