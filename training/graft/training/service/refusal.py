"""Why a request is not carried out: told to whoever sent it, whatever the wire."""

from __future__ import annotations

from enum import Enum

from graft.training.errors import TrainingError


class Kind(Enum):
    """What is wrong, as wires tell it apart."""

    INVALID = "invalid"
    NOT_FOUND = "not found"
    GONE = "gone"
    """It was there, and what was asked for is not kept any more."""
    FULL = "full"
    """Too much waits: the same may be asked again."""
    NO_ROOM = "no room"
    """What is held has to be let go first."""
    UNKNOWN_CALLER = "unknown caller"
    UNAVAILABLE = "unavailable"
    """The server that samples does not answer: the same may be asked again."""


class Refusal(TrainingError):
    """Names the value, the limit and what to do, in one line."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
