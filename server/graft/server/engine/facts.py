"""What is known of the engine, also while it is being replaced."""

from __future__ import annotations

import contextlib

from graft.server.engine.engine import Engine, EngineDied, EngineInfo


class EngineFacts:
    """The engine's info as last seen."""

    def __init__(self, engine: Engine, first: EngineInfo) -> None:
        self._engine = engine
        self.last = first

    async def __call__(self) -> EngineInfo:
        # While there is no engine, the dead one's facts are the best there are; `ready` tells that it is gone.
        with contextlib.suppress(EngineDied):
            self.last = await self._engine.info()
        return self.last
