"""Figures as a table, as JSON and as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from graft.bench.training.comparison import RATIO, TARGETS, Figure
from graft.training.runtime import markdown


def table(figures: Mapping[str, Figure]) -> str:
    """Markdown: median, all runs, target."""
    rows = [
        [name, f"{one.value:.4g} {one.unit}", ", ".join(f"{run:.4g}" for run in one.runs), _target(name)]
        for name, one in figures.items()
    ]
    return markdown.table("figure | median | runs | target", rows)


def write_json(figures: Mapping[str, Figure], path: Path) -> None:
    """Figure name to value, unit and runs. Raises ``OSError``."""
    values = {name: asdict(figure) for name, figure in figures.items()}
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def draw(figures: Mapping[str, Figure], path: Path) -> None:
    """Every ratio as a bar, its runs as points, its target as a mark. Raises ``OSError``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Picture

    ratios = {name: figure for name, figure in figures.items() if figure.unit == RATIO}
    picture = Picture(figsize=(10, 1 + 0.5 * len(ratios)), layout="constrained")
    FigureCanvasAgg(picture)
    axes = picture.add_subplot()
    for row, (name, figure) in enumerate(ratios.items()):
        axes.barh(row, figure.value, color="tab:green" if is_met(name, figure) else "tab:red", alpha=0.8, height=0.6)
        axes.plot(figure.runs, [row] * len(figure.runs), "k.", markersize=4)
        if name in TARGETS:
            axes.plot([TARGETS[name]] * 2, [row - 0.4, row + 0.4], color="black", linewidth=2.5)
        axes.annotate(f" {figure.value:.3g}", (max(figure.value, *figure.runs), row), va="center")
    axes.axvline(1.0, color="gray", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(ratios)), [name.replace("_", " ") for name in ratios])
    axes.invert_yaxis()
    axes.set_xlabel("ratio to the peer (mfu: to the device's peak; share: of a step); thick mark: target; points: runs")
    picture.savefig(path, dpi=120)


def is_met(name: str, figure: Figure) -> bool:
    target = TARGETS.get(name)
    return target is None or (figure.value <= target if _is_bound(name) else figure.value >= target)


def _is_bound(name: str) -> bool:
    """Whether less is better."""
    return "memory" in name or "share" in name


def _target(name: str) -> str:
    if name not in TARGETS:
        return ""
    return f"{'≤' if _is_bound(name) else '≥'} {TARGETS[name]}"
