"""One optimizer step in two calls: the gradients of an objective, then the move of the weights.

A run is a loop over it. Who makes batches as the training goes calls it directly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from graft.training.loop.optim import MakeOptimizers, clip_gradients, set_learning_rates
from graft.training.loop.state import Companion, State
from graft.training.loop.weights import Weights, WorkingForm, bfloat16_form
from graft.training.model.attention.in_blocks import attend_in_blocks
from graft.training.model.cpu_products import multiply_in_float32
from graft.training.objective.objective import Objective
from graft.training.parallel.layout import Alone, Layout, Work, counted, moved, pinned
from graft.training.runtime.memory import keep_freed_memory

_TOKENS = "/tokens"
"""Beside the counts of terms, one of which may be called ``tokens``."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A step's micro-batches, as this process computes them, still on the CPU (on a GPU's host in pinned memory)."""

    batches: Sequence[Any]
    counts: Mapping[str, int]
    """Of each term and each metric, in them."""
    num_tokens: int


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What a backward pass gave."""

    means: Mapping[str, Tensor]
    """Over all processes, on the device."""
    num_tokens: float
    num_supervised: float


def _are_finite(loss: float, norm: float) -> bool:
    return math.isfinite(norm)


class Step:
    """A model that learns. Every process of the layout makes one and calls the same at the same time.

    Between the calls ``model`` computes with the weights after the last step, in their working form: it may be read,
    sampled from and evaluated.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        objective: Objective[Any],
        optimizers: MakeOptimizers,
        layout: Layout | None = None,
        working_form: Callable[[int], WorkingForm] = lambda number: bfloat16_form,
        max_gradient_norm: float = 1.0,
        average_decay: float | None = None,
        generator: torch.Generator | None = None,
        companion: Companion | None = None,
    ) -> None:
        """``working_form`` gives the form of the working weights after so many steps. With ``average_decay`` a running
        mean of the weights is kept, which checkpoints hold beside them and which is often better than they are (Polyak
        & Juditsky 1992). ``generator`` is what the model draws from, where that is not torch's own.
        """
        self.model, self.objective, self.layout = model, objective, layout or Alone()
        self.working_form, self._max_gradient_norm = working_form, max_gradient_norm
        self._weights = Weights(model)
        masters = self._weights.masters
        self.layout.hold(self._weights.working, masters)
        self._average_decay = average_decay
        self.state = State(
            masters=masters,
            optimizers=optimizers(self.layout.owned(masters)),
            averages={} if average_decay is None else {name: one.detach().clone() for name, one in masters.items()},
            generator=generator or torch.default_generator,
            companion=companion,
        )
        self._has_gradients = False
        self._cuda = torch.cuda.current_device() if self.layout.device == "cuda" else None
        attend_in_blocks(model)
        multiply_in_float32()
        keep_freed_memory()
        self.go_on(0)

    def go_on(self, number: int) -> None:
        """After ``number`` steps, with the masters as they are now."""
        self.number = number
        self._weights.push(self.working_form(number))

    def prepare(self, batches: Sequence[Any]) -> Prepared:
        """This process's part of micro-batches, counted, for ``learn``. Computes on the CPU only, and may do so in
        another thread.
        """
        own = [self.layout.part(batch) for batch in batches]
        counts = counted(self.objective.counts(batch) for batch in own)
        num_tokens = sum(batch.num_tokens for batch in own)
        if self._cuda is not None:
            with torch.cuda.device(self._cuda):  # a thread's own is the first one
                own = [pinned(batch) for batch in own]
        return Prepared(batches=own, counts=counts, num_tokens=num_tokens)

    def learn(
        self, prepared: Prepared, lr: float, *, accept: Callable[[float, float], bool] = _are_finite
    ) -> dict[str, float]:
        """``forward_backward`` and ``optimizer_step`` in one; ``accept`` is asked with the loss and the norm.

        The device is waited for once: losses, metrics and the norm come in one copy, before the verdict.
        """
        found = self._backward(prepared)
        norm, *means = self._fetched(self._norm(), *found.means.values())
        metrics = self._metrics(found, means)
        is_accepted = self._has_gradients and accept(metrics["loss"], norm)
        self._step(lr, norm, self._max_gradient_norm, is_accepted=is_accepted)
        return {**metrics, "gradient_norm": norm}

    def forward_backward(self, batches: Sequence[Any]) -> dict[str, float]:
        """Adds the gradients of the objective's loss over this process's micro-batches, as many as each other has.

        Means are taken over the micro-batches of all processes. Returns ``loss`` in nats; of several terms each, as
        ``loss_<term>``; the objective's metrics; ``tokens`` that were read; ``supervised_tokens``. Where nothing is
        asked for there is no gradient, and the loss is no number. What fails leaves no gradient, of earlier calls
        neither.
        """
        found = self._backward(self.prepare(batches))
        return self._metrics(found, self._fetched(*found.means.values()))

    def optimizer_step(
        self,
        lr: float,
        *,
        accept: Callable[[float], bool] = math.isfinite,
        max_gradient_norm: float | None = None,
    ) -> dict[str, float]:
        """Moves the weights along the gradients so far, at learning rate ``lr``, and forgets the gradients.

        ``accept`` is asked with their norm before they are clipped, to ``max_gradient_norm`` where that is another than
        the step's own. Where it says no, or nothing was asked for, the weights stay. Returns ``gradient_norm``.
        """
        (norm,) = self._fetched(self._norm())
        most = self._max_gradient_norm if max_gradient_norm is None else max_gradient_norm
        self._step(lr, norm, most, is_accepted=self._has_gradients and accept(norm))
        return {"gradient_norm": norm}

    def forget_gradients(self) -> None:
        """What was learned since the last step is not learned."""
        for master in self.state.masters.values():
            master.grad = None
        self._has_gradients = False

    @torch.no_grad()
    def is_finite(self) -> bool:
        """Whether all weights of all processes are numbers."""
        own = (one.to_local() if isinstance(one, DTensor) else one for one in self.state.masters.values())
        return self.layout.all(all(bool(each.isfinite().all()) for each in own))

    @torch.no_grad()
    def finish(self) -> nn.Module:
        """The model as it is to be kept: with its weights after the last step, or the running mean where there is one.

        What only learning needs is let go: masters, gradients, optimizers. This ends the steps.
        """
        for name, mean in self.state.averages.items():
            self.state.masters[name].copy_(mean)
        self._weights.push(self.working_form(self.number))
        self.forget_gradients()
        self._weights.release()
        self.layout.release()
        self.state = State(masters={}, optimizers=[])
        return self.model.eval()

    def _backward(self, prepared: Prepared) -> _Found:
        if not self.model.training:
            self.model.train()
        totals = self.layout.total({**prepared.counts, _TOKENS: prepared.num_tokens})
        num_tokens, counts = totals.pop(_TOKENS), totals
        num_supervised = max(counts[name] for name in self.objective.weights)
        means: dict[str, Tensor] = {}
        if num_supervised:
            try:
                here = self.layout.run(self._work(prepared, counts))
                means = dict(zip(here, self.layout.summed(torch.stack(list(here.values()))), strict=True))
            except BaseException:
                self.forget_gradients()
                raise
            self._has_gradients = True
        return _Found(means=means, num_tokens=num_tokens, num_supervised=num_supervised)

    def work(self, prepared: Prepared) -> Work:
        """What a process that is alone computes of it."""
        return self._work(prepared, prepared.counts)

    def _work(self, prepared: Prepared, counts: Mapping[str, float]) -> Work:
        batches = [moved(batch, self.layout.device) for batch in prepared.batches]
        return Work(objective=self.objective, model=self.model, batches=batches, counts=counts)

    def _norm(self) -> Tensor:
        """Of all gradients so far, which every process has after this."""
        if not self._has_gradients:
            return torch.zeros(())
        self.layout.sum_gradients(self.state.masters)
        return self.layout.gradient_norm(self.state.masters)

    def _fetched(self, *values: Tensor) -> list[float]:
        """Numbers from the device in one copy. Processors round differently: all judge and clip by what the first
        process found.
        """
        if not values or not self._has_gradients:
            return [0.0] * len(values)
        found: list[float] = self.layout.agreed(torch.stack([one.double() for one in values])).tolist()
        return found

    def _step(self, lr: float, norm: float, max_norm: float, *, is_accepted: bool) -> None:
        if is_accepted:
            self._move(lr, norm, max_norm)
        self.forget_gradients()
        self.go_on(self.number + 1)

    def _move(self, lr: float, norm: float, max_norm: float) -> None:
        masters = self.state.masters
        clip_gradients(masters, norm, max_norm)
        set_learning_rates(self.state.optimizers, lr)
        for optimizer in self.state.optimizers:
            optimizer.step()
        self.layout.share_updates(masters)
        if self.state.companion is not None:
            self.state.companion.follow(masters, self.number + 1)
        if self._average_decay is not None:
            # It rises to its value: early weights are soon forgotten (Tarvainen & Valpola 2017, arXiv:1703.01780).
            decay = min(self._average_decay, (self.number + 1) / (self.number + 10))
            for name, mean in self.state.averages.items():
                mean.lerp_(masters[name].detach(), 1 - decay)

    def _metrics(self, found: _Found, means: Sequence[float]) -> dict[str, float]:
        """The loss, its terms where there are several, and metrics."""
        weights, named = self.objective.weights, dict(zip(found.means, means, strict=True))
        loss = sum(weights[name] * mean for name, mean in named.items() if name in weights) if named else math.nan
        terms = {f"loss_{name}": mean for name, mean in named.items() if name in weights}
        metrics = {name: mean for name, mean in named.items() if name not in weights}
        counts = {"tokens": found.num_tokens, "supervised_tokens": found.num_supervised}
        return {"loss": loss, **(terms if len(terms) > 1 else {}), **metrics, **counts}
