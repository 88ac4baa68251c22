"""One picture: every ratio as a bar against its target, the other figures as text."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graft.bench.serving.figures.figures import RATIO, Figure, Figures, target_of
from graft.machine.processors import num_processors

_MET, _MISSED, _PLAIN, _LINE = "#2e7d32", "#c62828", "#546e7a", "#212121"


def write(figures: Figures, title: str, *, json: Path | None, picture: Path | None) -> None:
    """Write the JSON and, with the machine in its title, the picture, as far as each is wanted. Raises OSError."""
    if json is not None:
        figures.write(json)
    if picture is not None and figures.taken:
        _draw(figures.taken, f"{title}, {num_processors()} cores, {platform.machine()}", picture)


def _draw(figures: Mapping[str, Figure], title: str, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ratios = {name: figure for name, figure in figures.items() if figure.unit == RATIO}
    others = {name: figure for name, figure in figures.items() if figure.unit != RATIO}
    height = 1.6 + 0.32 * max(len(ratios), 0.62 * len(others), 4)
    picture, (bars, text) = pyplot.subplots(
        1, 2, figsize=(13, height), gridspec_kw={"width_ratios": [3, 2]}, layout="constrained"
    )
    picture.suptitle(title)
    _draw_bars(bars, ratios)
    _write_others(text, others)
    picture.savefig(path, format="png", dpi=110)
    pyplot.close(picture)


def _draw_bars(axes: Any, ratios: Mapping[str, Figure]) -> None:
    names = list(ratios)
    for row, (name, figure) in enumerate(ratios.items()):
        axes.barh(row, figure.value, color=_colour(name, figure.value), height=0.6)
        axes.plot([min(figure.runs), max(figure.runs)], [row, row], color=_LINE, linewidth=1)
        target = target_of(name)
        if target is not None:
            axes.plot([target.bound] * 2, [row - 0.4, row + 0.4], color=_LINE, linewidth=2.5)
        axes.annotate(f" {figure.value:.3g}", (max(figure.value, max(figure.runs)), row), va="center", fontsize=8)
    axes.axvline(1.0, color=_LINE, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    if any(figure.value > 5 for figure in ratios.values()):
        axes.set_xscale("log")
    axes.set_xlabel("ratio: bar = median, thin line = all runs, thick mark = target")


def _write_others(axes: Any, others: Mapping[str, Figure]) -> None:
    axes.axis("off")
    lines = [f"{name:<44} {figure.value:>10.4g} {figure.unit}" for name, figure in others.items()]
    axes.text(0, 1, "\n".join(lines), va="top", family="monospace", fontsize=7, transform=axes.transAxes)


def _colour(name: str, value: float) -> str:
    target = target_of(name)
    if target is None:
        return _PLAIN
    return _MET if target.is_met(value) else _MISSED
