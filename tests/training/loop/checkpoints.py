"""One checkpoint, written and waited for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from graft.training.loop.checkpoint import CheckpointWriter, Keeping


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], values: Mapping[str, Any], *, keep: int = 2
) -> Path:
    with CheckpointWriter(folder, keeping=Keeping(newest=keep)) as writer:
        writer.save(step, tensors, values)
    return folder / f"checkpoint-{step}"
