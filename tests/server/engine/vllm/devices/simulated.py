"""vLLM's platform as its CUDA build has it, as far as it is read: cards that are not here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from vllm.platforms import current_platform
from vllm.platforms.interface import DeviceCapability, PlatformEnum

from graft.adapters.base.base import Base, shipped_bases
from graft.adapters.form import ServingForm
from graft.server.engine.vllm.devices.cuda import Cuda
from graft.server.engine.vllm.environment import EngineSettings

FOLDER: Path = next(iter(shipped_bases().values()))
BASE = Base.from_folder(FOLDER)
SETTINGS = EngineSettings(base_path=BASE.path, base_name=BASE.name, form=ServingForm.BF16)


class SimulatedCuda:
    """One H100, or other cards; with none of them a CPU."""

    def __init__(self, *, capability: tuple[int, int] = (9, 0), total_bytes: int = 80 * 2**30, count: int = 1) -> None:
        self._capability = DeviceCapability(*capability)
        self._total_bytes = total_bytes
        self._count = count

    def is_cpu(self) -> bool:
        return self._count == 0

    def device_count(self) -> int:
        return self._count

    def get_device_capability(self) -> DeviceCapability:
        return self._capability

    def get_device_total_memory(self) -> int:
        return self._total_bytes


CUDA = Cuda(SimulatedCuda())


class OtherPlatform:
    """The platform here, but for some answers."""

    def __init__(self, **answers: Any) -> None:
        self._answers = {name: (lambda *_, answer=answer: answer) for name, answer in answers.items()}

    def __getattr__(self, name: str) -> Any:
        return self._answers.get(name) or getattr(current_platform, name)


def pretend(monkeypatch: pytest.MonkeyPatch, card: SimulatedCuda) -> None:
    """Have all of vLLM's code take the platform here for a CUDA build's on a machine with this card."""
    kind = type(current_platform)
    monkeypatch.setattr(kind, "_enum", PlatformEnum.CUDA)
    for name in ("get_device_capability", "get_device_total_memory", "device_count"):
        answer = getattr(card, name)
        monkeypatch.setattr(kind, name, classmethod(lambda cls, *_, answer=answer, **__: answer()), raising=False)
