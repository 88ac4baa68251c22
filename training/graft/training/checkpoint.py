"""Checkpoints of a run: ``checkpoint-N/`` with whatever resuming needs, the completion marker written last.

Tensors are stored sharded, by torch's distributed checkpoint: whatever mesh wrote them, any other can read them.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch import Tensor

from graft.training.errors import CheckpointError
from graft.training.parallel.layout import Alone, Layout

MARKER = "COMPLETE"
TENSORS = "state"
VALUES = "state.json"


WriteFiles = Callable[[Path], None]


def save_checkpoint(
    folder: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    values: Mapping[str, Any],
    *,
    layout: Layout | None = None,
    write_files: WriteFiles | None = None,
    keep: int = 2,
) -> Path:
    """Writes ``checkpoint-<step>`` beside its final place and renames it; older ones beyond ``keep`` are removed.

    Every process calls this with its part of the tensors. ``values`` are what JSON can hold. ``write_files`` adds the
    model in its own format, Hugging Face's or PEFT's. Raises ``CheckpointError`` where it cannot be written, for
    example on a full disk; earlier checkpoints are as they were.
    """
    layout = layout or Alone()
    target = folder / f"checkpoint-{step}"
    draft = folder / f".{target.name}"
    try:
        if layout.is_first:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
        layout.wait()
        with _alone_without_a_word():
            dcp.save(dict(tensors), checkpoint_id=draft / TENSORS, no_dist=layout.is_alone)
        if write_files is not None:
            write_files(draft)
        layout.wait()
        if layout.is_first:
            (draft / VALUES).write_text(json.dumps(dict(values)), encoding="utf-8")
            (draft / MARKER).touch()
            shutil.rmtree(target, ignore_errors=True)
            draft.rename(target)
            for old in complete_checkpoints(folder)[:-keep]:
                shutil.rmtree(old)
    except (OSError, dcp.CheckpointException) as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise CheckpointError(
            f"{target} could not be written: {_cause(error)}; the checkpoints before it stay. "
            "Make room, and go on with --resume."
        ) from error
    layout.wait()
    return target


def _cause(error: Exception) -> object:
    """torch wraps what went wrong in each process."""
    if isinstance(error, dcp.CheckpointException):
        return next(iter(error.failures.values()))[0]
    return error


@contextlib.contextmanager
def _alone_without_a_word() -> Iterator[None]:
    """torch warns whenever one process saves by itself, though it was told so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
        yield


def complete_checkpoints(folder: Path) -> list[Path]:
    """The finished checkpoints of a folder, oldest step first."""
    found = [path for path in folder.glob("checkpoint-*") if (path / MARKER).exists()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def checkpoint_values(path: Path) -> dict[str, Any]:
    """The plain values of a checkpoint. Raises ``CheckpointError`` where it is missing or was not finished."""
    if not (path / MARKER).exists():
        raise CheckpointError(
            f"{path} is no finished checkpoint: it has no {MARKER} file. Choose another or start anew."
        )
    values: dict[str, Any] = json.loads((path / VALUES).read_text(encoding="utf-8"))
    return values


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The names and shapes of all tensors in a checkpoint."""
    metadata = dcp.FileSystemReader(path / TENSORS).read_metadata()
    return {name: tuple(one.size) for name, one in metadata.state_dict_metadata.items() if hasattr(one, "size")}


def load_tensors(path: Path, into: Mapping[str, Tensor], *, layout: Layout | None = None) -> None:
    """Fills tensors in place, each process its part. Raises ``CheckpointError`` where one does not fit."""
    try:
        with _alone_without_a_word():
            dcp.load(dict(into), checkpoint_id=path / TENSORS, no_dist=(layout or Alone()).is_alone)
    except (RuntimeError, ValueError, KeyError, dcp.CheckpointException) as error:
        raise CheckpointError(f"{path} does not fit this run: {_cause(error)}") from error


def forget_checkpoints(folder: Path) -> None:
    """Removes all checkpoints of a folder, finished or not."""
    for path in [*folder.glob("checkpoint-*"), *folder.glob(".checkpoint-*")]:
        shutil.rmtree(path)
