"""A job's states and what moves it from one to another."""

from __future__ import annotations

from enum import StrEnum

from graft.adapters.errors import Conflict, Reason


class JobState(StrEnum):
    """In OpenAI's words."""

    VALIDATING_FILES = "validating_files"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Move(StrEnum):
    """What happens to a job."""

    ACCEPT = "accept"
    """Its files are sound."""
    CLAIM = "claim"
    """A worker begins, or goes on."""
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    RELEASE = "release"
    """Its worker gives it back, or was given up."""
    SUCCEED = "succeed"
    FAIL = "fail"


ENDED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
"""Nothing moves a job from here."""
HELD = frozenset({JobState.RUNNING, JobState.PAUSING})
"""A worker has it."""

_S, _M = JobState, Move
_TABLE: dict[tuple[JobState, Move], JobState] = {
    (_S.VALIDATING_FILES, _M.ACCEPT): _S.QUEUED,
    (_S.VALIDATING_FILES, _M.FAIL): _S.FAILED,
    (_S.VALIDATING_FILES, _M.CANCEL): _S.CANCELLED,
    (_S.QUEUED, _M.CLAIM): _S.RUNNING,
    (_S.QUEUED, _M.PAUSE): _S.PAUSED,
    (_S.QUEUED, _M.CANCEL): _S.CANCELLED,
    (_S.RUNNING, _M.PAUSE): _S.PAUSING,
    (_S.RUNNING, _M.RELEASE): _S.QUEUED,
    (_S.RUNNING, _M.SUCCEED): _S.SUCCEEDED,
    (_S.RUNNING, _M.FAIL): _S.FAILED,
    (_S.RUNNING, _M.CANCEL): _S.CANCELLED,
    # The worker may save and give it back all the same: then another goes on.
    (_S.PAUSING, _M.RESUME): _S.RUNNING,
    (_S.PAUSING, _M.RELEASE): _S.PAUSED,
    (_S.PAUSING, _M.SUCCEED): _S.SUCCEEDED,
    (_S.PAUSING, _M.FAIL): _S.FAILED,
    (_S.PAUSING, _M.CANCEL): _S.CANCELLED,
    (_S.PAUSED, _M.RESUME): _S.QUEUED,
    (_S.PAUSED, _M.CANCEL): _S.CANCELLED,
}
# What is asked for is so already: asked twice is no mistake.
_SO_ALREADY = {
    Move.PAUSE: {JobState.PAUSING, JobState.PAUSED},
    Move.RESUME: {JobState.QUEUED, JobState.RUNNING},
    Move.CANCEL: {JobState.CANCELLED},
}


def after(state: JobState, move: Move) -> JobState:
    """The state that follows; the same where it is so already. Raises Conflict."""
    following = _TABLE.get((state, move))
    if following is not None:
        return following
    if state in _SO_ALREADY.get(move, ()):
        return state
    possible = sorted(known.value for known_state, known in _TABLE if known_state is state and known in _ASKED)
    remedy = f"it can be asked to {', '.join(possible)}" if possible else "it has ended; make a new job"
    raise Conflict(f"a job cannot {move} now", [Reason(field="status", problem=f"is {state}", remedy=remedy)])


_ASKED = frozenset({Move.PAUSE, Move.RESUME, Move.CANCEL})
