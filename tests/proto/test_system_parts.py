"""What a bare system lacks is named with the package that brings it, before anything is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from graft.cli import system_parts
from graft.cli.diagnosis import diagnosis
from graft.cli.system_parts import PARTS, SystemPart

MISSING = SystemPart(name="libnowhere.so.9", package="libnowhere9", purpose="nothing works without it")


def test_it_runs_without_anything_installed(repository: Path) -> None:
    file = repository / "proto" / "graft" / "cli" / "system_parts.py"
    done = subprocess.run([sys.executable, "-I", "-S", file], capture_output=True, text=True, env={"PATH": "/nowhere"})
    assert done.returncode == 1
    assert done.stderr == "lscpu is missing (vLLM asks it for the cores): apt-get install util-linux\n"


def test_this_system_has_what_is_needed() -> None:
    assert [part.name for part in PARTS if not part.is_there and not part.optional] == []
    assert system_parts.main() == 0


@pytest.mark.parametrize(("optional", "state"), [(False, "problem"), (True, "notice")])
def test_the_doctor_names_the_package(monkeypatch: pytest.MonkeyPatch, optional: bool, state: str) -> None:
    part = SystemPart(name=MISSING.name, package=MISSING.package, purpose=MISSING.purpose, optional=optional)
    monkeypatch.setattr(diagnosis, "PARTS", (part,))
    (finding,) = [each for each in diagnosis.diagnose(data_dir="/tmp", ports=[]) if each.subject == "system"]
    assert (finding.state, finding.remedy) == (state, "apt-get install libnowhere9")
    assert "libnowhere.so.9 is missing" in finding.found


@pytest.mark.parametrize(("free_mib", "state"), [(64, "ok"), (8, "problem")])
def test_the_doctor_looks_at_shared_memory(monkeypatch: pytest.MonkeyPatch, free_mib: int, state: str) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**40, 0, free_mib * 2**20))
    (finding,) = [each for each in diagnosis.diagnose(data_dir="/tmp", ports=[]) if each.subject == "shared memory"]
    assert finding.state == state
    assert f"{free_mib} MiB free" in finding.found
    assert ("--shm-size" in finding.remedy) == (state == "problem")


@pytest.mark.parametrize(("num_gpus", "state", "size"), [(1, "ok", ""), (8, "problem", "--shm-size=8g")])
def test_several_gpus_need_room_to_meet(monkeypatch: pytest.MonkeyPatch, num_gpus: int, state: str, size: str) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**40, 0, 64 * 2**20))
    found = diagnosis._shared_memory(num_gpus=num_gpus)
    assert found.state == state and size in found.remedy
