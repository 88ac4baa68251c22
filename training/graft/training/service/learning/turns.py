"""One training's requests, in the order of their numbers, each done once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from graft.training.service.learning.answers import KEPT, Answers
from graft.training.service.refusal import Kind, Refusal

Act = Callable[[], Any]
AHEAD = 4096
"""Requests that may wait for their turn."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request, whatever it is about."""

    number: int
    digest: bytes
    """Of what is asked for: the same number means the same."""
    num_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A request that waits, and what will come of it."""

    num_bytes: int
    act: Act
    answer: Future[Any]


class Turns:
    """Numbers begin at ``first``. A number that is missing holds up those behind it."""

    def __init__(self, *, first: int, max_bytes: int) -> None:
        """``max_bytes`` of requests may wait."""
        self._lock = threading.Lock()
        self._next, self._first, self._max_bytes = first, first, max_bytes
        self._answers = Answers()
        self._waiting: dict[int, Turn] = {}
        self._end: Refusal | None = None

    @property
    def is_over(self) -> bool:
        return self._end is not None

    @property
    def gone(self) -> Refusal:
        """Why nothing is begun any more."""
        return self._end or Refusal(Kind.GONE, "the training has ended.")

    def ask(self, asked: Asked, act: Act) -> Future[Any]:
        """What will come of it; of a request that was asked before, what came of that.

        Raises ``Refusal`` where the number means another request, where its answer is no longer kept, or where too much
        waits.
        """
        with self._lock:
            if (known := self._answers.again(asked.number, asked.digest)) is not None:
                return known
            if self._end is not None:
                raise self._end
            self._check(asked)
            answer = self._answers.add(asked.number, asked.digest)
            self._waiting[asked.number] = Turn(num_bytes=asked.num_bytes, act=act, answer=answer)
            return answer

    def take(self) -> Turn | None:
        """The turn that comes next, where it has been asked for: it is its caller's to do."""
        with self._lock:
            turn = self._waiting.pop(self._next, None)
            if turn is not None:
                self._next += 1
            return turn

    def answer(self, number: int) -> Future[Any]:
        """What came or will come of a request. Raises ``Refusal``."""
        with self._lock:
            found = self._answers.of(number)
            if found is None:
                raise self._missing(number)
            return found

    def hand_over(self, number: int) -> None:
        """The answer was sent: it may be forgotten behind others."""
        with self._lock:
            self._answers.hand_over(number)

    def end(self, reason: Refusal) -> None:
        """Nothing is begun any more: all that waits is refused, and all that is to come."""
        with self._lock:
            self._end = reason
            waiting, self._waiting = list(self._waiting.values()), {}
        for turn in waiting:
            turn.answer.set_exception(reason)

    def _check(self, asked: Asked) -> None:
        if asked.number < self._next:
            raise self._missing(asked.number)
        if asked.number >= self._next + AHEAD or len(self._answers) >= AHEAD:
            raise Refusal(
                Kind.FULL,
                f"request {asked.number} is too far ahead: {AHEAD} may wait, for their turn or for their answers to be "
                f"fetched, and the next turn is that of {self._next}.",
            )
        waiting = asked.num_bytes + sum(turn.num_bytes for turn in self._waiting.values())
        # The next in order is always taken: nothing goes on without it.
        if asked.number != self._next and waiting > self._max_bytes:
            raise Refusal(
                Kind.FULL, f"{waiting} bytes of requests would wait, and {self._max_bytes} may: wait for an answer."
            )

    def _missing(self, number: int) -> Refusal:
        if self._first <= number < self._next:
            told = f"the answer to request {number} is not kept any more: the last {KEPT} that were fetched are."
            return Refusal(Kind.GONE, told)
        return Refusal(Kind.NOT_FOUND, f"there is no request {number}: the next turn is that of {self._next}.")
