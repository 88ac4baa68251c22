"""What a step reads, made while the step before it is computed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """A thread that is one step ahead. What fails there is raised in the step that would have read it.

    Ends its thread at the end of the ``with`` block, after what it is making at that moment.
    """

    def __init__(self, make: Callable[[int], T], *, end: int) -> None:
        """``make`` gives what a step reads, by the step's number alone; ``end`` is the number behind the last."""
        self._make, self._end = make, end
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        self._next: tuple[int, Future[T]] | None = None

    def take(self, step: int) -> T:
        """What this step reads; what was made for another step is thrown away."""
        ahead, self._next = self._next, None
        if ahead is None or ahead[0] != step:
            ahead = step, self._thread.submit(self._make, step)
        made = ahead[1].result()
        if step + 1 < self._end:
            self._next = step + 1, self._thread.submit(self._make, step + 1)
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown(cancel_futures=True)
