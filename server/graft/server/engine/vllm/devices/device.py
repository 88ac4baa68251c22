"""What an engine is asked on each kind of device: arguments of vLLM, and the environment of its processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from graft.adapters.errors import Reason
from graft.server.engine.vllm.devices.cpu import Cpu
from graft.server.engine.vllm.devices.cuda import Cuda, CudaPlatform
from graft.server.engine.vllm.environment import EngineSettings


class Device(Protocol):
    """A kind of device: the same settings give the same."""

    def arguments(self, settings: EngineSettings) -> dict[str, Any]:
        """Keyword arguments of `AsyncEngineArgs`."""

    def variables(self, settings: EngineSettings) -> dict[str, str]:
        """What the engine's processes get, and this process does not. Raises `KernelUnavailable`."""

    def num_workers(self, settings: EngineSettings) -> int:
        """Processes below the engine's own, which meet it in shared memory."""

    def plan(self, settings: EngineSettings) -> str | None:
        """What the engine is going to take of the device, for the log; None where nothing is planned."""

    def reasons(self, settings: EngineSettings, *, quantized_before: bool) -> Iterator[Reason]:
        """What of the settings cannot be had. `quantized_before`: the base's folder holds bitsandbytes' weights."""


def device_of(platform: CudaPlatform) -> Device:
    """What vLLM runs on here, by its `current_platform`."""
    return Cpu() if platform.is_cpu() else Cuda(platform)
