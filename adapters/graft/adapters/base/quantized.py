"""`graft_base.json`: what lies beside a quantized base's weights, so that it keeps the identity of its origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import Field, StrictInt, ValidationError, ValidatorFunctionWrapHandler, WrapValidator, with_config

from graft.adapters.digest import Digest
from graft.adapters.errors import InvalidBase, Reason
from graft.adapters.folder.record import RecordedBase, read_record, write_record
from graft.adapters.form import ServingForm

FILE_NAME = "graft_base.json"
_MAX_BYTES = 16 << 20
_REMEDY = "make the folder again with graft quantize"
_Count = Annotated[StrictInt, Field(gt=0)]
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Shapes = Mapping[str, tuple[_Count, _Count]]


def _modules(body: object, read: ValidatorFunctionWrapHandler) -> _Shapes:
    try:
        modules: _Shapes = read(body)
    except ValidationError:
        modules = {}
    if not modules:
        raise ValueError("must map every linear layer to [out_features, in_features]")
    return modules


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The text that steered the rounding."""

    data_digest: Digest
    num_tokens: _Count


@with_config(extra="forbid")
@dataclass(frozen=True, kw_only=True)
class QuantizedRecord:
    """What `graft quantize` vouches for.

    `base` is the origin; `modules` maps each linear layer of the origin to (out_features, in_features), which packed
    weights no longer tell; `files` holds the SHA-256 (64 hex digits) of config.json and of every weight file; `tools`
    the versions of what made them. It guards against mistakes, not against a forger, who could write this file too.
    """

    base: RecordedBase
    form: ServingForm
    modules: Annotated[_Shapes, WrapValidator(_modules)]
    num_parameters: _Count
    files: Mapping[str, _Sha256]
    calibration: Calibration | None
    tools: Mapping[str, str]

    def write(self, folder: Path) -> Path:
        """Write `graft_base.json` into `folder` and return its path. Raises OSError."""
        return write_record(folder / FILE_NAME, self)

    @classmethod
    def read(cls, folder: Path) -> QuantizedRecord | None:
        """The record in `folder`, or None when there is no such file. Raises InvalidBase with all reasons."""
        refusal = partial(InvalidBase, f"{folder} is not a usable base")
        return read_record(folder / FILE_NAME, cls, max_bytes=_MAX_BYTES, refusal=refusal, remedy=_REMEDY)

    def differences(self, hashes: Mapping[str, str], tokenizer: str, chat_template: str | None) -> list[Reason]:
        """Where a folder is not what was recorded: `hashes` are its files' SHA-256, the others its digests."""
        reasons = []
        for name in sorted(self.files.keys() | hashes.keys()):
            recorded, found = self.files.get(name), hashes.get(name)
            if found is None:
                reasons.append(Reason(field=name, problem="is missing", remedy=_REMEDY))
            elif recorded is None:
                problem = f"is not recorded in {FILE_NAME}"
                reasons.append(Reason(field=name, problem=problem, remedy="remove it, or " + _REMEDY))
            elif recorded != found:
                problem = f"was changed: its SHA-256 is {found}, recorded is {recorded}"
                reasons.append(Reason(field=name, problem=problem, remedy=_REMEDY))
        for part, here in (("tokenizer", tokenizer), ("chat_template", chat_template)):
            there = getattr(self.base, f"{part}_digest")
            if here != there:
                problem = f"is {here or 'none'}, but the origin {self.base.name} has {there or 'none'}"
                reasons.append(Reason(field=f"{part}_digest", problem=problem, remedy=_REMEDY))
        return reasons
