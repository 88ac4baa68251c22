"""vLLM's CUDA build: what is asked of it, and what its processes get."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Protocol

from graft.adapters.errors import Reason
from graft.adapters.form import ServingForm
from graft.server.engine.vllm.devices.gpu_memory import SLACK_BYTES, gpu_memory
from graft.server.engine.vllm.environment import EngineSettings
from graft.server.engine.vllm.inside.managers import Platform

_log = logging.getLogger(__name__)

BAD_WORDS_TOKENS = 2**14
"""Of all bad words of one request, in memory on a GPU for each request that runs."""


class CudaPlatform(Platform, Protocol):
    """What is read of vLLM's `current_platform` on a machine with GPUs."""

    def device_count(self) -> int: ...

    def get_device_total_memory(self) -> int:
        """Bytes."""


class Cuda:
    """A `Device`."""

    def __init__(self, platform: CudaPlatform) -> None:
        self._platform = platform

    def arguments(self, settings: EngineSettings) -> dict[str, Any]:
        return {
            # bitsandbytes' 8-bit products branch on values, which no CUDA graph can hold.
            "enforce_eager": settings.form is ServingForm.LLM_INT8,
            "gpu_memory_utilization": self._memory_fraction(settings),
            "kv_cache_memory_bytes": settings.kv_cache_bytes,
            "tensor_parallel_size": settings.tensor_parallel_size,
            "pipeline_parallel_size": settings.pipeline_parallel_size,
        }

    def _memory_fraction(self, settings: EngineSettings) -> float:
        """vLLM starts only where so much is free. Where the KV cache's bytes are said, that is what is needed; of a
        card that the engine fills, no more than what is reckoned, for it is never all free."""
        if settings.kv_cache_bytes is None:
            return settings.gpu_memory_fraction
        memory, total = gpu_memory(settings), self._platform.get_device_total_memory()
        return min(1.0, memory.num_bytes / total, max(memory.reckoned_bytes, total - SLACK_BYTES) / total)

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

    def plan(self, settings: EngineSettings) -> str | None:
        share = self._memory_fraction(settings) * self._platform.get_device_total_memory()
        return f"{share / 2**30:.2f} GiB of each GPU: {gpu_memory(settings)}"

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
        yield from self._memory_reasons(settings)

    def _memory_reasons(self, settings: EngineSettings) -> Iterator[Reason]:
        """Only of what is reckoned; of what is estimated, too, a word in the log."""
        memory, total = gpu_memory(settings), self._platform.get_device_total_memory()
        problem = f"each has {total / 2**30:.2f} GiB, and the engine needs {memory.num_bytes / 2**30:.2f} ({memory})"
        remedy = (
            "serve fewer --num-slots, a lower --max-rank, a smaller --kv-cache-mib, another --quantization, or "
            "split the base over more GPUs by --tensor-parallel-size"
        )
        if memory.reckoned_bytes > total:
            yield Reason(field="GPU memory", problem=problem, remedy=remedy)
        elif memory.num_bytes > total:
            _log.warning("the GPU's memory may not suffice: %s; should the engine not start, %s", problem, remedy)
