"""All that a trainer holds for its callers. Nothing of one is shown to another."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from graft.training.service.learning import state
from graft.training.service.learning.shape import Shape
from graft.training.service.learning.turns import Asked
from graft.training.service.refusal import Kind, Refusal
from graft.training.service.sessions.kept import Version
from graft.training.service.sessions.sampler import Sampler
from graft.training.service.sessions.sampling import Sampling
from graft.training.service.sessions.served import Caller
from graft.training.service.sessions.session import SAMPLE, TRAIN, Session, is_number
from graft.training.service.sessions.training import Place, Training

_log = logging.getLogger(__name__)


class Sessions:
    """Sessions end when their callers say so, or give no sign of life."""

    def __init__(self, place: Place, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.place, self._clock = place, clock
        self._lock = threading.RLock()
        self._sessions: dict[str, Session] = {}
        self._sampling = Sampling(num_each=place.limits.max_sampling)

    def open(self, caller: Caller) -> Session:
        """Raises ``Refusal`` where there are too many."""
        with self._lock:
            if len(self._sessions) >= (most := self.place.limits.max_sessions):
                raise Refusal(Kind.NO_ROOM, f"{most} sessions are open, the most that this trainer holds: finish one.")
            session = Session(id=uuid.uuid4().hex[:16], caller=caller, last_seen=self._clock())
            self._sessions[session.id] = session
            return session

    def get(self, caller: Caller, id: str) -> Session:
        """Whose caller lives. Raises ``Refusal``."""
        with self._lock:
            session = self._sessions.get(id)
            if session is None or session.caller != caller:
                raise Refusal(
                    Kind.NOT_FOUND,
                    f"there is no session {id!r}: it was finished, nothing was heard of it for "
                    f"{self.place.limits.idle_seconds:.0f} s, or the trainer was started anew. Open another, and go on "
                    "from a state that was saved.",
                )
            session.last_seen = self._clock()
            return session

    def finish(self, caller: Caller, id: str) -> None:
        """Raises ``Refusal`` where there is none."""
        with self._lock:
            session = self.get(caller, id)
            del self._sessions[id]
        session.end(Refusal(Kind.GONE, f"the session {id} was finished."))

    def begin(self, caller: Caller, id: str, number: int, asked: Asked, shape: Shape, *, answer: Any) -> Future[Any]:
        """A new training of the session; ``answer`` is what its caller hears then. Raises ``Refusal``."""
        return self._made(caller, id, number, asked, lambda training: training.begin(shape, answer=answer))

    def go_on(
        self,
        caller: Caller,
        id: str,
        number: int,
        asked: Asked,
        origin: tuple[str, str],
        *,
        with_optimizer: bool,
        answer: Any,
    ) -> Future[Any]:
        """The same from a saved state: a training's id and the state's name. Raises ``Refusal``."""
        folder = self.place.kept.state(caller, *origin)

        def begin(training: Training) -> Future[Any]:
            return training.go_on(folder, with_optimizer=with_optimizer, answer=answer)

        return self._made(caller, id, number, asked, begin)

    def shape_of(self, caller: Caller, training: str, name: str) -> Shape:
        """Of the adapter of a saved state. Raises ``Refusal``."""
        return state.shape_of(self.place.kept.state(caller, training, name), self.place.held)

    def training(self, caller: Caller, id: str) -> Training:
        """Raises ``Refusal``."""
        session, _, number = id.partition(TRAIN)
        found = self.get(caller, session).trainings.get(int(number) if is_number(number) else -1)
        if found is None:
            raise Refusal(Kind.NOT_FOUND, f"there is no training {id!r} in its session.")
        return found

    def sampler(self, caller: Caller, id: str) -> Sampler:
        """Raises ``Refusal``."""
        session, _, number = id.partition(SAMPLE)
        found = self.get(caller, session).samplers.get(int(number) if is_number(number) else -1)
        if found is None:
            raise Refusal(Kind.NOT_FOUND, f"nobody samples as {id!r} in that session.")
        return found

    def new_sampler(self, caller: Caller, id: str, number: int, version: Version | None) -> Sampler:
        """From a version, or from the base. Raises ``Refusal``."""
        with self._lock:
            session, most = self.get(caller, id), self.place.limits.max_samplers
            if number not in session.samplers and len(session.samplers) >= most:
                told = f"the session samples from {most} versions, the most that it may: open another session."
                raise Refusal(Kind.NO_ROOM, told)
            return session.sampler(number, self.place.served, self._sampling, version)

    def sampling(self, caller: Caller, act: Callable[[], Any]) -> Future[Any]:
        """Waits for the server that samples, in a thread beside those of other calls."""
        return self._sampling.submit(caller, act)

    def sweep(self) -> None:
        """Ends sessions of which nothing was heard for too long."""
        idle = self.place.limits.idle_seconds
        with self._lock:
            lost = [one for one in self._sessions.values() if self._clock() - one.last_seen > idle]
            for one in lost:
                del self._sessions[one.id]
        for one in lost:
            _log.warning("session %s: nothing was heard of it for %.0f s, and it has ended", one.id, idle)
            one.end(Refusal(Kind.GONE, f"nothing was heard of session {one.id} for {idle:.0f} s, and it has ended."))

    def close(self) -> None:
        """Ends all."""
        with self._lock:
            left, self._sessions = list(self._sessions.values()), {}
        for one in left:
            one.end(Refusal(Kind.GONE, "the trainer has ended."))
        self._sampling.close()

    def _made(
        self, caller: Caller, id: str, number: int, asked: Asked, begin: Callable[[Training], Future[Any]]
    ) -> Future[Any]:
        with self._lock:
            session = self.get(caller, id)
            if (known := session.trainings.get(number)) is not None:
                return known.again(asked)
            learning = sum(one.is_live for each in self._sessions.values() for one in each.trainings.values())
            if learning >= (most := self.place.limits.max_adapters):
                raise Refusal(
                    Kind.NO_ROOM,
                    f"{learning} adapters are being trained, and {most} may be (--max-adapters): finish a session.",
                )
            training = Training(f"{id}{TRAIN}{number}", caller, f"train-{id}-{number}", self.place, asked)
            session.trainings[number] = training
            self.place.computing.add(training.turns)
            return begin(training)
