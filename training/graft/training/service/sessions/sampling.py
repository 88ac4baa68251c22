"""Threads that wait for the server that samples, of which no caller has all."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from graft.training.service.refusal import Kind, Refusal
from graft.training.service.sessions.served import Caller

_NUM_THREADS = 64


class Sampling:
    """Ends with ``close``."""

    def __init__(self, *, num_each: int, num_threads: int = _NUM_THREADS) -> None:
        """A caller has ``num_each`` threads at most; what else it asks for waits behind that."""
        self._num_each = num_each
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="sampling")
        self._lock = threading.Lock()
        self._num_running = Counter[Caller]()
        self._waiting: dict[Caller, deque[tuple[Future[Any], Callable[[], Any]]]] = {}
        self._is_over = False

    def submit(self, caller: Caller, act: Callable[[], Any]) -> Future[Any]:
        """What came of it, in the order of a caller's questions."""
        answer: Future[Any] = Future()
        with self._lock:
            if self._is_over:
                answer.set_exception(_OVER)
                return answer
            self._waiting.setdefault(caller, deque()).append((answer, act))
            self._begin(caller)
        return answer

    def close(self) -> None:
        """Refuses what was not begun, and waits for nothing: a question may take as long as the server does."""
        with self._lock:
            self._is_over = True
            waiting = [answer for each in self._waiting.values() for answer, _ in each]
            self._waiting.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for answer in waiting:
            answer.set_exception(_OVER)

    def _begin(self, caller: Caller) -> None:
        """Whoever calls holds the lock."""
        waiting = self._waiting.get(caller)
        while waiting and self._num_running[caller] < self._num_each:
            answer, act = waiting.popleft()
            self._num_running[caller] += 1
            begun = self._pool.submit(self._do, caller, answer, act)
            begun.add_done_callback(lambda done, answer=answer: _refuse_cancelled(done, answer))  # type: ignore[misc]
        if not waiting:
            self._waiting.pop(caller, None)

    def _do(self, caller: Caller, answer: Future[Any], act: Callable[[], Any]) -> None:
        try:
            found = act()
        except Exception as error:
            answer.set_exception(error)
        else:
            answer.set_result(found)
        finally:
            with self._lock:
                self._num_running[caller] -= 1
                if not self._num_running[caller]:
                    del self._num_running[caller]
                if not self._is_over:
                    self._begin(caller)


def _refuse_cancelled(done: Future[None], answer: Future[Any]) -> None:
    if done.cancelled():
        answer.set_exception(_OVER)


_OVER = Refusal(Kind.GONE, "the trainer has ended.")
