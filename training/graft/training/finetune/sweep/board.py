"""What a sweep shows while it goes: one bar for the steps of all runs."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Self

from tqdm import tqdm

from graft.training.loop.progress import Listener


class Board:
    """Made before the runs begin, with the steps of all."""

    def __init__(self, num_steps: int) -> None:
        self._bar = tqdm(total=num_steps, unit="step", mininterval=1.0, dynamic_ncols=True)
        self._losses: dict[str, float] = {}
        self._speeds: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def of(self, name: str, *, start: int) -> Listener:
        """Who hears of a run that goes on from a step."""
        self._bar.update(start)
        return _Row(self, name)

    def show(self, name: str, metrics: Mapping[str, float]) -> None:
        if "loss" in metrics:
            self._losses[name] = metrics["loss"]
        self._speeds[name] = metrics["tokens_per_second"]
        told = [f"{len(self._speeds)} runs", f"{sum(self._speeds.values()):,.0f} tok/s"]
        if self._losses:
            best = min(self._losses, key=lambda one: self._losses[one])
            told.insert(1, f"loss {fmean(self._losses.values()):.4f}, least {self._losses[best]:.4f} ({best})")
        self._bar.set_postfix_str(", ".join(told), refresh=False)
        self._bar.update()

    def ended(self, name: str) -> None:
        self._speeds.pop(name, None)


class _Row:
    def __init__(self, board: Board, name: str) -> None:
        self._board, self._name = board, name

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        self._board.show(self._name, metrics)

    def close(self) -> None:
        self._board.ended(self._name)
