"""Which class serves adapters in a worker, by what vLLM runs on."""

from __future__ import annotations

from typing import Protocol

CPU = "graft.server.engine.lora_cpu.vllm_manager.SlotWorkerManager"
CUDA = "graft.server.engine.lora_cuda.vllm_manager.StagedWorkerManager"


class Platform(Protocol):
    """What is read of vLLM's `current_platform`."""

    def is_cpu(self) -> bool: ...


def manager_of(platform: Platform) -> str:
    """As `module.Class`; start-up asks the worker for it."""
    return CPU if platform.is_cpu() else CUDA
