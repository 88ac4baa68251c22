"""Signs of life: vLLM reports each step of the engine that brought anything, whoever asked for it."""

from __future__ import annotations

import asyncio
from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase


class Heartbeat(StatLoggerBase):
    """A vLLM statistics logger that only listens. Lives in the event loop that reads the engine's outputs."""

    def __init__(self) -> None:
        self._beat = asyncio.Event()

    async def next(self) -> None:
        """Wait for a step that ends after this call."""
        self._beat.clear()
        await self._beat.wait()

    def record(self, *args: Any, **kwargs: Any) -> None:
        self._beat.set()

    def log_engine_initialized(self) -> None:
        pass
