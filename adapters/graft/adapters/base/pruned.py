"""`graft_pruned.json`: how a base was made of another one by zeros among its weights. It is a base of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import Field, StrictFloat, StrictInt, with_config

from graft.adapters.base.quantized import Calibration
from graft.adapters.digest import Digest
from graft.adapters.errors import InvalidBase
from graft.adapters.folder.record import RecordedBase, read_record, write_record

FILE_NAME = "graft_pruned.json"
_MAX_BYTES = 16 << 20
_REMEDY = "make the folder again with graft prune"
_Share = Annotated[StrictFloat | StrictInt, Field(ge=0, le=1)]


@with_config(extra="forbid")
@dataclass(frozen=True, kw_only=True)
class PrunedLayer:
    """`zeros` is the share of the layer's weights that are zeros; `error` is ‖WX − W′X‖² as a share of ‖WX‖² over the
    calibration inputs X, None where none were computed.
    """

    zeros: _Share
    error: Annotated[StrictFloat | StrictInt, Field(ge=0)] | None


@with_config(extra="forbid")
@dataclass(frozen=True, kw_only=True)
class PrunedRecord:
    """What `graft prune` vouches for.

    `base` is the origin, `sparsity` the share of zeros asked for, `pattern` such as 2:4 or None, `layers` what became
    of each by path, `weights_digest` that of the folder's weights: of others this tells nothing.
    """

    base: RecordedBase
    method: str
    sparsity: _Share
    pattern: str | None
    layers: Mapping[str, PrunedLayer]
    calibration: Calibration | None
    weights_digest: Digest
    tools: Mapping[str, str]

    def write(self, folder: Path) -> Path:
        """Write `graft_pruned.json` into `folder` and return its path. Raises OSError."""
        return write_record(folder / FILE_NAME, self)

    @classmethod
    def read(cls, folder: Path) -> PrunedRecord | None:
        """The record in `folder`, or None when there is no such file. Raises InvalidBase with all reasons."""
        refusal = partial(InvalidBase, f"{folder} is not a usable base")
        return read_record(folder / FILE_NAME, cls, max_bytes=_MAX_BYTES, refusal=refusal, remedy=_REMEDY)
