"""A sandbox as the server makes it, where this machine can."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from graft.server.grading.sandbox.limits import Limits
from graft.server.grading.sandbox.probe import Unavailable, probed
from graft.server.grading.sandbox.sandbox import Sandbox

SECONDS = 0.5
PATIENT_SECONDS = 120.0
# Stands in the arguments of every process of these sandboxes, and of no others.
MEMORY_BYTES = (256 << 20) + os.getpid() * 4096
LIMITS = Limits(seconds=SECONDS, memory_bytes=MEMORY_BYTES, num_processes=8, output_bytes=1 << 16)


@pytest.fixture(scope="session")
def python() -> Path:
    """A Python that every user can read: the one of this environment, or the system's."""
    found: Sandbox | Unavailable = Unavailable(reason="there is no Python")
    for path in (Path(sys.executable).resolve(), Path("/usr/bin/python3")):
        if path.exists():
            found = probed(python=path, limits=LIMITS)
            if isinstance(found, Sandbox):
                return path
            assert "does not hold" not in found.reason
    assert isinstance(found, Unavailable)
    pytest.skip(found.reason)


@pytest.fixture(scope="session")
def hasty(python: Path) -> Sandbox:
    """For scripts that never end."""
    made = probed(python=python, limits=LIMITS)
    assert isinstance(made, Sandbox)
    return made


@pytest.fixture(scope="session")
def sandbox(python: Path) -> Sandbox:
    """For all others, however busy the machine is."""
    made = probed(python=python, limits=replace(LIMITS, seconds=PATIENT_SECONDS))
    assert isinstance(made, Sandbox)
    return made


def left_over() -> list[psutil.Process]:
    """Processes of these sandboxes that are there."""
    marker = str(MEMORY_BYTES)
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(f'"RLIMIT_AS": {marker}' in one for one in process.info["cmdline"] or ()):
            found.append(process)
    return found
