"""Real servers on the shipped base, started by `graft serve` as a user would."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

BASE = "rootstock-5m"
STARTED: list[subprocess.Popen[bytes]] = []
"""The servers of this session, in order."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Server:
    """A running `graft serve`."""

    process: subprocess.Popen[bytes]
    grpc: str
    http: str
    log: Path


def start_server(folder: Path, *flags: str, environment: Mapping[str, str] | None = None) -> Server:
    """Start a server on free ports, with its data below `folder`, and wait until it is ready.

    Random adapters are many here and bring no reference: peft is not asked about each unless the flags say so.
    """
    ready, log = folder / "ready.json", folder / "server.log"
    command = [sys.executable, "-m", "graft.cli.main", "serve", "--grpc-port", "0", "--http-port", "0"]
    command += ["--data-dir", str(folder / "data"), "--ready-file", str(ready), "--parity", "recorded", *flags]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**_environment(), **(environment or {})},
            preexec_fn=_end_with_the_tests,
        )
    STARTED.append(process)
    end = time.monotonic() + 300
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            pytest.fail(f"the server did not start:\n{log.read_text()[-4000:]}")
        time.sleep(0.1)
    ports = json.loads(ready.read_text())
    return Server(process, f"127.0.0.1:{ports['grpc_port']}", f"http://127.0.0.1:{ports['http_port']}", log)


def free_port() -> int:
    """A port of the loopback that nobody listened on a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _end_with_the_tests() -> None:
    """In the server, before it runs: SIGTERM where the tests' process is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def end_started(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End what a test began and, having failed, did not end."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(timeout=90)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment() -> dict[str, str]:
    """This process's, without what an engine that a test started in it has set for its own process."""
    return {name: value for name, value in os.environ.items() if not name.startswith("VLLM_")}


def stop_server(server: Server) -> int:
    """SIGTERM, then the exit code; nothing of it is left running."""
    children = children_of(server.process.pid)
    server.process.send_signal(signal.SIGTERM)
    code = server.process.wait(timeout=120)
    assert_gone(children)
    return code


def assert_gone(pids: list[int]) -> None:
    """Python's own resource tracker ends a moment after the process that it serves; nothing else may stay."""
    end = time.monotonic() + 15
    while left := [pid for pid in pids if Path(f"/proc/{pid}").exists() and not is_zombie(pid)]:
        assert time.monotonic() < end, f"processes left running: {[command_of(pid) for pid in left]}"
        time.sleep(0.1)


def shared_names(pids: list[int]) -> list[str]:
    """What these processes have put into /dev/shm, by name, and still has one."""
    prefixes, found = set(), set()
    for pid in pids:
        try:
            opened = [str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()]
            mapped = [line.split()[-1] for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
        except OSError:
            continue
        names = {Path(name).name for name in (*opened, *mapped) if name.startswith("/dev/shm/")}
        prefixes |= {name.removesuffix(".lock") for name in names if name.endswith(".lock")}
        found |= names
    found |= {path.name for prefix in prefixes for path in Path("/dev/shm").glob(f"*{prefix}*")}
    return sorted(name for name in found if Path("/dev/shm", name).exists())


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def children_of(pid: int) -> list[int]:
    """All processes below `pid`."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(status.parent.name)] = int(fields[1])
    found, new = [], [pid]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        found += new
    return found


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
