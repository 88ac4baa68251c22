"""Cards are read alike from NVML and from `nvidia-smi`, and what neither tells is not made up."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from graft.cli.diagnosis import nvidia
from graft.cli.diagnosis.nvidia import Card, Cards, Process

MIB = 2**20
# As the drivers of an H100 print it.
TABLE = "GPU-1, NVIDIA H100 80GB HBM3, 81559, 81003, 9.0, Disabled, Enabled, 580.65.06\n"
USING = "GPU-1, 4242, /usr/bin/python3, 512\nGPU-2, 1, other, 3\n"
HEAD = "| NVIDIA-SMI 580.65.06    Driver Version: 580.65.06    CUDA Version: 13.0     |\n"
FOUND = Cards(
    driver="580.65.06",
    cuda=(13, 0),
    cards=(
        Card(
            name="NVIDIA H100 80GB HBM3",
            total_bytes=81559 * MIB,
            free_bytes=81003 * MIB,
            capability=(9, 0),
            is_split=False,
            is_kept_awake=True,
            processes=(Process(pid=4242, name="python3", used_bytes=512 * MIB),),
        ),
    ),
)


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Without NVML, program, device files or cards on the bus."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(nvidia, "_DEVICES", tmp_path / "dev")
    monkeypatch.setattr(nvidia, "_BUS", tmp_path / "bus")
    return tmp_path


def program(folder: Path, *, table: str = TABLE, code: int = 0) -> None:
    """An `nvidia-smi` that prints what the real one does."""
    script = folder / "nvidia-smi"
    script.write_text(
        f"#!/bin/sh\ncase \"$1\" in *query-gpu*) printf '%s' '{table}';; *compute-apps*) printf '%s' '{USING}';; "
        f"*) printf '%s' '{HEAD}';; esac\nexit {code}\n"
    )
    script.chmod(0o755)


def nvml(*, failing: str | None = None, at_start: str | None = None) -> ModuleType:
    """A `pynvml` with the functions that are asked, by the names of the real one."""
    library: Any = ModuleType("pynvml")

    class NVMLError(Exception):
        pass

    def asked(name: str, answer: Any) -> Any:
        def answers(*arguments: Any) -> Any:
            if name == failing:
                raise NVMLError("Not Supported")
            return answer

        return answers

    def start() -> None:
        if at_start:
            raise NVMLError(at_start)

    library.NVMLError, library.nvmlInit, library.nvmlShutdown = NVMLError, start, lambda: None
    for name, answer in {
        "nvmlSystemGetDriverVersion": "580.65.06",
        "nvmlSystemGetCudaDriverVersion": 13000,
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": object(),
        "nvmlDeviceGetName": "NVIDIA H100 80GB HBM3",
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=81559 * MIB, free=81003 * MIB),
        "nvmlDeviceGetCudaComputeCapability": (9, 0),
        "nvmlDeviceGetMigMode": [0, 0],
        "nvmlDeviceGetPersistenceMode": 1,
        "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=4242, usedGpuMemory=512 * MIB)],
    }.items():
        setattr(library, name, asked(name, answer))
    return library


def test_a_machine_without_any() -> None:
    assert nvidia.cards() == Cards()


def test_the_program_is_asked_where_there_is_no_library(bare_machine: Path) -> None:
    program(bare_machine)
    assert nvidia.cards() == FOUND


def test_both_ways_tell_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    monkeypatch.setattr(nvidia, "_process_name", lambda pid: "python3")
    assert nvidia.cards() == FOUND


def test_what_a_card_does_not_tell_is_unknown(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(bare_machine, table="GPU-3, NVIDIA GeForce, 8192, 8000, [N/A], [N/A], [N/A], 550.54\n")
    (card,) = nvidia.cards().cards
    assert (card.capability, card.is_split, card.is_kept_awake, card.processes) == (None, None, None, ())
    monkeypatch.setitem(sys.modules, "pynvml", nvml(failing="nvmlDeviceGetMigMode"))
    (card,) = nvidia.cards().cards
    assert card.is_split is None and card.capability == (9, 0)


def test_a_driver_that_fails_is_said_in_its_words(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(bare_machine, table="Failed to initialize NVML: Driver/library version mismatch\n", code=18)
    assert nvidia.cards().failure == "Failed to initialize NVML: Driver/library version mismatch"
    monkeypatch.setitem(sys.modules, "pynvml", nvml(at_start="Driver Not Loaded"))
    assert nvidia.cards().failure == "Driver Not Loaded"
    monkeypatch.setitem(sys.modules, "pynvml", nvml(at_start="NVML Shared Library Not Found"))
    program(bare_machine)
    assert nvidia.cards() == FOUND


def test_cards_on_the_bus_are_counted_without_a_driver(bare_machine: Path) -> None:
    for number, (vendor, kind) in enumerate((("0x10de", "0x030200"), ("0x10de", "0x040300"), ("0x8086", "0x030000"))):
        device = bare_machine / "bus" / str(number)
        device.mkdir(parents=True)
        (device / "vendor").write_text(vendor + "\n")
        (device / "class").write_text(kind + "\n")
    (bare_machine / "dev").mkdir()
    (bare_machine / "dev/nvidia0").touch()
    assert nvidia.cards() == Cards(num_on_bus=1, has_devices=True)
