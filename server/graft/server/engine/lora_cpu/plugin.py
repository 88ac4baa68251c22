"""The vLLM plugin (entry-point group `vllm.general_plugins`): loaded in every engine process."""

from __future__ import annotations

from typing import Any

NAME = "graft_lora_cpu"
"""The entry point's name: what `VLLM_PLUGINS` must list."""

KERNEL = "graft.server.engine.lora_cpu.vllm_punica.GroupedPunicaWrapper"
"""The class that must be in force on CPU; start-up asks the worker for it."""


def register() -> None:
    """Let vLLM's CPU platform name our class. May run several times in a process."""
    from vllm.platforms.cpu import CpuPlatform

    from graft.server.engine.orphans import end_with_parent

    end_with_parent()

    CpuPlatform.get_punica_wrapper = classmethod(lambda cls: KERNEL)


class WorkerReport:
    """Mixed into vLLM's worker (`worker_extension_cls`), which is how start-up learns what really runs there."""

    model_runner: Any

    def graft_lora_kernel(self) -> str:
        """The class that computes LoRA in this worker, as `module.Class`."""
        wrappers = self.model_runner.lora_manager._adapter_manager.punica_wrapper_mapping.values()
        return ",".join(sorted({f"{type(each).__module__}.{type(each).__qualname__}" for each in wrappers}))
