"""Which checkpoint a run goes on from: the newest that every process can read, the same for all."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graft.training.errors import CheckpointError
from graft.training.loop.checkpoint import REMEDY, checkpoint_values, complete_checkpoints, step_of, stored_tensors
from graft.training.loop.state import State
from graft.training.parallel.layout import Layout

_log = logging.getLogger(__name__)


def take_over(folder: Path, state: State, layout: Layout) -> dict[str, Any] | None:
    """Brings ``state`` to the newest checkpoint and returns its plain values; None where there is none.

    Every process calls this. One that cannot be read is passed over with a warning; raises ``CheckpointError`` where
    that is the last.
    """
    error: CheckpointError | None = None
    for path in _candidates(folder, layout):
        if error is not None and layout.is_first:
            _log.warning("%s Going on from the checkpoint before it.", str(error).removesuffix(f" {REMEDY}"))
        values, error = _read(path, state, layout)
        if values is not None:
            return values
    if error is not None:
        raise error
    return None


def bring_to(path: Path, state: State, layout: Layout) -> None:
    """Brings ``state`` to one checkpoint. Every process calls this. Raises ``CheckpointError``."""
    _, error = _read(path, state, layout)
    if error is not None:
        raise error


def _candidates(folder: Path, layout: Layout) -> Iterator[Path]:
    """Newest first, as the first process sees them: disks that are shared show new files to some a little later."""
    steps = [step_of(path) for path in reversed(complete_checkpoints(folder))]
    for index in range(int(layout.agree(len(steps)))):
        step = int(layout.agree(steps[index] if index < len(steps) else 0))
        yield folder / f"checkpoint-{step}"


def _read(path: Path, state: State, layout: Layout) -> tuple[dict[str, Any] | None, CheckpointError | None]:
    values: dict[str, Any] = {}
    error: CheckpointError | None = None
    try:
        values = checkpoint_values(path)
        stored = stored_tensors(path)
    except CheckpointError as own:
        error = own
    if layout.all(error is None):  # else the others would wait for this one
        try:
            state.restore(path, stored, layout)
        except CheckpointError as own:
            error = own
        if layout.all(error is None):
            return values, None
    return None, error or CheckpointError(f"{path} cannot be read by every process. See to that the disk is shared.")
