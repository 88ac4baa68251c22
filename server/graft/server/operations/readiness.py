"""Whether new work may come: the engine answers and nobody drains. Probes and health watchers listen here."""

from __future__ import annotations

from collections.abc import Callable

from graft.server.engine.state import EngineState


class Readiness:
    """Two facts and their listeners, which are called in the event loop with the new `ready`."""

    def __init__(self) -> None:
        self._engine = EngineState()
        self._draining = False
        self._listeners: list[Callable[[bool], None]] = []

    @property
    def ready(self) -> bool:
        return self._engine.ready and not self._draining

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def why(self) -> str:
        """Why no new work is taken; empty while it is."""
        return "draining" if self._draining else self._engine.why

    def engine_changed(self, now: EngineState) -> None:
        """The engine began or ceased to answer, or there is more to say about why it does not."""
        changed, self._engine = now.ready != self._engine.ready, now
        if changed:
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
