"""What a caller says of a file before its bytes have come, judged as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from graft.server.errors import BadInput, Violation
from graft.server.files.file import UPLOADED, Purpose
from graft.server.runtime.violations import Violations, shown

MAX_NAME_CHARACTERS = 255
# OpenAI's bounds: an hour to thirty days.
MIN_SECONDS, MAX_SECONDS = 3_600, 2_592_000


@dataclass(frozen=True, kw_only=True)
class FileDraft:
    """A file to be kept for `lifetime`, by default until it is deleted."""

    purpose: Purpose
    filename: str
    lifetime: timedelta | None = None


def read_draft(*, purpose: str, filename: str, expires_after_seconds: int | None, of_job: bool = False) -> FileDraft:
    """From what a caller sent, or `of_job` a worker for a job: only that one brings results.

    Raises `BadInput` with everything that is wrong.
    """
    violations = Violations()
    known = {Purpose.FINE_TUNE_RESULTS} if of_job else UPLOADED
    if purpose not in known:
        state = f"is {shown(purpose)}" if purpose else "is missing"
        violations.add("purpose", f"{state}; there are {', '.join(sorted(known))}")
    _check_name(filename, violations)
    if expires_after_seconds is not None and not MIN_SECONDS <= expires_after_seconds <= MAX_SECONDS:
        problem = f"is {expires_after_seconds}; allowed are {MIN_SECONDS} (an hour) to {MAX_SECONDS} (thirty days)"
        violations.add("expires_after.seconds", problem)
    violations.raise_any()
    lifetime = None if expires_after_seconds is None else timedelta(seconds=expires_after_seconds)
    return FileDraft(purpose=Purpose(purpose), filename=filename, lifetime=lifetime)


def read_purpose(text: str) -> Purpose | None:
    """Of a list's filter; None where it is empty. Raises `BadInput`."""
    if not text:
        return None
    try:
        return Purpose(text)
    except ValueError:
        problem = f"is {shown(text)}; there are {', '.join(sorted(Purpose))}"
        raise BadInput(Violation(field="purpose", problem=problem)) from None


def _check_name(filename: str, violations: Violations) -> None:
    if not filename:
        violations.add("filename", "is missing: send the file with its name")
    elif len(filename) > MAX_NAME_CHARACTERS:
        violations.add("filename", f"has {len(filename)} characters; the limit is {MAX_NAME_CHARACTERS}")
    elif not filename.isprintable():
        violations.add("filename", f"is {shown(filename)}; a name is printable text")
