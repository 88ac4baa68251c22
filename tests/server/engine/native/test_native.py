"""Instruction sets, the built libraries, and what stands in for what a bare system lacks."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from graft.server.engine.native import amx, instruction_sets, libraries
from graft.server.engine.native.instruction_sets import processor_flags, supported

EPYC_ZEN4 = "avx avx2 bmi1 bmi2 f16c fma movbe avx512f avx512bw avx512cd avx512dq avx512vl avx512_bf16"
SKYLAKE_X = "avx avx2 bmi1 bmi2 f16c fma movbe avx512f avx512bw avx512cd avx512dq avx512vl"
HASWELL = "avx avx2 bmi1 bmi2 f16c fma movbe"


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (EPYC_ZEN4, ["avx512-bf16", "avx512", "avx2"]),
        (SKYLAKE_X, ["avx512", "avx2"]),
        (HASWELL, ["avx2"]),
        ("avx sse4_2", []),
    ],
)
def test_a_processor_gets_what_it_has(tmp_path: Path, flags: str, names: list[str]) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbogomips\t: 1\n")
    assert [each.name for each in supported(processor_flags(cpuinfo))] == names


def test_without_proc_nothing_is_promised(tmp_path: Path) -> None:
    assert processor_flags(tmp_path / "none") == frozenset()


def test_torch_sees_what_linux_says() -> None:
    present = {each.name for each in supported()}
    assert ("avx512" in present) == bool(torch.cpu._is_avx512_supported())
    assert ("avx512-bf16" in present) == bool(torch.cpu._is_avx512_bf16_supported())


def test_the_libraries_are_those_of_the_sources() -> None:
    assert list(libraries.stale()) == []
    assert sum(each.path.stat().st_size for each in libraries.LIBRARIES) <= 2_000_000


def test_what_changed_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "prebuilt"
    shutil.copytree(libraries.PREBUILT, folder)
    monkeypatch.setattr(libraries, "PREBUILT", folder)
    monkeypatch.setattr(libraries, "_RECORD", folder / "sources.json")
    first, second, third, *_ = libraries.LIBRARIES
    first.path.unlink()
    second.path.write_bytes(second.path.read_bytes() + b"\0")
    record = json.loads((folder / "sources.json").read_text())
    record[third.name]["source"] = "0" * 64
    (folder / "sources.json").write_text(json.dumps(record))
    (folder / "extra.so").touch()
    found = list(libraries.stale())
    assert [line.split()[0] for line in found] == [first.name, second.name, third.name, "extra.so"]


def test_the_stand_in_for_libnuma_says_there_is_no_numa() -> None:
    numa = ctypes.CDLL(str(libraries.PREBUILT / "libnuma.so.1"))
    assert numa.numa_available() == -1


def test_vllms_library_loads_with_the_stand_in() -> None:
    """All its symbols of libnuma, with their versions, are found in ours, which comes before the system's own."""
    code = (
        "import ctypes, sys, torch; ours = ctypes.CDLL(sys.argv[1]); import vllm._C; "
        "maps = open('/proc/self/maps').read(); print([p for p in set(maps.split()) if 'libnuma' in p])"
    )
    library = libraries.PREBUILT / "libnuma.so.1"
    done = subprocess.run([sys.executable, "-c", code, str(library)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([str(library)])


def test_a_stand_in_that_is_loaded_is_not_taken_for_the_systems_own() -> None:
    """Once in this process it is found by its name, and processes that are started would get none."""
    code = (
        "import ctypes; from graft.server.engine.native import numa; ours = numa.PREBUILT / 'libnuma.so.1'; "
        "ctypes.CDLL(str(ours)); assert numa.stand_in() == numa.PREBUILT == numa.stand_in()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_tiles_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amx, "processor_flags", lambda: frozenset({"avx2"}))
    assert amx.use_tiles_with_leave() == "absent"


@pytest.mark.parametrize(("status", "leave"), [(0, "granted"), (-1, "refused")])
def test_linux_is_asked_for_tiles(monkeypatch: pytest.MonkeyPatch, status: int, leave: str) -> None:
    asked = []

    class Libc:
        def syscall(self, *numbers: int) -> int:
            asked.append(numbers)
            return status

    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(amx, "processor_flags", lambda: frozenset({"amx_tile"}))
    monkeypatch.setattr(amx.ctypes, "CDLL", lambda *_, **__: Libc())
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "")
    assert amx.use_tiles_with_leave() == leave
    assert asked == [(158, 0x1023, 18)]  # arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
    assert torch.cpu._is_amx_tile_supported() == (leave == "granted")


def test_a_limit_below_tiles_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amx, "processor_flags", lambda: frozenset({"amx_tile"}))
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "avx2")
    assert amx.use_tiles_with_leave() == "not wanted"
    assert not torch.cpu._is_amx_tile_supported()


def test_machines_of_another_kind_have_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instruction_sets.platform, "machine", lambda: "aarch64")
    assert supported() == () and amx.ask_for_tiles() == "absent"
