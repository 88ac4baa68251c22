"""Whether new work may come: the engine answers and nobody drains. Probes and health watchers listen here."""

from __future__ import annotations

from collections.abc import Callable


class Readiness:
    """Two facts and their listeners, which are called in the event loop with the new `ready`."""

    def __init__(self) -> None:
        self._engine_ready = False
        self._draining = False
        self._listeners: list[Callable[[bool], None]] = []

    @property
    def ready(self) -> bool:
        return self._engine_ready and not self._draining

    @property
    def draining(self) -> bool:
        return self._draining

    def engine_changed(self, ready: bool) -> None:
        self._engine_ready = ready
        self._tell()

    def drain(self) -> None:
        """There is no way back: a drained server goes down."""
        self._draining = True
        self._tell()

    def subscribe(self, listener: Callable[[bool], None]) -> None:
        """Call `listener` now and after each change."""
        self._listeners.append(listener)
        listener(self.ready)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener(self.ready)
