"""Rounds that are sampled while the ones before them are learned from."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """One thread asks for rounds in their order, at most ``ahead`` of them more than was taken; with 0 a round is asked
    for when it is taken, in the caller's thread.
    """

    def __init__(self, ask: Callable[[int], T], *, ahead: int, end: int) -> None:
        """``ask`` is called with a round's number, below ``end``."""
        self._ask, self._ahead, self._end = ask, ahead, end
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rollouts") if ahead else None
        self._asked: dict[int, Future[T]] = {}

    def take(self, number: int) -> T:
        """Raises what asking for it raised."""
        if self._thread is None:
            return self._ask(number)
        for one in range(number, min(number + self._ahead + 1, self._end)):
            if one not in self._asked:
                self._asked[one] = self._thread.submit(self._ask, one)
        return self._asked.pop(number).result()

    def close(self) -> None:
        """What was asked for and not taken is thrown away: a round is never half used."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
