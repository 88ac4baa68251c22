"""What serving itself can refuse. Transports are unknown here: `api/faults.py` maps these to gRPC and HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from graft.adapters.errors import Conflict, NotFound


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One field of a request that cannot be used: the field's path and what to do about it."""

    field: str
    problem: str


class ServingError(Exception):
    """A request that serving did not carry out."""


class BadInput(ServingError, ValueError):
    """The request's own values are unusable; `violations` names all of them at once."""

    def __init__(self, *violations: Violation) -> None:
        self.violations = violations
        super().__init__("; ".join(f"{violation.field}: {violation.problem}" for violation in violations))


class NoAnswer(ServingError):
    """The model answered, and what it said holds no answer of the kind that was asked for."""

    def __init__(self, problem: str, *, said: str = "") -> None:
        """`said`: of the model's words, which are not for every reader."""
        super().__init__(f"{problem}: {said}" if said else problem)
        self.problem = problem
        self.said = said


class UnsupportedClaims(NoAnswer):
    """The answer claims what no source supports that it cites, where the program asks for support."""


class NoSuchResource(NotFound):
    """The tenant has no such file or job."""


class LeaseLost(Conflict):
    """The worker does not have the job any more, and must stop working on it."""


class TooLarge(ServingError, ValueError):
    """More bytes than this server takes in one request."""


class UnsupportedEncoding(ServingError, ValueError):
    """A body that is packed in a way that is not read here."""


class Forbidden(ServingError, PermissionError):
    """The server's settings do not allow this."""


class Unauthenticated(ServingError, PermissionError):
    """Whose the request is cannot be told."""


class Overloaded(ServingError):
    """Every running and waiting place is taken."""

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class QuotaExceeded(ServingError):
    """A tenant keeps as much as this server's settings let one keep."""


class Draining(ServingError):
    """The server is going down and takes no new work."""


class NotReady(ServingError):
    """The engine is starting or being replaced."""


class DeadlineExceeded(ServingError, TimeoutError):
    """The request's time is over."""


class SlowReader(ServingError):
    """The caller took nothing from its stream for too long and was let go."""


class ParityFailed(ServingError):
    """What is served is not what was trained: the version is refused from now on."""


class ParityUnavailable(ServingError):
    """Whether the version is served rightly could not be found out this time."""
