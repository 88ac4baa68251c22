"""Where no script can be run safely, none is, and it is told why."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from graft.server.grading.sandbox import probe, system_calls
from graft.server.grading.sandbox import sandbox as module
from graft.server.grading.sandbox.command import sandboxed
from graft.server.grading.sandbox.limits import Limits
from graft.server.grading.sandbox.probe import Unavailable, probed


def reason(python: Path) -> str:
    found = probed(python=python, limits=Limits(num_processes=4))
    assert isinstance(found, Unavailable)
    return found.reason


def test_without_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "install bubblewrap" in reason(Path("/usr/bin/python3"))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Every user comes to it; the folder for temporary files may be one's own."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_bubblewrap_that_does_not_start(monkeypatch: pytest.MonkeyPatch, open_folder: Path, python: Path) -> None:
    """As where user namespaces are forbidden."""
    false = open_folder / "bwrap"
    false.write_text("#!/bin/sh\necho bwrap: No permissions to create new namespace >&2\nexit 1\n")
    false.chmod(0o755)
    monkeypatch.setattr(probe, "bwrap_path", lambda: str(false))
    assert "No permissions to create new namespace" in reason(python)


def test_without_that_python(python: Path) -> None:
    assert "is no Python that runs" in reason(Path("/nowhere/python"))


def test_on_an_unknown_processor(monkeypatch: pytest.MonkeyPatch, python: Path) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert "this is riscv64" in reason(python)


@pytest.mark.parametrize(
    ("part", "instead", "says"),
    [
        (("--remount-ro", "/"), (), "can write in /"),
        (("--remount-ro", "/dev"), (), "can write in /dev"),
        (("--dev", "/dev"), ("--proc", "/proc", "--dev", "/dev"), "see processes"),
        (("--uid", "65534"), ("--uid", "1000"), "as user 1000"),
    ],
)
def test_a_sandbox_with_a_hole(
    monkeypatch: pytest.MonkeyPatch, python: Path, part: tuple[str, ...], instead: tuple[str, ...], says: str
) -> None:
    """The probe finds what is missing from the command."""
    whole = sandboxed

    def holed(*args: object, **kwargs: object) -> list[str]:
        command = whole(*args, **kwargs)  # type: ignore[arg-type]
        at = next(at for at in range(len(command)) if tuple(command[at : at + len(part)]) == part)
        return [*command[:at], *instead, *command[at + len(part) :]]

    monkeypatch.setattr(module, "sandboxed", holed)
    assert says in reason(python)


def test_a_sandbox_without_its_filter(monkeypatch: pytest.MonkeyPatch, python: Path) -> None:
    monkeypatch.setattr(module, "call_filter", lambda: system_calls._op(0x06, 0x7FFF_0000))  # all calls are allowed
    assert "not filtered" in reason(python)


def test_where_memory_is_not_seen(monkeypatch: pytest.MonkeyPatch, python: Path) -> None:
    """As where /proc hides other processes: nobody would end a script that takes too much."""
    monkeypatch.setattr("graft.server.grading.sandbox.processes._resident_bytes", lambda pid: 0)
    assert "cannot be read from /proc" in reason(python)


@pytest.mark.parametrize(
    "forbidden",
    [
        "clone",
        *(
            pytest.param(one, marks=pytest.mark.slow)
            for one in ("unshare", "mount", "umount2", "pivot_root", "sethostname")
        ),
    ],
)
def test_in_a_container_that_forbids_a_call(python: Path, forbidden: str) -> None:
    """What Docker's and containerd's profiles forbid to containers without CAP_SYS_ADMIN: each is needed, and whoever
    runs the server is told where it is written.
    """
    found = _around(python, forbidden)
    assert found is not None and "see deploy/README.md" in found


def test_in_a_container_that_allows_them(python: Path) -> None:
    """Without new privileges, and under a filter."""
    assert _around(python) is None


def _around(python: Path, *forbidden: str) -> str | None:
    command = (sys.executable, "-m", "tests.server.grading.sandbox.around", str(python), *forbidden)
    said = subprocess.run(command, capture_output=True, check=True, cwd=Path(__file__).parents[4], timeout=120)
    reason: str | None = json.loads(said.stdout)
    return reason
