"""How a training tells what happens: lines of JSON in a file, which the worker reads as they come and sends on.

A file and no pipe: what was told stays told when the worker that was to hear it has ended.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

FILE = "told.jsonl"
Level = Literal["info", "warn", "error"]


@dataclass(frozen=True, kw_only=True)
class Tell:
    """Each call is one line, written at once. It can be pickled; of several processes only the first tells.

    Every method raises OSError where the disk refuses the line.
    """

    path: Path

    def event(self, message: str, *, level: Level = "info", data: Mapping[str, Any] | None = None) -> None:
        """Something that the job's owner should read."""
        self._write({"kind": "event", "message": message, "level": level, "data": _plain(data or {})})

    def metrics(self, step: int, values: Mapping[str, float], *, message: str) -> None:
        """Figures of a step, counted from 1, in OpenAI's names: ``train_loss``, ``valid_loss``, …. A step is told of
        once, however often it is taken.
        """
        data = {"step": step, **_plain(values)}
        self._write({"kind": "metrics", "message": message, "step": step, "data": data})

    def checkpoint(self, step: int, folder: Path, metrics: Mapping[str, float]) -> None:
        """An adapter's folder with the weights after so many steps, which is to be pushed; it must stay as it is."""
        values = {"step": step, "folder": str(folder), "metrics": _plain(metrics)}
        self._write({"kind": "checkpoint", **values})

    def progress(
        self, step: int, *, num_steps: int, trained_tokens: int, remaining_seconds: float | None = None
    ) -> None:
        """How far it is."""
        values = {"step": step, "num_steps": num_steps, "trained_tokens": trained_tokens}
        self._write({"kind": "progress", **values, "remaining_seconds": remaining_seconds})

    def resolved(self, hyperparameters: Mapping[str, int | float | str]) -> None:
        """The hyperparameters of this very run, in OpenAI's names: numbers where ``auto`` was asked."""
        self._write({"kind": "resolved", "hyperparameters": dict(hyperparameters)})

    def _write(self, line: Mapping[str, Any]) -> None:
        data = (json.dumps(line) + "\n").encode()
        # One write of a whole line to the end: a line of another process does not come between.
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if os.fstat(handle).st_size and not _ends_whole(self.path):
                data = b"\n" + data  # a process was killed, or the disk was full, in the middle of a line
            written = os.write(handle, data)
        finally:
            os.close(handle)
        if written < len(data):
            raise OSError(f"{self.path}: only {written} of {len(data)} bytes were written")


@dataclass(frozen=True, kw_only=True)
class Told:
    """A line, and where in the file the next one begins."""

    line: Mapping[str, Any]
    end: int


def read_told(path: Path, begin: int) -> Iterator[Told]:
    """The whole lines from a place on; one that is still being written is left for later. Raises OSError."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(begin)
        for raw in file:
            if not raw.endswith(b"\n"):
                return
            begin += len(raw)
            try:
                line = json.loads(raw)
            except ValueError:  # cut off: whoever wrote it was killed
                continue
            yield Told(line=line, end=begin)


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is no number is no figure: JSON and the wire know none such."""
    return {name: one for name, one in values.items() if not isinstance(one, float) or math.isfinite(one)}
