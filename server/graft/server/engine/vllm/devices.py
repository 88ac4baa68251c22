"""What an engine is asked on each kind of device: arguments of vLLM, and the environment of its processes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any, Protocol

from graft.adapters.errors import Reason
from graft.adapters.form import ServingForm
from graft.server.engine.lora_cpu import choice
from graft.server.engine.native import numa
from graft.server.engine.vllm.environment import EngineSettings
from graft.server.engine.vllm.inside.managers import Platform

CPU_BLOCK_TOKENS = 32
"""Tokens per block of the KV cache on a CPU: the least that vLLM's attention takes there. What is shared ends at a
block's end, so that requests that begin alike compute 16 of those tokens anew on average, not 64 as with vLLM's 128.
"""
CPU_CACHE_BYTES = 2**30
"""Of the KV cache on a CPU, where nothing is said: memory there is not the engine's alone."""

BAD_WORDS_TOKENS = 2**14
"""Of all bad words of one request, in memory on a GPU for each request that runs."""


class Device(Protocol):
    """A kind of device: the same settings give the same."""

    def arguments(self, settings: EngineSettings) -> dict[str, Any]:
        """Keyword arguments of `AsyncEngineArgs`."""

    def variables(self, settings: EngineSettings) -> dict[str, str]:
        """What the engine's processes get, and this process does not. Raises `KernelUnavailable`."""

    def num_workers(self, settings: EngineSettings) -> int:
        """Processes below the engine's own, which meet it in shared memory."""

    def reasons(self, settings: EngineSettings, *, quantized_before: bool) -> Iterator[Reason]:
        """What of the settings cannot be had. `quantized_before`: the base's folder holds bitsandbytes' weights."""


def device_of(platform: Platform) -> Device:
    """What vLLM runs on here."""
    return Cpu() if platform.is_cpu() else Cuda()


class Cpu:
    """vLLM's CPU build."""

    def arguments(self, settings: EngineSettings) -> dict[str, Any]:
        # Compiling on CPU took 107 s at load and gained nothing.
        return {"enforce_eager": True, "block_size": CPU_BLOCK_TOKENS}

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

    def reasons(self, settings: EngineSettings, *, quantized_before: bool) -> Iterator[Reason]:
        for field in ("tensor_parallel_size", "pipeline_parallel_size"):
            if (size := getattr(settings, field)) != 1:
                yield Reason(field=field, problem=f"is {size}, and the engine runs on a CPU", remedy="leave it out")


class Cuda:
    """vLLM's CUDA build."""

    def arguments(self, settings: EngineSettings) -> dict[str, Any]:
        return {
            # bitsandbytes' 8-bit products branch on values, which no CUDA graph can hold.
            "enforce_eager": settings.form is ServingForm.LLM_INT8,
            "gpu_memory_utilization": settings.gpu_memory_fraction,
            "kv_cache_memory_bytes": settings.kv_cache_bytes,
            "tensor_parallel_size": settings.tensor_parallel_size,
            "pipeline_parallel_size": settings.pipeline_parallel_size,
        }

    def variables(self, settings: EngineSettings) -> dict[str, str]:
        return {
            # A forked engine has our listening sockets, our handlers of signals and vLLM's word that plugins are
            # loaded: it would outlive this process with the GPU in its hands.
            "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
            # It compiles on first use, with nvcc, which no server need have.
            "VLLM_USE_FLASHINFER_SAMPLER": "0",
            # A request with more tokens of bad words ends the engine: as many as the API lets through.
            "VLLM_MAX_BAD_WORDS_TOTAL_TOKENS": str(BAD_WORDS_TOKENS),
        }

    def num_workers(self, settings: EngineSettings) -> int:
        """A single one runs in the engine's own process."""
        size = settings.tensor_parallel_size * settings.pipeline_parallel_size
        return size if size > 1 else 0

    def reasons(self, settings: EngineSettings, *, quantized_before: bool) -> Iterator[Reason]:
        if settings.form is ServingForm.FP32 and settings.num_slots:
            problem = "is fp32, and the kernels of adapters on GPUs compute in 16 bits"
            remedy = "serve bf16, or the base alone with --num-slots 0"
            yield Reason(field="quantization", problem=problem, remedy=remedy)
        if quantized_before and settings.tensor_parallel_size > 1:
            size = settings.tensor_parallel_size
            problem = f"is {size}, and bitsandbytes' weights that were quantized before cannot be split"
            remedy = "serve the plain weights, which are quantized as they are loaded, or split by layers with "
            yield Reason(
                field="tensor_parallel_size", problem=problem, remedy=f"{remedy}--pipeline-parallel-size {size}"
            )
