"""The engines that serve a base, one after the other."""

from __future__ import annotations

from dataclasses import replace

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.server.engine.factory import EngineFactory
from graft.server.engine.supervisor import MortalEngine
from graft.server.settings.settings import Settings


class Succession:
    """All have the context of the first. Where none is set an engine measures how much its memory holds, and a later
    one may find less; but requests are checked by the first one's, and callers have been told it.
    """

    def __init__(self, engines: EngineFactory, settings: Settings, base: Base, form: ServingForm) -> None:
        self._engines = engines
        self._settings = settings
        self._base = base
        self._form = form

    async def next(self) -> MortalEngine:
        """Start an engine. Raises `EngineError`, also where there is no memory for the first one's context."""
        engine = await self._engines.start(self._settings, self._base, self._form)
        try:
            context = (await engine.info()).max_model_tokens
        except BaseException:
            await engine.close()
            raise
        self._settings = replace(self._settings, max_model_tokens=context)
        return engine
