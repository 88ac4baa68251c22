"""vLLM's CPU build: what is asked of it, and what its processes get."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

from graft.adapters.errors import Reason
from graft.adapters.folder.head import MAX_LABELS
from graft.server.engine.lora_cpu import choice
from graft.server.engine.native import numa
from graft.server.engine.vllm.environment import EngineSettings

CPU_BLOCK_TOKENS = 32
"""Tokens per block of the KV cache on a CPU: the least that vLLM's attention takes there. What is shared ends at a
block's end, so that requests that begin alike compute 16 of those tokens anew on average, not 64 as with vLLM's 128.
"""
CPU_CACHE_BYTES = 2**30
"""Of the KV cache on a CPU, where nothing is said: memory there is not the engine's alone."""


class Cpu:
    """A `Device`."""

    def arguments(self, settings: EngineSettings) -> dict[str, Any]:
        return {
            # Compiling on CPU took 107 s at load and gained nothing.
            "enforce_eager": True,
            "block_size": CPU_BLOCK_TOKENS,
            # A head's outputs come as log-probabilities, with one that they are told by.
            "max_logprobs": MAX_LABELS + 1,
        }

    def variables(self, settings: EngineSettings) -> dict[str, str]:
        library = choice.choose(settings.lora_kernel)
        cache = settings.kv_cache_bytes or CPU_CACHE_BYTES
        variables = {
            "VLLM_CPU_KVCACHE_SPACE": str(max(1, math.ceil(cache / 2**30))),
            choice.VARIABLE: "" if library is None else str(library),
            # vLLM decorates small functions with torch.compile: the first request that needed one would compile C++
            # for half a minute in the engine's loop, and where there is no compiler the engine would die of it.
            "TORCHDYNAMO_DISABLE": "1",
        }
        if folder := numa.stand_in():
            inherited = os.environ.get("LD_LIBRARY_PATH")
            variables["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, (str(folder), inherited)))
        return variables

    def num_workers(self, settings: EngineSettings) -> int:
        return 1

    def plan(self, settings: EngineSettings) -> str | None:
        return None

    def reasons(self, settings: EngineSettings, *, quantized_before: bool) -> Iterator[Reason]:
        for field in ("tensor_parallel_size", "pipeline_parallel_size"):
            if (size := getattr(settings, field)) != 1:
                yield Reason(field=field, problem=f"is {size}, and the engine runs on a CPU", remedy="leave it out")
