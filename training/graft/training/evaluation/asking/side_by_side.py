"""Many questions at once, so that the engine can batch them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from threading import Event
from typing import TypeVar

from tqdm import tqdm

from graft.client import ResourceExhausted, Unavailable

Item = TypeVar("Item")
Answer = TypeVar("Answer")

MAX_TRIES = 6
NUM_STREAMS = 32


def each(
    ask: Callable[[Item], Answer], items: Sequence[Item], *, num_streams: int = NUM_STREAMS, about: str | None = None
) -> list[Answer]:
    """Every item's answer, in their order; a bar on a terminal shows how far it is.

    Raises what ``ask`` raised first; what was not begun then is left out.
    """
    has_failed = Event()
    with (
        ThreadPoolExecutor(num_streams) as pool,
        tqdm(total=len(items), desc=about, unit="question", leave=False, disable=None) as bar,
    ):

        def one(item: Item) -> Answer:
            if has_failed.is_set():
                raise _Ended
            try:
                answer = with_patience(ask, item)
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


class _Ended(Exception):
    """Another question failed before this one was asked."""


def with_patience(ask: Callable[[Item], Answer], item: Item) -> Answer:
    """Asks again while the server is full or replaces its engine; raises what it last said after ``MAX_TRIES``."""
    for num_failures in range(1, MAX_TRIES):
        try:
            return ask(item)
        except (ResourceExhausted, Unavailable) as error:
            time.sleep(error.retry_after_seconds or float(num_failures))
    return ask(item)
