"""Which NVIDIA cards this machine has, asked of NVML (`pynvml`) or of `nvidia-smi`; nothing is changed on them."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

_FIELDS = "uuid,name,memory.total,memory.free,compute_cap,mig.mode.current,persistence_mode,driver_version"
_MIB = 2**20
_DEVICES, _BUS = Path("/dev"), Path("/sys/bus/pci/devices")


@dataclass(frozen=True, kw_only=True)
class Process:
    """One that computes on a card; `used_bytes` is None where the driver does not tell."""

    pid: int
    name: str
    used_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Card:
    """One card. What a driver does not tell is None."""

    name: str
    total_bytes: int
    free_bytes: int
    capability: tuple[int, int] | None
    is_split: bool | None = None
    """Whether MIG is on."""
    is_kept_awake: bool | None = None
    """Whether the driver stays loaded while nobody uses the card."""
    processes: tuple[Process, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Cards:
    """All cards, their driver, and the newest CUDA that it runs; `failure` is why they could not be asked."""

    driver: str | None = None
    cuda: tuple[int, int] | None = None
    cards: tuple[Card, ...] = ()
    failure: str | None = None
    num_on_bus: int = 0
    has_devices: bool = False
    """Whether the kernel shows device files."""


def cards() -> Cards:
    """What is here. Takes a second or two where the driver sleeps."""
    on_bus = _num_on_bus(_BUS)
    has_devices = any(_DEVICES.glob("nvidia[0-9]*"))
    found = _by_nvml() or _by_program()
    if found is None:
        return Cards(num_on_bus=on_bus, has_devices=has_devices)
    return Cards(**{**vars(found), "num_on_bus": on_bus, "has_devices": has_devices})


def _num_on_bus(bus: Path) -> int:
    """Cards that compute, by vendor and class (display, 3D) on the PCI bus: there with or without a driver."""
    found = 0
    for device in bus.glob("*"):
        with contextlib.suppress(OSError):
            vendor, kind = ((device / name).read_text(encoding="ascii").strip() for name in ("vendor", "class"))
            found += vendor == "0x10de" and kind.startswith(("0x0300", "0x0302"))
    return found


def _by_nvml() -> Cards | None:
    try:
        nvml: Any = import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return None if "Not Found" in str(error) else Cards(failure=str(error))
    try:
        version = nvml.nvmlSystemGetCudaDriverVersion()
        return Cards(
            driver=str(nvml.nvmlSystemGetDriverVersion()),
            cuda=(version // 1000, version % 1000 // 10),
            cards=tuple(_card(nvml, nvml.nvmlDeviceGetHandleByIndex(n)) for n in range(nvml.nvmlDeviceGetCount())),
        )
    except nvml.NVMLError as error:
        return Cards(failure=str(error))
    finally:
        nvml.nvmlShutdown()


def _card(nvml: Any, handle: Any) -> Card:
    def told(ask: Any) -> Any:
        """None where this card or this container cannot say."""
        with contextlib.suppress(nvml.NVMLError):
            return ask(handle)
        return None

    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    split, awake = told(nvml.nvmlDeviceGetMigMode), told(nvml.nvmlDeviceGetPersistenceMode)
    capability = told(nvml.nvmlDeviceGetCudaComputeCapability)
    return Card(
        name=str(nvml.nvmlDeviceGetName(handle)),
        total_bytes=memory.total,
        free_bytes=memory.free,
        capability=None if capability is None else (capability[0], capability[1]),
        is_split=None if split is None else bool(split[0]),
        is_kept_awake=None if awake is None else bool(awake),
        processes=tuple(
            Process(pid=one.pid, name=_process_name(one.pid), used_bytes=one.usedGpuMemory)
            for one in told(nvml.nvmlDeviceGetComputeRunningProcesses) or ()
        ),
    )


def _process_name(pid: int) -> str:
    """Of another container's process nothing can be read."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "not of this container"


def _by_program() -> Cards | None:
    if shutil.which("nvidia-smi") is None:
        return None
    table = _run(f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits")
    if isinstance(table, Cards):
        return table
    using = _run("--query-compute-apps=gpu_uuid,pid,process_name,used_memory", "--format=csv,noheader,nounits")
    told = _run()
    newest = re.search(r"CUDA Version\s*:\s*(\d+)\.(\d+)", "" if isinstance(told, Cards) else told)
    rows = _rows(table)
    return Cards(
        driver=rows[0][-1] if rows else None,
        cuda=(int(newest[1]), int(newest[2])) if newest else None,
        cards=tuple(_card_of_row(row, [] if isinstance(using, Cards) else _rows(using)) for row in rows),
    )


def _run(*arguments: str) -> str | Cards:
    try:
        done = subprocess.run(
            ["nvidia-smi", *arguments], capture_output=True, text=True, timeout=60, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Cards(failure=str(error))
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines() or [f"nvidia-smi ended with {done.returncode}"]
        return Cards(failure=said[0])
    return done.stdout


def _rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split(",")] for line in table.splitlines() if line.strip()]


def _card_of_row(row: Sequence[str], using: Iterable[Sequence[str]]) -> Card:
    uuid, name, total, free, capability, split, awake, _ = row
    version = re.fullmatch(r"(\d+)\.(\d+)", capability)
    return Card(
        name=name,
        total_bytes=_bytes(total) or 0,
        free_bytes=_bytes(free) or 0,
        capability=(int(version[1]), int(version[2])) if version else None,
        is_split={"Enabled": True, "Disabled": False}.get(split),
        is_kept_awake={"Enabled": True, "Disabled": False}.get(awake),
        processes=tuple(
            Process(pid=int(one[1]), name=Path(one[2]).name, used_bytes=_bytes(one[3]))
            for one in using
            if len(one) == 4 and one[0] == uuid and one[1].isdigit()
        ),
    )


def _bytes(mib: str) -> int | None:
    return int(mib) * _MIB if mib.isdigit() else None
