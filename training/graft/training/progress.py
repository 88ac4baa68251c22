"""What a run tells while it goes: a bar with loss, speed and time left, ``metrics.jsonl``, and a loss curve."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

METRICS = "metrics.jsonl"
LOSS_CURVE = "loss_curve.png"


class Progress:
    """Reports every step of a run to the terminal and to ``metrics.jsonl`` in its folder."""

    def __init__(self, folder: Path, *, num_steps: int, start: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        _forget_steps_from(folder / METRICS, start)
        self._file = (folder / METRICS).open("a", encoding="utf-8")
        self._bar = tqdm(total=num_steps, initial=start, unit="step", mininterval=1.0, dynamic_ncols=True)
        self._last = time.monotonic()
        self._smooth_loss: float | None = None

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds one line: the metrics, the step and its duration. What is no number stands there as null."""
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._file.write(json.dumps({"step": step, "seconds": round(seconds, 4), **finite}) + "\n")
        self._file.flush()
        loss = metrics["loss"]
        if math.isfinite(loss):
            self._smooth_loss = loss if self._smooth_loss is None else 0.9 * self._smooth_loss + 0.1 * loss
        skipped = f", {metrics['skipped']:.0f} skipped" if metrics.get("skipped") else ""
        self._bar.set_postfix_str(
            f"loss {self._smooth_loss or loss:.4f}, {metrics['tokens'] / seconds:,.0f} tok/s{skipped}", refresh=False
        )
        self._bar.update()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        self._file.close()
        if kind is None:
            draw_loss_curve(self._folder)


class Silence:
    """The progress of a process that is not the first."""

    def __init__(self, folder: Path, *, num_steps: int, start: int = 0) -> None:
        pass

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        pass

    def __enter__(self) -> "Silence":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def _forget_steps_from(path: Path, start: int) -> None:
    """A resumed run repeats the steps after its checkpoint: their old lines go."""
    if path.exists():
        kept = [line for line in path.read_text(encoding="utf-8").splitlines() if json.loads(line)["step"] < start]
        path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")


def draw_loss_curve(folder: Path) -> Path:
    """Draws ``loss_curve.png`` from ``metrics.jsonl``: the loss of every step, and its running mean."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["loss"] is not None]
    steps, losses = [row["step"] for row in rows], [row["loss"] for row in rows]
    smooth, mean = [], losses[0] if losses else 0.0
    for loss in losses:
        mean = 0.95 * mean + 0.05 * loss
        smooth.append(mean)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(steps, losses, color="tab:green", alpha=0.3, linewidth=0.8, label="each step")
    axes.plot(steps, smooth, color="tab:green", linewidth=1.6, label="running mean")
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per supervised token)")
    axes.grid(alpha=0.3)
    axes.legend()
    path = folder / LOSS_CURVE
    figure.savefig(path, dpi=120)
    return path
