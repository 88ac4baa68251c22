"""What every measurement is given, and interleaved pairs: what disturbs a machine disturbs both sides alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.bench.serving.figures.figures import RATIO, Figures, median_of
from graft.bench.serving.peers.contenders import ANSWER_TOKENS, Contender, Row, rows_of, throughput
from graft.bench.serving.peers.engines import Engines

Window = Callable[[int], Awaitable[float]]
"""Measures once; the argument is the pair's number, from which all randomness comes."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What the two sides gave, in the unit of the windows."""

    first: float
    second: float

    @property
    def ratio(self) -> float:
        return self.first / self.second


@dataclass(frozen=True, kw_only=True)
class Workbench:
    """One base in one form, its adapters, a folder for files, and where figures go."""

    base: Base
    form: ServingForm
    context: int
    adapters: tuple[Path, ...]
    folder: Path
    num_pairs: int
    quick: bool
    figures: Figures
    engines: Engines

    @property
    def num_few_pairs(self) -> int:
        """For what takes long."""
        return 1 if self.quick else max(3, self.num_pairs // 2)

    def rows(self, batch: int, num_adapters: int, seed: str) -> list[Row]:
        return rows_of(batch, num_adapters=num_adapters, vocab_size=self.base.vocab_size, seed=seed)

    def batches(self, contender: Contender, batch: int, num_adapters: int, name: str) -> Window:
        """Throughput (tokens/s) of one batch; both sides of a pair get the same prompts where they share `name`."""

        async def window(pair: int) -> float:
            return await throughput(contender, self.rows(batch, num_adapters, f"{name}/{pair}"), ANSWER_TOKENS)

        return window

    async def compare(self, name: str, first: Window, second: Window, *, num_pairs: int | None = None) -> list[Pair]:
        """Measure pairs and keep the median of their ratios, first ÷ second, as figure `name`."""
        say(f"{name}: {num_pairs or self.num_pairs} pairs")
        pairs = await measure_pairs(first, second, num_pairs or self.num_pairs)
        self.figures.add(name, median_of([pair.ratio for pair in pairs], RATIO))
        return pairs


def order_of(pair: int) -> tuple[int, int]:
    """Which side goes first: A B, B A, A B, … so that a drift favours neither."""
    return (0, 1) if pair % 2 == 0 else (1, 0)


async def measure_pairs(first: Window, second: Window, num_pairs: int, *, num_warm: int = 1) -> list[Pair]:
    """Run both windows once per pair, alternating; the first `num_warm` pairs warm up and are thrown away."""
    sides, pairs = (first, second), []
    for number in range(-num_warm, num_pairs):
        found = [0.0, 0.0]
        for side in order_of(number):
            found[side] = await sides[side](number)
        if number >= 0:
            pairs.append(Pair(first=found[0], second=found[1]))
    return pairs


def say(line: str) -> None:
    """A line of progress."""
    print(f"  {line}", flush=True)
