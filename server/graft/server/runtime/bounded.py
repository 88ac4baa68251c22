"""A memory of so many values."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Bounded(Generic[T]):
    """Values by key, for several threads; the one that was used longest ago is forgotten."""

    def __init__(self, max_keys: int) -> None:
        self._max_keys = max_keys
        self._found: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._found)

    def peek(self, key: Hashable) -> T | None:
        """The value that is kept, if one is."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
            return self._found.get(key)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value that is kept, else the one that is made now. Two threads at once may both make it."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        made = make()
        with self._lock:
            self._found[key] = made
            self._found.move_to_end(key)
            while len(self._found) > self._max_keys:
                self._found.popitem(last=False)
        return made
