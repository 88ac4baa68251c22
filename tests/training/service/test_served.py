"""What becomes of callers and their trainings while the server that samples is away, or the trainer ends."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from graft.client import GraftClientError, ResourceExhausted, Unauthenticated, Unavailable
from graft.client.errors import Details
from graft.training.service.learning.computing import Computing
from graft.training.service.learning.turns import Asked
from graft.training.service.refusal import Kind, Refusal
from graft.training.service.sessions import served as module
from graft.training.service.sessions.kept import Kept
from graft.training.service.sessions.limits import Limits
from graft.training.service.sessions.sampling import Sampling
from graft.training.service.sessions.served import Caller, Served
from graft.training.service.sessions.sessions import Sessions
from graft.training.service.sessions.training import Place, Training

AWAY = Unavailable("away", code=grpc.StatusCode.UNAVAILABLE)
UNKNOWN = Unauthenticated("who?", code=grpc.StatusCode.UNAUTHENTICATED)
FULL = ResourceExhausted("full", code=grpc.StatusCode.RESOURCE_EXHAUSTED, details=Details(reason="QUOTA_EXCEEDED"))


class Server:
    """A client of one; it says ``error`` as long as there is one."""

    def __init__(self) -> None:
        self.error: GraftClientError | None = None
        self.asked = 0

    def info(self, *, timeout: float) -> None:
        self._said()

    def generate(self, *said: Any, **more: Any) -> None:
        self._said()

    def _said(self) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(module, "Client", lambda *said, **more: made)
    return made


def test_who_was_known_stays_known_while_nobody_can_say_it(server: Server) -> None:
    """Else no heartbeat is heard, and the sweep ends all trainings."""
    now = [0.0]
    served = Served("here:1", clock=lambda: now[0])
    served.caller("me")
    server.error, now[0] = AWAY, 100.0
    assert served.caller("me") == Caller(token="me")
    assert served.caller("me") == Caller(token="me") and server.asked == 2, "it is not asked at every call"
    with pytest.raises(Refusal, match="away"):
        served.caller("other")
    server.error, now[0] = UNKNOWN, 200.0
    with pytest.raises(Refusal, match="who"):
        served.caller("me")
    server.error = AWAY
    with pytest.raises(Refusal, match="away"):
        served.caller("me")


def test_a_quota_that_is_used_up_is_not_waited_for(server: Server) -> None:
    served, server.error = Served("here:1"), FULL
    with pytest.raises(Refusal) as refused:
        served.generate(Caller(token="me"), [1], model="")
    assert refused.value.kind is Kind.FULL and server.asked == 1


def test_what_is_being_sampled_does_not_hold_the_end_up() -> None:
    sampling, begun, goes_on = Sampling(num_each=1), threading.Event(), threading.Event()

    def sample() -> None:
        begun.set()
        assert goes_on.wait(60), "the end waits for it"

    asked = sampling.submit(Caller(token="me"), sample)
    behind = sampling.submit(Caller(token="me"), sample)
    assert begun.wait(60)
    sampling.close()
    with pytest.raises(Refusal, match="ended"):
        behind.result(60)
    goes_on.set()
    asked.result(60)


def test_no_caller_has_all_threads() -> None:
    """Each of one's questions may wait for minutes: another's goes to the server meanwhile."""
    sampling, goes_on = Sampling(num_each=2, num_threads=3), threading.Event()
    many = [sampling.submit(Caller(token="many"), lambda: goes_on.wait(60)) for _ in range(8)]
    assert sampling.submit(Caller(token="one"), lambda: "answered").result(60) == "answered"
    assert not any(one.done() for one in many)
    goes_on.set()
    assert all(one.result(60) for one in many)
    sampling.close()


def test_a_session_has_so_many_samplers() -> None:
    sessions = Sessions(cast(Place, _Place()))
    caller = Caller(token="me")
    session = sessions.open(caller)
    first = sessions.new_sampler(caller, session.id, 0, None)
    assert sessions.new_sampler(caller, session.id, 0, None) is first
    with pytest.raises(Refusal, match="samples from 1 versions"):
        sessions.new_sampler(caller, session.id, 1, None)


class _Place:
    limits = Limits(max_samplers=1)
    served = None


class Pushed:
    """A server that takes a version while its training ends."""

    def __init__(self) -> None:
        self.training: Training | None = None
        self.forgotten: list[str] = []

    def publish(self, *said: Any, **more: Any) -> str:
        assert self.training is not None
        self.training.end(Refusal(Kind.GONE, "the session was finished."))
        return "sha256:1"

    def forget(self, caller: Caller, *, adapter: str, digests: list[str]) -> None:
        self.forgotten += digests


def _training(tmp_path: Path, server: Any) -> Training:
    place = Place(held=cast(Any, None), computing=Computing(), served=server, kept=Kept(tmp_path), limits=Limits())
    return Training("s:train:0", Caller(token=None), "a", place, Asked(number=0, digest=b""))


def test_a_version_without_a_name_goes_with_its_training(tmp_path: Path) -> None:
    server = Pushed()
    server.training = training = _training(tmp_path, server)
    with pytest.raises(Refusal, match="finished"):
        training._pushed(tmp_path / "draft", None, is_noop=False)
    assert server.forgotten == ["sha256:1"]


def test_a_turn_that_begins_behind_the_end_is_refused(tmp_path: Path) -> None:
    training = _training(tmp_path, Pushed())
    begun = training._ask(Asked(number=0, digest=b"1"), lambda trainee: None)
    turn = training.turns.take()
    assert turn is not None
    training.end(Refusal(Kind.GONE, "the session was finished."))
    with pytest.raises(Refusal, match="finished"):
        turn.act()
    assert not begun.done()
