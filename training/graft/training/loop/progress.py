"""What a run tells while it goes: a bar with loss, speed, memory and time left, ``metrics.jsonl``, a loss curve, and
whatever else listens.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from tqdm import tqdm

from graft.training.errors import Interrupted
from graft.training.runtime.disk import write_whole, written
from graft.training.runtime.memory import memory_bytes

_log = logging.getLogger(__name__)

METRICS = "metrics.jsonl"
LOSS_CURVE = "loss_curve.png"


class Listener(Protocol):
    """Hears of every step."""

    def report(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Gauge:
    """What turns tokens per second into a share of what the devices could do (MFU)."""

    flops_per_token: float | None = None
    peak: float | None = None
    """FLOP/s of all devices of the run together."""

    def utilisation(self, tokens_per_second: float) -> float | None:
        if self.flops_per_token is None or self.peak is None:
            return None
        return self.flops_per_token * tokens_per_second / self.peak


class Progress:
    """Reports every step of a run to the terminal, to ``metrics.jsonl`` in its folder, and to its listeners."""

    def __init__(
        self,
        folder: Path,
        *,
        num_steps: int,
        start: int = 0,
        gauge: Gauge | None = None,
        listeners: Sequence[Listener] = (),
        shows: bool = True,
    ) -> None:
        """``shows``: the bar; all else is told anyway."""
        self._folder, self._gauge, self._listeners = folder, gauge or Gauge(), listeners
        with written(folder / METRICS):
            folder.mkdir(parents=True, exist_ok=True)
            _forget_steps_from(folder, start)
            # No buffer: what the disk refused once must not be tried again when the file is closed.
            self._file = (folder / METRICS).open("ab", buffering=0)
        self._bar = tqdm(
            total=num_steps, initial=start, unit="step", mininterval=1.0, dynamic_ncols=True, disable=not shows
        )
        self._last = time.monotonic()
        self._smooth_loss: float | None = None

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds one line: the metrics, the step and its duration, speed and memory. What is no number stands there as
        null.
        """
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        speed = metrics["tokens"] / seconds
        known = {**metrics, "tokens_per_second": speed, "mfu": self._gauge.utilisation(speed), "memory": memory_bytes()}
        finite = {name: None if value is None or not math.isfinite(value) else value for name, value in known.items()}
        line = json.dumps({"step": step, "seconds": round(seconds, 4), **finite}) + "\n"
        with written(self._folder / METRICS, what_stays="checkpoints stay"):
            write_whole(self._file, line.encode())
            with self.paused():
                for listener in self._listeners:
                    listener.report(step, {name: value for name, value in finite.items() if value is not None})
        self._show(finite)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What is done meanwhile is no part of a step's time."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self._last += time.monotonic() - begin

    def _show(self, metrics: Mapping[str, float | None]) -> None:
        loss = metrics["loss"]
        if loss is not None:
            self._smooth_loss = loss if self._smooth_loss is None else 0.9 * self._smooth_loss + 0.1 * loss
        told = [f"loss {math.nan if self._smooth_loss is None else self._smooth_loss:.4f}"]
        told.append(f"{metrics['tokens_per_second']:,.0f} tok/s")
        if metrics["mfu"] is not None:
            told.append(f"MFU {metrics['mfu']:.0%}")
        told.append(f"{(metrics['memory'] or 0) / 1e9:.1f} GB")
        if metrics.get("skipped"):
            told.append(f"{metrics['skipped']:.0f} skipped")
        self._bar.set_postfix_str(", ".join(told), refresh=False)
        self._bar.update()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._bar.close()
        self._file.close()
        for listener in self._listeners:
            listener.close()
        if kind is None or issubclass(kind, Interrupted):
            try:
                draw_loss_curve(self._folder)
            except OSError as refused:  # a picture is no reason to lose a training
                _log.warning("%s cannot be drawn: %s", self._folder / LOSS_CURVE, refused.strerror or refused)
            except ImportError as error:
                _log.warning("%s cannot be drawn: %s", self._folder / LOSS_CURVE, error)


class Silence:
    """The progress of a process that is not the first."""

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        pass

    def paused(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


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


def _forget_steps_from(folder: Path, start: int) -> None:
    """A resumed run repeats the steps after its checkpoint: their old lines go, and one that was written in part."""
    path, draft = folder / METRICS, folder / f".{METRICS}"
    if path.exists():
        kept = [row for row in read_metrics(folder) if row["step"] < start]
        with written(path, draft=draft):
            draft.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
            draft.rename(path)
