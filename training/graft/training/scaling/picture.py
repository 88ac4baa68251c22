"""The iso-FLOP picture: loss over model size for budgets, the best size of each, and what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from graft.training.scaling.laws import FLOPS_PER_PARAMETER_AND_TOKEN, Chinchilla, Point


def draw(law: Chinchilla, points: Sequence[Point], checks: Sequence[Point], path: Path) -> None:
    """Writes a PNG; ``checks`` were not fitted. Raises ``OSError``."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    everything = [*points, *checks]
    logs = [math.log10(point.flops) for point in everything]
    low, high = min(logs), max(logs)
    colour = colormaps["viridis"]

    def shade(flops: float) -> tuple[float, ...]:
        return colour((math.log10(flops) - low) / max(high - low, 1e-9))

    figure = Figure(figsize=(12, 5), layout="constrained")
    FigureCanvasAgg(figure)
    isoflop, agreement = figure.subplots(1, 2)
    sizes = [min(p.parameters for p in everything) / 2 * 10 ** (k / 40) for k in range(100)]
    for number in range(7):
        flops = 10 ** (low + (high - low) * number / 6)
        losses = [law.loss(n, flops / FLOPS_PER_PARAMETER_AND_TOKEN / n) for n in sizes]
        isoflop.plot(sizes, losses, color=shade(flops), linewidth=1, label=f"{flops:.1e} FLOPs")
        best, tokens = law.optimum(flops)
        isoflop.plot(best, law.loss(best, tokens), "*", color=shade(flops), markersize=11)
    for point in points:
        isoflop.plot(point.parameters, point.loss, "o", color=shade(point.flops), markersize=5)
    for point in checks:
        isoflop.plot(point.parameters, point.loss, "s", color=shade(point.flops), markersize=8, markeredgecolor="red")
    isoflop.set_xscale("log")
    isoflop.set_ylim(0.97 * min(p.loss for p in everything), 1.06 * max(p.loss for p in everything))
    isoflop.set_xlabel("parameters")
    isoflop.set_ylabel("loss (nats per token)")
    isoflop.set_title("lines: one budget each; stars: its best size; dots: trainings; red: not fitted")
    isoflop.legend(fontsize=7)
    for some, mark in ((points, "o"), (checks, "rs")):
        agreement.plot([law.loss(p.parameters, p.tokens) for p in some], [p.loss for p in some], mark)
    ends = [min(p.loss for p in everything), max(p.loss for p in everything)]
    agreement.plot(ends, ends, color="gray", linewidth=0.8)
    agreement.set_xlabel("predicted loss")
    agreement.set_ylabel("measured loss")
    figure.savefig(path, dpi=120)
