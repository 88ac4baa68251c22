"""Many questions at once, so that the engine can batch them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from threading import Event, Lock
from typing import TypeVar

from tqdm import tqdm

from graft.client import GraftClientError, ResourceExhausted, Unavailable

Item = TypeVar("Item")
Answer = TypeVar("Answer")

MAX_WAIT_SECONDS = 180.0
"""That a question is asked again: replacing an engine takes 15 to 75 s."""
_LONGEST_PAUSE_SECONDS = 10.0
NUM_STREAMS = 32


def each(
    ask: Callable[[Item], Answer],
    items: Sequence[Item],
    *,
    num_streams: int = NUM_STREAMS,
    about: str | None = None,
    max_wait_seconds: float = MAX_WAIT_SECONDS,
) -> list[Answer]:
    """Every item's answer, in their order; a bar on a terminal shows how far it is.

    An item is asked again, over ``max_wait_seconds``, while the server is full or replaces its engine. Raises what
    ``ask`` raised first; what was not begun then is left out.
    """
    has_failed = Event()
    patience = _Patience(has_failed, max_wait_seconds)
    with (
        ThreadPoolExecutor(num_streams) as pool,
        tqdm(total=len(items), desc=about, unit="question", leave=False, disable=None) as bar,
    ):

        def one(item: Item) -> Answer:
            if has_failed.is_set():
                raise _Ended
            try:
                answer = patience.answer(ask, item)
            except BaseException:
                has_failed.set()
                raise
            bar.update()
            return answer

        asked = [pool.submit(one, item) for item in items]
        try:
            wait(asked, return_when=FIRST_EXCEPTION)
        finally:
            has_failed.set()
    errors = (one.exception() for one in asked)
    failure = next((error for error in errors if error is not None and not isinstance(error, _Ended)), None)
    if failure is not None:
        raise failure
    return [one.result() for one in asked]


def asked_again(call: Callable[[], Answer], *, max_wait_seconds: float = MAX_WAIT_SECONDS) -> Answer:
    """One question, asked again as ``each`` does. Raises what it raised last."""
    return _Patience(Event(), max_wait_seconds).answer(lambda nothing: call(), None)


class _Ended(Exception):
    """Another question failed before this one was asked."""


class _Patience:
    """Asks again for so many seconds of pauses, or until ``ended`` is set; tells once of a server that is away."""

    def __init__(self, ended: Event, max_wait_seconds: float) -> None:
        self._ended, self._max_wait_seconds = ended, max_wait_seconds
        self._lock, self._has_told = Lock(), False

    def answer(self, ask: Callable[[Item], Answer], item: Item) -> Answer:
        """Raises what the server said last, and ``_Ended`` where another question failed meanwhile."""
        num_failures, waited = 0, 0.0
        while True:
            try:
                return ask(item)
            except (ResourceExhausted, Unavailable) as error:
                num_failures += 1
                pause = error.retry_after_seconds or min(float(num_failures), _LONGEST_PAUSE_SECONDS)
                waited += pause
                # A quota may be full for hours.
                if waited > self._max_wait_seconds:
                    raise
                self._tell(error)
            if self._ended.wait(pause):
                raise _Ended

    def _tell(self, error: GraftClientError) -> None:
        """A server that is merely full says nothing of note."""
        with self._lock:
            if self._has_told or not isinstance(error, Unavailable):
                return
            self._has_told = True
        tqdm.write(f"{error} (asking again for {self._max_wait_seconds:.0f} s)", file=sys.stderr)
