"""Records that Graft writes beside weights: JSON files that pydantic reads into dataclasses; a trainer's is
`graft.json`.

Numbers are marked strict one by one: a dataclass that is strict as a whole takes no list for a tuple and no string for
an enum, but where pydantic parses the JSON itself, and then every missing key costs it a copy of its object.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import TypeAdapter, ValidationError, ValidatorFunctionWrapHandler, WrapValidator, with_config
from pydantic_core import ErrorDetails, PydanticCustomError

from graft.adapters.adapter import BaseIdentity, Lineage, Provenance
from graft.adapters.errors import GraftError, InvalidAdapter, Reason
from graft.adapters.folder.strict_json import read_json_object
from graft.adapters.form import ServingForm

TRAINED_FILE = "graft.json"
_MAX_TRAINED_BYTES = 1 << 16
_trained_refusal = partial(InvalidAdapter, f"{TRAINED_FILE} is not a valid training record")

T = TypeVar("T")
_MISSING = object()
_KINDS = {"dataclass_type": "an object", "tuple_type": "a list", "string_unicode": "valid Unicode text"}
"""What pydantic calls by Python's names, in JSON's."""
_MAX_REASONS = 20
_MAX_ERRORS = 1000
"""More are counted only: to spell out a million would hold up the process for seconds."""


def _identity(body: object, read: ValidatorFunctionWrapHandler) -> BaseIdentity:
    recorded = body.get("digest", _MISSING) if isinstance(body, dict) else None
    base: BaseIdentity = read({k: v for k, v in body.items() if k != "digest"} if isinstance(body, dict) else body)
    if recorded != base.digest:
        wrong = PydanticCustomError("digest", f"{recorded!r:.100} is not the digest of its parts, {base.digest}")
        kind = "missing" if recorded is _MISSING else wrong
        raise ValidationError.from_exception_data("base", [{"type": kind, "loc": ("digest",), "input": recorded}])
    return base


RecordedBase = Annotated[BaseIdentity, WrapValidator(_identity)]
"""With the digest of its parts beside them."""


@with_config(extra="forbid")
@dataclass(frozen=True, kw_only=True)
class TrainedRecord:
    """The base, the form and the lineage that a trainer vouches for, so that an import can compare base and form."""

    base: RecordedBase
    form: ServingForm
    lineage: Lineage
    provenance: Provenance = Provenance.TRAINED
    """Declared where somebody stated the base of what this was compiled from or added up of."""

    def write(self, folder: Path) -> Path:
        """Write `graft.json` into `folder` and return its path. Raises OSError."""
        return write_record(folder / TRAINED_FILE, self._body())

    def text(self) -> str:
        """What `graft.json` holds."""
        return record_text(self._body())

    def _body(self) -> Mapping[str, object]:
        body = {"base": self.base, "form": self.form, "lineage": self.lineage.record()}
        return body | ({} if self.provenance is Provenance.TRAINED else {"provenance": self.provenance})

    @classmethod
    def read(cls, folder: Path) -> TrainedRecord | None:
        """The record in `folder`, or None when there is no such file. Raises InvalidAdapter with all reasons."""
        remedy = "train again or remove the file"
        return read_record(
            folder / TRAINED_FILE, cls, max_bytes=_MAX_TRAINED_BYTES, refusal=_trained_refusal, remedy=remedy
        )


def read_record(
    path: Path,
    kind: type[T],
    *,
    max_bytes: int,
    refusal: Callable[[list[Reason]], GraftError],
    remedy: str,
    context: object = None,
) -> T | None:
    """The record in the file at `path`, or None when there is no such file. Raises `refusal` of all reasons."""
    if not path.exists():
        return None
    body, reasons = read_json_object(path, max_bytes=max_bytes)
    if reasons:
        raise refusal(reasons)
    try:
        return TypeAdapter(kind).validate_python(body, context=context)
    except ValidationError as error:
        num_wrong = error.error_count()
        shown = error.errors(include_url=False)[:_MAX_REASONS] if num_wrong <= _MAX_ERRORS else []
    reasons = [Reason(field=f"{path.name}:{_field(one)}", problem=_problem(one), remedy=remedy) for one in shown]
    if num_wrong > len(shown):
        rest = f"{num_wrong - len(shown)} more faults" if shown else f"{num_wrong} faults, too many to name"
        reasons.append(Reason(field=path.name, problem=f"has {rest}", remedy=remedy))
    raise refusal(reasons)


def write_record(path: Path, record: object) -> Path:
    """Write a dataclass for `read_record`, and return its path. Raises OSError."""
    path.write_text(record_text(record), encoding="utf-8")
    return path


def record_text(record: object) -> str:
    """What `write_record` writes."""
    return json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False, default=_plain) + "\n"


def _plain(value: object) -> Mapping[str, object]:
    return dict(value if isinstance(value, Mapping) else vars(value))


def _field(error: ErrorDetails) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part[:200]}" for part in error["loc"])
    return "".join(parts).removeprefix(".")


def _problem(error: ErrorDetails) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "unexpected_keyword_argument":
        return "is an unknown key"
    if kind := _KINDS.get(error["type"]):
        return f"{error['input']!r:.100} should be {kind}"
    _, should, rest = error["msg"].partition(" should ")
    return f"{error['input']!r:.100}{should}{rest}" if should else error["msg"]
