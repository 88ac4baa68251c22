"""Scripts that mean harm are contained, and nothing of them is left."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from graft.server.grading.sandbox.sandbox import Sandbox, Script
from graft.server.grading.sandbox.watch import ScriptFault
from tests.server.grading.conftest import MEMORY_BYTES, SECONDS, left_over
from tests.server.grading.sandbox.attacks import ATTACKS, Attack

ROOT = Path(__file__).parents[4]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Somebody on this machine who would answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def checked(found: float | ScriptFault, attack: Attack) -> None:
    if isinstance(found, ScriptFault):
        assert (found.kind, len(found.details) < 10_000) == (attack.end, True), found.details
        assert attack.says in found.details
    else:
        assert found == attack.end
    assert left_over() == []


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_contained(sandbox: Sandbox, hasty: Sandbox, listener: socket.socket, attack: Attack) -> None:
    script = Script(source=attack.source, sample={}, item={"port": listener.getsockname()[1]})
    checked((hasty if attack.end == "time" else sandbox).run(script), attack)
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.slow
@pytest.mark.parametrize("attack", [one for one in ATTACKS if one.end == "time"], ids=lambda attack: attack.name)
def test_in_time(hasty: Sandbox, attack: Attack) -> None:
    """On a quiet machine: within the limit and a second."""
    began = time.monotonic()
    checked(hasty.run(Script(source=attack.source, sample={}, item={})), attack)
    assert time.monotonic() - began < SECONDS + 1


@pytest.mark.parametrize("when", ["ready", "made"])
def test_ends_with_the_server(python: Path, when: str) -> None:
    """A server that is killed leaves nothing running: while a script runs, and while its sandbox is being made."""
    arguments = (sys.executable, "-m", "tests.server.grading.sandbox.asking", str(python), str(MEMORY_BYTES), when)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=ROOT) as server:
        assert server.stdout is not None
        try:
            assert server.stdout.readline() == b"now\n"
        finally:
            server.kill()
    psutil.wait_procs(left_over(), timeout=60)
    assert left_over() == []


def test_only_a_group_whose_id_is_still_its_own_is_killed(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The id of a process that was waited for may be another's by then."""
    kill, there = os.killpg, []

    def killpg(group: int, number: int) -> None:
        there.append(Path(f"/proc/{group}").exists())
        kill(group, number)

    monkeypatch.setattr("graft.server.grading.sandbox.sandbox.os.killpg", killpg)
    found = sandbox.run(Script(source="import os\ndef grade(sample, item):\n    os._exit(3)\n"))
    assert isinstance(found, ScriptFault) and "ended with code 3" in found.details
    assert there and all(there)
