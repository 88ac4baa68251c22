"""Curves of jobs as a picture, where matplotlib is installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graft.cli.failure import CommandFailed, UserError
from graft.cli.plots.chart import Points

FORMATS = (".png", ".svg", ".pdf")


def check_picture(path: str) -> Path:
    """Where to draw. Raises `UserError` for a name that is no picture's."""
    found = Path(path)
    if found.suffix.lower() not in FORMATS:
        raise UserError(f"{path} names no picture: its name ends in {', '.join(FORMATS)}")
    return found


def draw(path: Path, curves: Mapping[str, Mapping[str, Points]]) -> None:
    """A plot for each metric, with each job's curve.

    Raises `CommandFailed` where matplotlib is not installed, `UserError` where there is nothing to draw, OSError.
    """
    if not curves:
        raise UserError("the jobs have told no metrics: there is nothing to draw")
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise CommandFailed("matplotlib draws pictures and is not installed: pip install matplotlib") from None
    with matplotlib.rc_context({"svg.hashsalt": "graft", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7, 3.2 * len(curves)), layout="constrained")
        plots: Any = figure.subplots(len(curves), squeeze=False)
        for plot, (name, jobs) in zip(plots[:, 0], curves.items(), strict=True):
            for key, points in jobs.items():
                plot.plot([x for x, _ in points], [y for _, y in points], label=key, linewidth=1.2)
            plot.set(title=name, xlabel="step")
            plot.grid(alpha=0.3)
            plot.legend(fontsize=8)
        figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
