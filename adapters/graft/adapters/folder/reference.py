"""`reference.json`: log-probabilities that a trainer recorded, so that a server can show it computes the same."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from graft.adapters.errors import InvalidAdapter, Reason
from graft.adapters.folder.strict_json import read_json_object
from graft.adapters.form import ServingForm

FILE_NAME = "reference.json"
MAX_ROWS = 64
MAX_ROW_TOKENS = 4096

_MAX_BYTES = 8 << 20
_ROW_KEYS = {"token_ids", "num_prompt_tokens", "logprobs"}


@dataclass(frozen=True, kw_only=True)
class ReferenceRow:
    """One sequence. `logprobs` are natural logarithms, one per token from `num_prompt_tokens` (at least 1) on."""

    token_ids: tuple[int, ...]
    num_prompt_tokens: int
    logprobs: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the adapter says on its base held as `form`; every row runs alone, without padding."""

    form: ServingForm
    rows: tuple[ReferenceRow, ...]

    def write(self, folder: Path) -> Path:
        """Write `reference.json` into `folder` and return its path. Raises OSError."""
        path = folder / FILE_NAME
        body = {"form": self.form.value, "rows": [asdict(row) for row in self.rows]}
        path.write_text(json.dumps(body) + "\n", encoding="utf-8")
        return path

    @classmethod
    def read(cls, folder: Path, *, vocab_size: int | None = None) -> Reference | None:
        """The reference in `folder`, or None when there is no such file. Raises InvalidAdapter with all reasons.

        Token ids are compared with `vocab_size` where the base is known.
        """
        path = folder / FILE_NAME
        if not path.exists():
            return None
        body, reasons = read_json_object(path, max_bytes=_MAX_BYTES)
        reasons = reasons or list(_reasons(body, vocab_size))
        if reasons:
            raise InvalidAdapter(f"{FILE_NAME} is not a valid reference", reasons)
        rows = body["rows"]
        assert isinstance(rows, list)
        return cls(form=ServingForm(str(body["form"])), rows=tuple(map(_row, rows)))


def _row(row: Mapping[str, list[float]]) -> ReferenceRow:
    """A row that `_reasons` found nothing wrong with."""
    return ReferenceRow(
        token_ids=tuple(map(int, row["token_ids"])),
        num_prompt_tokens=int(row["num_prompt_tokens"]),  # type: ignore[call-overload]
        logprobs=tuple(map(float, row["logprobs"])),
    )


def _reasons(body: Mapping[str, object], vocab_size: int | None) -> Iterator[Reason]:
    yield from _key_reasons("", body, {"form", "rows"})
    form, rows = body.get("form"), body.get("rows")
    if "form" in body and form not in list(ServingForm):
        yield _reason("form", f"{str(form)[:80]!r} is none of {', '.join(ServingForm)}")
    if "rows" not in body:
        return
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_ROWS:
        yield _reason("rows", f"must be a list of 1 to {MAX_ROWS} rows")
        return
    for index, row in enumerate(rows):
        field = f"rows[{index}]"
        if isinstance(row, Mapping):
            yield from _row_reasons(field, row, vocab_size)
        else:
            yield _reason(field, "must be an object")


def _row_reasons(field: str, row: Mapping[str, object], vocab_size: int | None) -> Iterator[Reason]:
    """What is wrong with one row: at most one reason for each of its keys."""
    yield from _key_reasons(f"{field}.", row, _ROW_KEYS)
    if not row.keys() >= _ROW_KEYS:
        return
    ids, start, logprobs = (row.get(key) for key in ("token_ids", "num_prompt_tokens", "logprobs"))
    if not isinstance(ids, list) or not 2 <= len(ids) <= MAX_ROW_TOKENS:
        yield _reason(f"{field}.token_ids", f"must be a list of 2 to {MAX_ROW_TOKENS} token ids")
        return
    largest = (2**31 if vocab_size is None else vocab_size) - 1
    bad = [one for one in ids if type(one) is not int or not 0 <= one <= largest]
    if bad:
        yield _reason(f"{field}.token_ids", f"{str(bad[0])[:80]} is no token id from 0 to {largest}")
    if type(start) is not int or not 1 <= start < len(ids):
        # A first token has no probability.
        yield _reason(f"{field}.num_prompt_tokens", f"{str(start)[:80]} does not lie from 1 to {len(ids) - 1}")
        return
    if not isinstance(logprobs, list) or len(logprobs) != len(ids) - start:
        yield _reason(
            f"{field}.logprobs", f"must be a list of {len(ids) - start}, one for each token behind the prompt"
        )
        return
    wrong = [one for one in logprobs if not _is_logprob(one)]
    if wrong:
        yield _reason(f"{field}.logprobs", f"{str(wrong[0])[:80]} is no finite number of at most 0")


def _is_logprob(value: object) -> bool:
    # The bound keeps integers beyond every float from math.isfinite.
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e9 < value <= 0 and math.isfinite(value)


def _key_reasons(prefix: str, body: Mapping[str, object], keys: set[str]) -> Iterator[Reason]:
    for key in sorted(keys - body.keys()):
        yield _reason(prefix + key, "is missing")
    for key in sorted(body.keys() - keys):
        yield _reason(prefix + key[:200], "is an unknown key")


def _reason(field: str, problem: str) -> Reason:
    return Reason(field=f"{FILE_NAME}:{field}", problem=problem, remedy="train again or remove the file")
