"""The one thread that computes: trainings take turns, so that none waits for all of another's."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from graft.training.errors import TrainingError
from graft.training.service.learning.turns import Act, Turn, Turns

_log = logging.getLogger(__name__)
_NUM_WAITING = 8


@dataclass(frozen=True, kw_only=True)
class Later:
    """What is left to do of a turn that computes nothing: the next turns need not wait for it."""

    act: Callable[[], Any]


class Computing:
    """Begins with ``start`` and ends with ``stop``."""

    def __init__(self) -> None:
        self._trainings: list[Turns] = []
        self._wake = threading.Condition()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="computing", daemon=True)
        self._waiting = ThreadPoolExecutor(_NUM_WAITING, thread_name_prefix="publishing")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """After the turn that is being done."""
        with self._wake:
            self._is_over = True
            self._wake.notify()
        self._thread.join()
        self._waiting.shutdown(cancel_futures=True)

    def add(self, turns: Turns) -> None:
        with self._wake:
            self._trainings.append(turns)

    def remove(self, turns: Turns) -> None:
        with self._wake:
            if turns in self._trainings:
                self._trainings.remove(turns)

    def look(self) -> None:
        """A turn may be ready."""
        with self._wake:
            self._wake.notify()

    def aside(self, act: Callable[[], Any]) -> Future[Any]:
        """Does what computes nothing, in another thread."""
        return self._waiting.submit(act)

    def _run(self) -> None:
        while True:
            with self._wake:
                found = None
                while not self._is_over and (found := self._next()) is None:
                    self._wake.wait()
            if found is None:
                return
            self._do(found.answer, found.act)

    def _next(self) -> Turn | None:
        for turns in self._trainings:
            if (found := turns.take()) is not None:
                # It comes last the next time.
                self._trainings.remove(turns)
                self._trainings.append(turns)
                return found
        return None

    def _do(self, answer: Future[Any], act: Act) -> None:
        try:
            found = act()
        except TrainingError as error:
            answer.set_exception(error)
            return
        except Exception as error:
            _log.exception("a turn failed")
            answer.set_exception(error)
            return
        if isinstance(found, Later):
            self._waiting.submit(self._do, answer, found.act)
        else:
            answer.set_result(found)
