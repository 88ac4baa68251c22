"""What came of requests, by their numbers: who asks again hears the same. Pure; whoever holds it locks."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from graft.training.service.refusal import Kind, Refusal

KEPT = 64
"""Answers that are kept after they were fetched: whoever did not hear one asks again."""


@dataclass(kw_only=True)
class _Answer:
    digest: bytes
    future: Future[Any] = field(default_factory=Future)
    is_fetched: bool = False


class Answers:
    """Of one training, or of one who samples."""

    def __init__(self) -> None:
        self._found: dict[int, _Answer] = {}
        self._fetched: list[int] = []

    def __len__(self) -> int:
        return len(self._found)

    def again(self, number: int, digest: bytes) -> Future[Any] | None:
        """Of a request that was asked before. ``digest`` is that of what it asks for.

        Raises ``Refusal`` where the number meant something else.
        """
        if (known := self._found.get(number)) is None:
            return None
        if known.digest != digest:
            raise Refusal(Kind.INVALID, f"request {number} was another one: count on, and repeat a request as it was.")
        return known.future

    def add(self, number: int, digest: bytes) -> Future[Any]:
        answer = self._found[number] = _Answer(digest=digest)
        return answer.future

    def of(self, number: int) -> Future[Any] | None:
        found = self._found.get(number)
        return None if found is None else found.future

    def hand_over(self, number: int) -> None:
        """The answer was sent: it may be forgotten behind ``KEPT`` others."""
        answer = self._found.get(number)
        if answer is None or answer.is_fetched or not answer.future.done():
            return
        answer.is_fetched = True
        self._fetched.append(number)
        while len(self._fetched) > KEPT:
            del self._found[self._fetched.pop(0)]
