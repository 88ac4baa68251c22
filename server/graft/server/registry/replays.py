"""Answers to repeated requests (AIP-155) whose effect lives in this process only: pins, hints, collections."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from graft.adapters.errors import Conflict

_MAX_KEPT = 1024
_T = TypeVar("_T")


class Replays:
    """The latest calls by their `request_id`; what the catalog writes has its own record, which outlives a process."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], tuple[object, asyncio.Task[Any]]] = OrderedDict()

    async def once(
        self, request_id: str | None, call: object, work: Callable[[], Coroutine[Any, Any, _T]], *, tenant: str
    ) -> _T:
        """What `work` answers, or answered when the tenant asked by the same id; one that failed is tried again.

        Raises `Conflict` where the id was used for another `call`, and what `work` raises.
        """
        if request_id is None:
            return await work()
        key = (tenant, request_id)
        known = self._kept.get(key)
        if known is not None and known[0] != call:
            raise Conflict(f"request_id {request_id} was used for another call; use a new one")
        if known is None or (known[1].done() and (known[1].cancelled() or known[1].exception() is not None)):
            known = (call, asyncio.ensure_future(work()))
            known[1].add_done_callback(lambda task: task.cancelled() or task.exception())  # callers may all have gone
            self._kept[key] = known
            while len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)
        answer: _T = await asyncio.shield(known[1])
        return answer
