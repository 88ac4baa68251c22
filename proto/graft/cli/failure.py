"""From an exception to what the user reads and the exit code."""

from __future__ import annotations

import os
from dataclasses import dataclass

FAILED = 1
USER_ERROR = 2
INTERRUPTED = 130


class UserError(Exception):
    """A mistake of the caller's, said in one line."""

    exit_code = USER_ERROR


class CommandFailed(Exception):
    """The command could not do its work, said in one line."""

    exit_code = FAILED


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One line and an exit code."""

    message: str
    exit_code: int


def explain(error: BaseException, *, remedy: str) -> Failure | None:
    """What to say about `error`; None for one that nobody foresaw, whose traceback is wanted.

    Portions that cannot import this module take part by shape: an exception with an integer `exit_code`, or one with
    `reasons` (the adapters' domain errors), is said in one line.
    """
    if isinstance(error, KeyboardInterrupt):
        return Failure(message="interrupted", exit_code=INTERRUPTED)
    exit_code = getattr(error, "exit_code", None)
    if isinstance(exit_code, int):
        return Failure(message=str(error), exit_code=exit_code)
    if hasattr(error, "reasons"):
        return Failure(message=str(error), exit_code=USER_ERROR)
    if hasattr(error, "violations"):
        return Failure(message=_call_message(error), exit_code=_call_exit_code(error))
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("graft."):
        return Failure(message=f"{error.name} is not installed: {remedy}", exit_code=FAILED)
    if isinstance(error, OSError):
        return Failure(message=_os_message(error), exit_code=USER_ERROR)
    return None


def _call_message(error: BaseException) -> str:
    from graft.client import errors

    seconds = getattr(error, "retry_after_seconds", None)
    if isinstance(error, errors.Unauthenticated):
        return f"{error} (set GRAFT_TOKEN to the token that the server's operator gave you)"
    return str(error) if seconds is None else f"{error} (try again in {seconds:g} s)"


def _call_exit_code(error: BaseException) -> int:
    from graft.client import errors

    theirs = (errors.InvalidArgument, errors.NotFound, errors.Conflict, errors.PermissionDenied, errors.Unauthenticated)
    return USER_ERROR if isinstance(error, theirs) else FAILED


def _os_message(error: OSError) -> str:
    if error.filename is None or error.errno is None:
        return str(error)
    return f"{error.filename}: {os.strerror(error.errno)}"
