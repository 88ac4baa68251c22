"""What becomes of a training that its server, or its user, ends."""

from __future__ import annotations

import grpc
import pytest

from graft.client.errors import (
    DeadlineExceeded,
    Details,
    GraftClientError,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from graft.training.worker.child import AWAY, FAILED_BY_USER, _code

Code = grpc.StatusCode
FULL = ResourceExhausted("full", code=Code.RESOURCE_EXHAUSTED, details=Details(reason="QUOTA_EXCEEDED"))


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("the engine is replaced", code=Code.UNAVAILABLE),
        DeadlineExceeded("late", code=Code.DEADLINE_EXCEEDED),
        Internal("broken", code=Code.INTERNAL),
        ResourceExhausted("busy", code=Code.RESOURCE_EXHAUSTED),
    ],
)
def test_a_server_that_does_not_answer_fails_no_job(error: GraftClientError) -> None:
    """It goes on from its newest checkpoint: a failure would be for good."""
    assert _code(error)[1] == AWAY


@pytest.mark.parametrize(
    "error", [InvalidArgument("no", code=Code.INVALID_ARGUMENT), NotFound("gone", code=Code.NOT_FOUND), FULL]
)
def test_what_asking_again_does_not_mend_fails_it(error: GraftClientError) -> None:
    assert _code(error)[1] != AWAY


def test_the_users_own_fault() -> None:
    from graft.training.errors import ConfigurationError

    assert _code(ConfigurationError("no")) == ("invalid_settings", FAILED_BY_USER)
