"""Domain errors. They know no transport: the server maps them to gRPC and HTTP in one table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One thing that is wrong: where, what (with the value and the limit), and what to do about it."""

    field: str
    problem: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.field}: {self.problem}{remedy}"


class GraftError(Exception):
    """Root of the domain errors; carries every reason at once."""

    def __init__(self, message: str, reasons: Iterable[Reason] = ()) -> None:
        """`message` is a sentence of its own; `reasons` are appended when the error is shown."""
        super().__init__(message)
        self.message = message
        self.reasons: tuple[Reason, ...] = tuple(reasons)

    def __str__(self) -> str:
        if not self.reasons:
            return self.message
        return f"{self.message}: " + " | ".join(str(reason) for reason in self.reasons)


class InvalidAdapter(GraftError, ValueError):
    """The adapter's files are broken: no base could serve them."""


class IncompatibleAdapter(GraftError, ValueError):
    """The files are sound but do not fit this base or these limits; all reasons at once."""


class InvalidBase(GraftError, ValueError):
    """A folder is not a usable base model."""


class InvalidReference(GraftError, ValueError):
    """A name, selector, alias weight or page token is malformed."""


class NotFound(GraftError, LookupError):
    """No such base, adapter, version or alias for this tenant."""


class AlreadyExists(GraftError):
    """The thing to be created is there already, with other content."""


class Conflict(GraftError):
    """A compare-and-set was lost, or the thing is still referenced."""


class StoreFull(GraftError):
    """No space left for files or rows; nothing partial was left behind."""


class StoreUnavailable(GraftError):
    """The blob store did not answer rightly after all tries."""


class BlobMissing(StoreUnavailable):
    """The blob store answered, and does not have it: asking again is of no use."""


class CatalogUnavailable(GraftError):
    """The catalog's database is unreachable, locked or newer than this program."""


class CatalogCorrupt(GraftError):
    """The catalog's database failed its integrity check."""
