"""One adapter that a caller trains, request by request."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.training.job.export import put_in_place
from graft.training.runtime.disk import remove
from graft.training.service.learning import state
from graft.training.service.learning.computing import Computing, Later
from graft.training.service.learning.held_base import HeldBase
from graft.training.service.learning.shape import Shape
from graft.training.service.learning.trainee import Adam, Lesson, Trainee
from graft.training.service.learning.turns import Asked, Turns
from graft.training.service.refusal import Kind, Refusal
from graft.training.service.sessions.kept import Kept, Version
from graft.training.service.sessions.limits import Limits
from graft.training.service.sessions.served import Caller, Served

_ALIAS = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")


@dataclass(frozen=True, kw_only=True)
class Place:
    """What trainings work with."""

    held: HeldBase
    computing: Computing
    served: Served
    kept: Kept
    limits: Limits


class Training:
    """Its first turn, of number 0, makes it; what a caller asks for is numbered from 1."""

    def __init__(self, id: str, caller: Caller, adapter: str, place: Place, asked: Asked) -> None:
        """``adapter`` is the name of its versions on the server. ``asked`` is what made it."""
        self.id, self.caller, self.adapter, self.asked = id, caller, adapter, asked
        self.shape: Shape | None = None
        self._place = place
        self._trainee: Trainee | None = None
        self.turns = Turns(first=0, max_bytes=place.limits.max_waiting_bytes)
        self._nameless: list[str] = []
        """Digests of versions that nobody has named."""

    @property
    def is_live(self) -> bool:
        """Whether it holds an adapter, or is about to."""
        return not self.turns.is_over

    def again(self, asked: Asked) -> Future[Any]:
        """What made it, asked for once more. Raises ``Refusal`` where that is something else."""
        return self.turns.ask(asked, lambda: None)

    def answer(self, number: int) -> Future[Any]:
        """What came or will come of a request. Raises ``Refusal``."""
        return self.turns.answer(number)

    def hand_over(self, number: int) -> None:
        """Its answer was sent."""
        self.turns.hand_over(number)

    def begin(self, shape: Shape, *, answer: Any) -> Future[Any]:
        """From an adapter that changes nothing; ``answer`` is what its caller hears then."""
        return self._begin(lambda: Trainee(self._place.held, shape), answer)

    def go_on(self, folder: Path, *, with_optimizer: bool, answer: Any) -> Future[Any]:
        """From a state that was saved."""

        def make() -> Trainee:
            trainee = Trainee(self._place.held, state.shape_of(folder, self._place.held))
            state.load(trainee, folder, with_optimizer=with_optimizer)
            return trainee

        return self._begin(make, answer)

    def learn(self, asked: Asked, lesson: Lesson, *, forward_only: bool) -> Future[Any]:
        """``Learned``."""
        return self._ask(asked, lambda trainee: trainee.learn(lesson, forward_only=forward_only))

    def move(self, asked: Asked, adam: Adam) -> Future[Any]:
        """``Moved``."""
        return self._ask(asked, lambda trainee: trainee.move(adam))

    def save(self, asked: Asked, name: str, *, overwrite: bool, answer: Any) -> Future[Any]:
        """Keeps the state under a name; ``answer`` is what its caller hears then."""

        def act(trainee: Trainee) -> Any:
            state.save(trainee, self._place.kept.new_state(self.caller, self.id, name, overwrite=overwrite))
            return answer

        return self._ask(asked, act)

    def load(self, asked: Asked, folder: Path, *, with_optimizer: bool, answer: Any) -> Future[Any]:
        """Takes a saved state over; ``answer`` is what its caller hears then."""

        def act(trainee: Trainee) -> Any:
            state.load(trainee, folder, with_optimizer=with_optimizer)
            return answer

        return self._ask(asked, act)

    def publish(self, asked: Asked, name: str | None, done: Callable[[Version], Any]) -> Future[Any]:
        """A version on the server, with the weights after the turns before; what ``done`` makes of it is the answer.
        One without a name goes with its session.
        """
        place = self._place

        def act(trainee: Trainee) -> Later:
            folder = place.kept.draft(self.caller, self.id, asked.number)
            put_in_place(folder, lambda draft: trainee.write(draft, job=self.id))
            is_noop = trainee.step.number == 0
            return Later(act=lambda: done(self._pushed(folder, name, is_noop=is_noop)))

        return self._ask(asked, act)

    def end(self, reason: Refusal) -> None:
        """Lets go of the adapter, and of versions without a name."""
        self.turns.end(reason)
        self._place.computing.remove(self.turns)
        self._trainee = None
        if digests := self._unnamed():
            forget = lambda: self._place.served.forget(self.caller, adapter=self.adapter, digests=digests)  # noqa: E731
            self._place.computing.aside(forget)

    def _unnamed(self) -> list[str]:
        digests, self._nameless = self._nameless, []
        return digests

    def _pushed(self, folder: Path, name: str | None, *, is_noop: bool) -> Version:
        place = self._place
        alias = name if name is not None and _ALIAS.match(name) and ".." not in name else None
        try:
            digest = place.served.publish(self.caller, folder, adapter=self.adapter, alias=alias, is_noop=is_noop)
        finally:
            remove(folder)
        version = Version(adapter=self.adapter, digest=digest, training=self.id, name=name)
        if name is None:
            self._nameless.append(digest)
            if not self.is_live and (digests := self._unnamed()):  # it ended meanwhile
                place.served.forget(self.caller, adapter=self.adapter, digests=digests)
                raise self.turns.gone
        else:
            place.kept.name_version(self.caller, self.id, name, version)
        return version

    def _begin(self, make: Callable[[], Trainee], answer: Any) -> Future[Any]:
        def act() -> Any:
            try:
                self._trainee = make()
            except BaseException:
                told = f"the training {self.id} could not be made: see why, and make another."
                self.turns.end(Refusal(Kind.GONE, told))
                raise
            self.shape = self._trainee.shape
            return answer

        return self._turn(self.asked, act)

    def _ask(self, asked: Asked, act: Callable[[Trainee], Any]) -> Future[Any]:
        def turn() -> Any:
            trainee = self._trainee
            if trainee is None:  # the first turn makes it; who ended all meanwhile took it away
                raise self.turns.gone
            return act(trainee)

        return self._turn(asked, turn)

    def _turn(self, asked: Asked, act: Callable[[], Any]) -> Future[Any]:
        found = self.turns.ask(asked, act)
        self._place.computing.look()
        return found
