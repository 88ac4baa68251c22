"""What the server knows of a file beside its bytes, which lie in the blob store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from graft.adapters.adapter import AdapterFile
from graft.adapters.digest import PREFIX
from graft.adapters.errors import GraftError
from graft.server.runtime.ids import Ids

file_ids = Ids("file-")


class Purpose(StrEnum):
    """What a file is meant for, in OpenAI's words; those that end in output or results are written by the server."""

    FINE_TUNE = "fine-tune"
    FINE_TUNE_RESULTS = "fine-tune-results"
    BATCH = "batch"
    BATCH_OUTPUT = "batch_output"
    EVALS = "evals"
    USER_DATA = "user_data"
    ASSISTANTS = "assistants"
    ASSISTANTS_OUTPUT = "assistants_output"
    VISION = "vision"


UPLOADED = frozenset(Purpose) - {Purpose.FINE_TUNE_RESULTS, Purpose.BATCH_OUTPUT, Purpose.ASSISTANTS_OUTPUT}
"""What a caller may upload for."""


class InvalidFile(GraftError, ValueError):
    """An upload that is no file to be kept: too large, or damaged on its way."""


@dataclass(frozen=True, kw_only=True)
class File:
    """An immutable file. `expire_time` is when it goes by itself, unless something still needs it then."""

    id: str
    tenant: str
    purpose: Purpose
    filename: str
    size_bytes: int
    sha256: str
    create_time: datetime
    expire_time: datetime | None = None

    @property
    def digest(self) -> str:
        """`sha256:…` of its bytes."""
        return PREFIX + self.sha256

    @property
    def blob(self) -> AdapterFile:
        """Its bytes, as the store names them."""
        return AdapterFile(name=self.filename, size_bytes=self.size_bytes, sha256=self.sha256)
