"""The picture at a run's end."""

import json
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"
LOSS_CURVE = "loss_curve.png"


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of ``metrics.jsonl``, in the order of their steps; without those that a crash cut off."""
    rows = []
    for line in (folder / METRICS).read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "step" in row and "loss" in row:
            rows.append(row)
    return rows


def draw_loss_curve(folder: Path) -> Path:
    """Draws ``loss_curve.png`` from ``metrics.jsonl``: the loss of every step, its running mean, and that on held-out
    text where it was measured.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in read_metrics(folder) if row["loss"] is not None]
    steps, losses = [row["step"] for row in rows], [row["loss"] for row in rows]
    smooth, mean = [], losses[0] if losses else 0.0
    for loss in losses:
        mean = 0.95 * mean + 0.05 * loss
        smooth.append(mean)
    held_out = [(row["step"], row["validation_loss"]) for row in rows if row.get("validation_loss") is not None]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(steps, losses, color="tab:green", alpha=0.3, linewidth=0.8, label="each step")
    axes.plot(steps, smooth, color="tab:green", linewidth=1.6, label="running mean")
    if held_out:
        axes.plot(*zip(*held_out, strict=True), "o-", color="tab:red", markersize=4, label="held-out text")
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per supervised token)")
    axes.grid(alpha=0.3)
    axes.legend()
    path = folder / LOSS_CURVE
    figure.savefig(path, dpi=120)
    return path
