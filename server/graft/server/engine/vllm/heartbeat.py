"""What vLLM reports of each step of the engine that brought anything, whoever asked for it."""

from __future__ import annotations

import asyncio
from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase
from vllm.v1.metrics.stats import SchedulerStats


class Heartbeat(StatLoggerBase):
    """A vLLM statistics logger that only listens. Lives in the event loop that reads the engine's outputs."""

    def __init__(self) -> None:
        self._beat = asyncio.Event()
        self.num_computed_prompt_tokens = 0
        """Tokens of prompts that were not in the cache, of all requests that may read it."""

    async def next(self) -> None:
        """Wait for a step that ends after this call."""
        self._beat.clear()
        await self._beat.wait()

    def record(self, scheduler_stats: SchedulerStats | None, *args: Any, **kwargs: Any) -> None:
        self._beat.set()
        if scheduler_stats is not None:
            found = scheduler_stats.prefix_cache_stats
            self.num_computed_prompt_tokens += found.queries - found.hits

    def log_engine_initialized(self) -> None:
        pass
