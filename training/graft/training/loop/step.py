"""One optimizer step in two calls: the gradients of an objective, then the move of the weights.

A run is a loop over it. Who makes batches as the training goes calls it directly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from graft.training.loop.optim import MakeOptimizers, clip_gradients, set_learning_rates
from graft.training.loop.state import State
from graft.training.loop.weights import Weights, WorkingForm, bfloat16_form
from graft.training.model.attention import attend_in_blocks
from graft.training.objective.objective import Objective
from graft.training.parallel.layout import Alone, Layout, Work, counted
from graft.training.runtime.memory import keep_freed_memory


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
    ) -> None:
        """``working_form`` gives the form of the working weights after so many steps. With ``average_decay`` a running
        mean of the weights is kept, which checkpoints hold beside them and which is often better than they are (Polyak
        & Juditsky 1992).
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
        )
        self._has_gradients = False
        attend_in_blocks(model)
        keep_freed_memory()
        self.go_on(0)

    def go_on(self, number: int) -> None:
        """After ``number`` steps, with the masters as they are now."""
        self.number = number
        self._weights.push(self.working_form(number))

    def forward_backward(self, batches: Sequence[Any]) -> dict[str, float]:
        """Adds the gradients of the objective's loss over this process's micro-batches, as many as each other has.

        Means are taken over the micro-batches of all processes. Returns ``loss`` in nats; of several terms each, as
        ``loss_<term>``; the objective's metrics; ``tokens`` that were read; ``supervised_tokens``. Where nothing is
        asked for there is no gradient, and the loss is no number. What fails leaves no gradient, of earlier calls
        neither.
        """
        self.model.train()
        weights = self.objective.weights
        own = [self.layout.local(batch) for batch in batches]
        counts = self.layout.total(counted(self.objective.counts(batch) for batch in own))
        num_supervised = max(counts[name] for name in weights)
        loss, means = math.nan, dict[str, float]()
        if num_supervised:
            work = Work(objective=self.objective, model=self.model, batches=own, counts=counts)
            try:
                means = self.layout.total(self.layout.run(work))
            except BaseException:
                self._forget_gradients()
                raise
            loss = self.layout.agree(sum(weights[name] * mean for name, mean in means.items() if name in weights))
            self._has_gradients = True
        tokens = self.layout.total({"tokens": sum(batch.num_tokens for batch in own)})
        return {"loss": loss, **self._named(means), **tokens, "supervised_tokens": num_supervised}

    def optimizer_step(self, lr: float, *, accept: Callable[[float], bool] = math.isfinite) -> dict[str, float]:
        """Moves the weights along the gradients so far, at learning rate ``lr``, and forgets the gradients.

        ``accept`` is asked with their norm before they are clipped. Where it says no, or nothing was asked for, the
        weights stay. Returns ``gradient_norm``.
        """
        masters, norm = self.state.masters, 0.0
        if self._has_gradients:
            self.layout.sum_gradients(masters)
            # Processors round differently: all judge and clip by what the first process found.
            norm = self.layout.agree(float(self.layout.gradient_norm(masters)))
            if accept(norm):
                self._move(lr, norm)
        self._forget_gradients()
        self.go_on(self.number + 1)
        return {"gradient_norm": norm}

    def _forget_gradients(self) -> None:
        for master in self.state.masters.values():
            master.grad = None
        self._has_gradients = False

    def _move(self, lr: float, norm: float) -> None:
        masters = self.state.masters
        clip_gradients(masters, norm, self._max_gradient_norm)
        set_learning_rates(self.state.optimizers, lr)
        for optimizer in self.state.optimizers:
            optimizer.step()
        self.layout.share_updates(masters)
        if self._average_decay is not None:
            # It rises to its value: early weights are soon forgotten (Tarvainen & Valpola 2017, arXiv:1703.01780).
            decay = min(self._average_decay, (self.number + 1) / (self.number + 10))
            for name, mean in self.state.averages.items():
                mean.lerp_(masters[name].detach(), 1 - decay)

    def _named(self, means: Mapping[str, float]) -> dict[str, float]:
        """Terms, where there are several, and metrics."""
        weights = self.objective.weights
        terms = {f"loss_{name}": mean for name, mean in means.items() if name in weights}
        metrics = {name: mean for name, mean in means.items() if name not in weights}
        return {**(terms if len(terms) > 1 else {}), **metrics}
