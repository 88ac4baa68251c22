"""The engines that serve a base, one after the other."""

from __future__ import annotations

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.server.engine.engine import EngineInfo
from graft.server.engine.factory import EngineFactory
from graft.server.engine.supervisor import MortalEngine
from graft.server.settings.settings import Settings


class Succession:
    """All have the context of the first: requests are checked by it, and callers have been told it. They have its KV
    cache, too. Where no context is set it is the longest that the measured memory holds, to the block, and a later
    measurement that finds a block less would refuse it.
    """

    def __init__(self, engines: EngineFactory, settings: Settings, base: Base, form: ServingForm) -> None:
        self._engines = engines
        self._settings = settings
        self._base = base
        self._form = form
        self._first: EngineInfo | None = None

    async def next(self) -> MortalEngine:
        """Start an engine. Raises `EngineError`, also where there is no memory for the first one's KV cache."""
        engine = await self._engines.start(self._settings, self._base, self._form, self._first)
        try:
            info = await engine.info()
        except BaseException:
            await engine.close()
            raise
        self._first = self._first or info
        return engine
