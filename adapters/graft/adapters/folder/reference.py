"""`reference.json`: log-probabilities that a trainer recorded, so that a server can show it computes the same."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BeforeValidator,
    FailFast,
    Field,
    StrictFloat,
    StrictInt,
    ValidationInfo,
    with_config,
)

from graft.adapters.errors import InvalidAdapter
from graft.adapters.folder.record import read_record
from graft.adapters.form import ServingForm

FILE_NAME = "reference.json"
MAX_ROWS = 64
MAX_ROW_TOKENS = 4096

_MAX_BYTES = 8 << 20
_refusal = partial(InvalidAdapter, f"{FILE_NAME} is not a valid reference")
_TokenIds = Annotated[tuple[Annotated[StrictInt, Field(ge=0)], ...], FailFast(), Field(max_length=MAX_ROW_TOKENS)]
_Logprobs = Annotated[tuple[Annotated[StrictFloat, Field(gt=-1e9, le=0)], ...], FailFast()]


def _check_rows(rows: object) -> object:
    # Before they are read: pydantic would tell of each of millions.
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_ROWS:
        raise ValueError(f"must be a list of 1 to {MAX_ROWS} rows")
    return rows


def _check_ids(ids: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
    num_tokens: int = info.context or 2**31
    if len(ids) < 2:
        raise ValueError(f"must be a list of 2 to {MAX_ROW_TOKENS} token ids")
    if max(ids) >= num_tokens:
        raise ValueError(f"{str(max(ids))[:80]} is no token id from 0 to {num_tokens - 1}")
    return ids


def _check_start(start: int, info: ValidationInfo) -> int:
    ids = info.data.get("token_ids")
    if ids is not None and not 1 <= start < len(ids):
        # A first token has no probability.
        raise ValueError(f"{str(start)[:80]} does not lie from 1 to {len(ids) - 1}")
    return start


def _check_logprobs(logprobs: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
    ids, start = info.data.get("token_ids"), info.data.get("num_prompt_tokens")
    if ids is not None and start is not None and len(logprobs) != len(ids) - start:
        raise ValueError(f"must be a list of {len(ids) - start}, one for each token behind the prompt")
    return logprobs


@dataclass(frozen=True, kw_only=True)
class ReferenceRow:
    """One sequence. `logprobs` are natural logarithms, one per token from `num_prompt_tokens` (at least 1) on.

    Of an adapter with a head a server compares what that says of the whole sequence, which is no file's.
    """

    token_ids: Annotated[_TokenIds, AfterValidator(_check_ids)]
    num_prompt_tokens: Annotated[StrictInt, AfterValidator(_check_start)]
    logprobs: Annotated[_Logprobs, AfterValidator(_check_logprobs)]


@with_config(extra="forbid")
@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the adapter says on its base held as `form`; every row runs alone, without padding."""

    form: ServingForm
    rows: Annotated[tuple[ReferenceRow, ...], BeforeValidator(_check_rows)]

    def write(self, folder: Path) -> Path:
        """Write `reference.json` into `folder` and return its path. Raises OSError."""
        path = folder / FILE_NAME
        path.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")
        return path

    @classmethod
    def read(cls, folder: Path, *, vocab_size: int | None = None) -> Reference | None:
        """The reference in `folder`, or None when there is no such file. Raises InvalidAdapter with all reasons.

        Token ids are compared with `vocab_size` where the base is known.
        """
        remedy, path = "train again or remove the file", folder / FILE_NAME
        return read_record(path, cls, max_bytes=_MAX_BYTES, refusal=_refusal, remedy=remedy, context=vocab_size)
