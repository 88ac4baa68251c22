"""What can go wrong while making bases and adapters: every error names the value, the limit and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from graft.adapters.text.problems import UnreadableText

Given = ParamSpec("Given")
Read = TypeVar("Read")


class TrainingError(Exception):
    """Something the person who started the training can put right; the command line prints it as one line."""

    exit_code = 2


class ConfigurationError(TrainingError, ValueError):
    """A setting is unknown, of the wrong type or outside its range."""


class DataError(TrainingError, ValueError):
    """A data set cannot be used as it is; the message names the file and the line."""


class CheckpointError(TrainingError, RuntimeError):
    """A checkpoint is missing, unfinished or belongs to a different run."""


class OtherRun(CheckpointError):
    """The folder's checkpoints are those of a different run: no new try mends that."""


class NotWritten(TrainingError, OSError):
    """The disk refused what was to be written: it is full, or may not be written to."""


class NotMeasured(TrainingError, RuntimeError):
    """What was made is written and whole, but memory did not suffice to measure it: on these devices no new try would
    find more.
    """


class NotTheSame(TrainingError, ArithmeticError):
    """What was made does not compute what it was made from; nothing of it was kept."""

    exit_code = 1


class Diverged(TrainingError, ArithmeticError):
    """Loss or gradient is no longer a number; the learning rate is too high or the data are at fault."""


class Interrupted(TrainingError):
    """A signal ended a training between two steps, behind a checkpoint.

    The exit status is 128 + the signal's number, as a shell reports it (143 for SIGTERM). It is not 0, which Kubernetes
    and Slurm would take for a finished training.
    """

    def __init__(self, message: str, *, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


def first_line(error: BaseException) -> str:
    """What a library says went wrong, as far as it fits into a message; behind a colon with the line that follows."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
    num = 2 if lines[0].endswith(":") else 1
    return " ".join(lines[:num])[:300]


def of_data(read: Callable[Given, Read], *args: Given.args, **keywords: Given.kwargs) -> Read:
    """What a reader of files gives. Raises ``DataError`` in the reader's words."""
    try:
        return read(*args, **keywords)
    except UnreadableText as error:
        raise DataError(str(error)) from None
