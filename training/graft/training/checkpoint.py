"""Checkpoints of a run: ``checkpoint-N/`` with whatever resuming needs, the completion marker written last."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from graft.training.errors import CheckpointError

MARKER = "COMPLETE"
STATE = "state.pt"


WriteFiles = Callable[[Path], None]


def save_checkpoint(
    folder: Path, step: int, state: dict[str, Any], *, write_files: WriteFiles | None = None, keep: int = 2
) -> Path:
    """Writes ``checkpoint-<step>`` beside its final place and renames it; older ones beyond ``keep`` are removed.

    ``write_files`` adds the model in its own format, Hugging Face's or PEFT's.
    """
    target = folder / f"checkpoint-{step}"
    draft = folder / f".{target.name}.{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    torch.save(state, draft / STATE)
    if write_files is not None:
        write_files(draft)
    (draft / MARKER).touch()
    shutil.rmtree(target, ignore_errors=True)
    draft.rename(target)
    for old in complete_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def complete_checkpoints(folder: Path) -> list[Path]:
    """The finished checkpoints of a folder, oldest step first."""
    found = [path for path in folder.glob("checkpoint-*") if (path / MARKER).exists()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint's state: tensors and plain values only, no code.

    Raises:
        CheckpointError: it is missing or was not finished.
    """
    if not (path / MARKER).exists():
        raise CheckpointError(
            f"{path} is no finished checkpoint: it has no {MARKER} file. Choose another or start anew."
        )
    state: dict[str, Any] = torch.load(path / STATE, map_location="cpu", weights_only=True)
    return state


def forget_checkpoints(folder: Path) -> None:
    """Removes all checkpoints of a folder, finished or not."""
    for path in [*folder.glob("checkpoint-*"), *folder.glob(".checkpoint-*")]:
        shutil.rmtree(path)
