"""What a step takes beside its model: reading and preparing batches, sums, the norm of the gradient, the verdict, the
working weights, and telling.

Counted on CPUs, where a call is over when it returns.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from graft.bench.training.comparison import RATIO, Figure
from graft.bench.training.shape import SHAPES
from graft.training.batch.text_rows import PackedText
from graft.training.loop.optim import Schedule, adamw
from graft.training.loop.run import Run
from graft.training.loop.step import Step
from graft.training.objective.causal import CausalObjective

NUM_WARM = 4
"""First steps that do not count."""

MakeRun = Callable[[Path, int], Run]
"""From a folder and a number of steps."""


@dataclass(kw_only=True)
class Watch:
    """How long a training is in its model (forward, backward and the optimizers' steps), and how long it is not."""

    inside: tuple[float, float] = (0.0, 0.0)
    """By the clock, and seconds of the processor for the thread that computes."""
    making: float = 0.0
    """Seconds of the processor for making batches, in another thread."""
    shares: list[tuple[float, float]] = field(default_factory=list)
    """Of each step, what was not inside: by the clock, and of the processor, where making batches counts."""
    _is_inside: bool = False
    _last: tuple[float, ...] | None = None

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            if self._is_inside:
                return call(*args, **kwargs)
            self._is_inside, begin = True, _now()
            try:
                return call(*args, **kwargs)
            finally:
                clock, own = (
                    before + end - start for before, end, start in zip(self.inside, _now(), begin, strict=True)
                )
                self.inside, self._is_inside = (clock, own), False

        return run

    def made(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            begin = time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                self.making += time.thread_time() - begin

        return run

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        now = (*_now(), *self.inside, self.making)
        if self._last is not None:
            clock, own, inside, own_inside, making = (one - before for one, before in zip(now, self._last, strict=True))
            self.shares.append((1 - inside / clock, 1 - own_inside / (own + making)))
        self._last = now

    def close(self) -> None:
        pass


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.thread_time()


@dataclass(frozen=True, kw_only=True)
class _TimedObjective:
    """An objective whose forward passes are watched."""

    objective: Any
    watch: Watch

    @property
    def weights(self) -> Mapping[str, float]:
        found: Mapping[str, float] = self.objective.weights
        return found

    def counts(self, batch: Any) -> Mapping[str, int]:
        found: Mapping[str, int] = self.objective.counts(batch)
        return found

    def sums(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        found: Mapping[str, Tensor] = self.watch.timed(self.objective.sums)(model, batch)
        return found


def host_figures(runs: Mapping[str, MakeRun], *, num_runs: int, num_steps: int) -> dict[str, Figure]:
    """``host_share_<name>``, the median share of a training's steps by the clock, and ``…_processor``, which other work
    on the machine changes less.
    """
    found = {}
    for name, make in runs.items():
        clocks, own = zip(
            *([median(one) for one in zip(*shares_of(make, num_steps), strict=True)] for _ in range(num_runs)),
            strict=True,
        )
        found[f"host_share_{name}"] = Figure(value=median(clocks), unit=RATIO, runs=clocks)
        found[f"host_share_{name}_processor"] = Figure(value=median(own), unit=RATIO, runs=own)
    return found


def shares_of(make: MakeRun, num_steps: int) -> Sequence[tuple[float, float]]:
    """Of each step behind the first few of one training: by the clock, and of the processor."""
    watch = Watch()
    with tempfile.TemporaryDirectory(prefix="graft-bench-") as folder, _timed_backward(watch):
        run = make(Path(folder), num_steps)
        run.saves = False
        run.listeners = lambda step: [watch]
        run.step.objective = _TimedObjective(objective=run.step.objective, watch=watch)
        run.step.prepare = watch.made(run.step.prepare)  # type: ignore[method-assign]
        batches = run.data.batches
        run.data = SimpleNamespace(batches=watch.made(batches))
        for optimizer in run.step.state.optimizers:
            optimizer.step = watch.timed(optimizer.step)
        run.execute()
    return watch.shares[NUM_WARM - 1 :]


@contextmanager
def _timed_backward(watch: Watch) -> Iterator[None]:
    plain = Tensor.backward
    Tensor.backward = watch.timed(plain)
    try:
        yield
    finally:
        Tensor.backward = plain


def run_16m(folder: Path, num_steps: int) -> Run:
    """A Llama of 15.7M parameters, rows of random documents, AdamW."""
    shape = SHAPES["16m"]
    model = shape.model(torch.device("cpu"))
    documents = [
        [torch.randint(1, shape.vocab_size, (int(size),)).tolist()]
        for size in torch.randint(20, 400, (4 * num_steps + 40,))
    ] * (shape.rows // 4)
    return Run(
        step=Step(model, objective=CausalObjective(), optimizers=adamw()),
        data=PackedText(
            documents,
            length=shape.length,
            end_id=0,
            pad_id=0,
            rows_per_batch=shape.rows,
            batches_per_step=1,
            seed=0,
        ),
        schedule=Schedule(num_steps=num_steps, warmup_steps=NUM_WARM),
        learning_rate=1e-3,
        folder=folder,
    )
