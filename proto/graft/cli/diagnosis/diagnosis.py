"""What `graft doctor` looks at; each check imports nothing heavier than package metadata."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path

from graft.cli.diagnosis import compilers, gpu, packages
from graft.cli.diagnosis.finding import Finding, State
from graft.cli.diagnosis.nvidia import cards
from graft.cli.system_parts import PARTS
from graft.machine.processors import num_processors

_PLUGIN_GROUP, _PLUGIN = "vllm.general_plugins", "graft_engine"
_MIN_FREE_BYTES = 5_000_000_000
_SHARED, _SHARED_BYTES = Path("/dev/shm"), 48 * 2**20  # an engine's processes meet there in 41 MiB
_SHARED_BYTES_PER_GPU = 2**30  # where cards cannot reach each other, NCCL's buffers lie there, too
_DIAGNOSES = "graft.diagnoses"


def diagnose(*, data_dir: str, ports: Sequence[int], with_data: bool = False) -> list[Finding]:
    """Every finding, in the order in which one would fix them; `with_data` reads all that lies in `data_dir`, too."""
    place = Path(data_dir).expanduser()
    here, there = cards(), packages.packages()
    has_gpu = gpu.usable(here, there)
    on_gpu = has_gpu and "vllm" in there.versions
    return [
        _python(),
        *_system(),
        *packages.findings(there, has_gpu=has_gpu),
        _plugin(),
        *gpu.findings(here, there, os.environ),
        *(compilers.findings(compilers.compilers(), [card.capability for card in here.cards]) if on_gpu else ()),
        _cpu(),
        _shared_memory(num_gpus=len(here.cards) if on_gpu else 0),
        _disk(place),
        *(_data(place) if with_data else ()),
        *map(_port, ports),
    ]


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if not sys.platform.startswith("linux"):
        remedy = "the engines run on Linux; the client runs anywhere"
        return Finding(subject="Python", state="notice", found=f"{found} on {sys.platform}", remedy=remedy)
    return Finding(subject="Python", state="ok", found=found)


def _system() -> Iterator[Finding]:
    if not sys.platform.startswith("linux"):
        return
    missing = [part for part in PARTS if not part.is_there]
    for part in missing:
        state: State = "notice" if part.optional else "problem"
        found, _, remedy = part.problem.partition(": ")
        yield Finding(subject="system", state=state, found=found, remedy=remedy)
    if not missing:
        yield Finding(subject="system", state="ok", found=", ".join(part.name for part in PARTS))


def _plugin() -> Finding:
    names = {entry.name for entry in entry_points(group=_PLUGIN_GROUP)}
    if _PLUGIN in names:
        return Finding(subject="LoRA plugin", state="ok", found=f"{_PLUGIN} is installed")
    return Finding(
        subject="LoRA plugin",
        state="problem",
        found=f"the entry point {_PLUGIN} is missing: on a CPU, base requests would be answered by adapters",
        remedy="reinstall graftserve",
    )


def _cpu() -> Finding:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return Finding(subject="CPU", state="notice", found="flags unknown: no /proc/cpuinfo here")
    flags = next((set(line.split()) for line in text.splitlines() if line.startswith("flags")), set())
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    present = [flag for flag in wanted if flag in flags]
    usable, there = num_processors(), os.cpu_count() or 1
    cores = f"{usable} cores" if usable == there else f"{usable} of {there} cores"
    found = f"{cores}, {' '.join(present) or 'no vector extensions known here'}"
    if "avx512f" not in flags:
        return Finding(subject="CPU", state="notice", found=found, remedy="serving on this CPU will be slow")
    return Finding(subject="CPU", state="ok", found=found)


def _shared_memory(*, num_gpus: int) -> Finding:
    """Containers have 64 MiB of it unless they are told otherwise."""
    subject = "shared memory"
    if not _SHARED.is_dir():
        remedy = "the engine's processes meet there: mount a tmpfs"
        return Finding(subject=subject, state="notice", found=f"no {_SHARED} here", remedy=remedy)
    needed = _SHARED_BYTES if num_gpus < 2 else num_gpus * _SHARED_BYTES_PER_GPU
    free_bytes = shutil.disk_usage(_SHARED).free
    found = f"{free_bytes >> 20} MiB free at {_SHARED}"
    if free_bytes >= needed:
        return Finding(subject=subject, state="ok", found=found)
    who = "an engine" if num_gpus < 2 else f"NCCL between {num_gpus} GPUs"
    size = "256m" if num_gpus < 2 else f"{needed >> 30}g"
    remedy = f"{who} needs {needed >> 20}: mount -o remount,size={size} {_SHARED}; in a container: --shm-size={size}"
    return Finding(subject=subject, state="problem", found=found, remedy=remedy)


def _disk(data_dir: Path) -> Finding:
    place = data_dir.absolute()
    while not place.exists():
        place = place.parent
    free_bytes = shutil.disk_usage(place).free
    found = f"{free_bytes / 1e9:.1f} GB free at {place}"
    if not os.access(place, os.W_OK):
        return Finding(subject="disk", state="problem", found=f"{place} is not writable", remedy="choose --data-dir")
    if free_bytes < _MIN_FREE_BYTES:
        return Finding(subject="disk", state="notice", found=found, remedy="adapters and checkpoints need some room")
    return Finding(subject="disk", state="ok", found=found)


def _data(place: Path) -> Iterator[Finding]:
    """What the rooms that keep data say of theirs; they cannot import this module and take part by shape."""
    for entry in entry_points(group=_DIAGNOSES):
        try:
            found = entry.load()
        except ModuleNotFoundError as error:
            remedy = 'pip install "graftserve[server]"'
            yield Finding(subject="data", state="notice", found=f"not looked at: needs {error.name}", remedy=remedy)
            continue
        for one in found(place):
            yield Finding(subject=one.subject, state=one.state, found=one.found, remedy=one.remedy)


def _port(port: int) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            found = f"cannot be bound ({error.strerror})"
            return Finding(subject=f"port {port}", state="notice", found=found, remedy="choose another port")
    return Finding(subject=f"port {port}", state="ok", found="free")
