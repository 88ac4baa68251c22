"""What every measurement is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.bench.serving.figures.figures import RATIO, Figures, median_of
from graft.bench.serving.figures.pairs import Pair, Window, measure_pairs
from graft.bench.serving.peers.engines import Engines


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

    async def compare(self, name: str, first: Window, second: Window, *, num_pairs: int | None = None) -> list[Pair]:
        """Measure pairs and keep the median of their ratios, first ÷ second, as figure `name`."""
        say(f"{name}: {num_pairs or self.num_pairs} pairs")
        pairs = await measure_pairs(first, second, num_pairs or self.num_pairs)
        self.figures.add(name, median_of([pair.ratio for pair in pairs], RATIO))
        return pairs


def say(line: str) -> None:
    """A line of progress."""
    print(f"  {line}", flush=True)
