"""`graft.json`: what a trainer records beside the PEFT files, so that an import can compare base and form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import with_config

from graft.adapters.adapter import Lineage
from graft.adapters.errors import InvalidAdapter
from graft.adapters.folder.record import RecordedBase, read_record, write_record
from graft.adapters.form import ServingForm

FILE_NAME = "graft.json"
_MAX_BYTES = 1 << 16
_refusal = partial(InvalidAdapter, f"{FILE_NAME} is not a valid training record")


@with_config(extra="forbid")
@dataclass(frozen=True, kw_only=True)
class TrainedRecord:
    """The base, the form and the lineage that a trainer vouches for."""

    base: RecordedBase
    form: ServingForm
    lineage: Lineage

    def write(self, folder: Path) -> Path:
        """Write `graft.json` into `folder` and return its path. Raises OSError."""
        return write_record(folder / FILE_NAME, self)

    @classmethod
    def read(cls, folder: Path) -> TrainedRecord | None:
        """The record in `folder`, or None when there is no such file. Raises InvalidAdapter with all reasons."""
        remedy = "train again or remove the file"
        return read_record(folder / FILE_NAME, cls, max_bytes=_MAX_BYTES, refusal=_refusal, remedy=remedy)
