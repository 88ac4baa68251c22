"""Processes for `test_shared_names`: an engine's, and a server's that can be killed."""

from __future__ import annotations

import multiprocessing
import sys
import time
from multiprocessing import shared_memory
from multiprocessing.connection import Connection

from graft.server.engine.process.orphans import end_with_parent
from graft.server.engine.process.shared_names import SharedNames, adopt_names


def engine(connection: Connection, watches: bool) -> None:
    """Adopt, make a segment and a semaphore, tell their names, and go when told."""
    if watches:
        end_with_parent()
    adopt_names()
    adopt_names()
    memory = shared_memory.SharedMemory(create=True, size=4096)
    lock = multiprocessing.get_context("spawn").Lock()
    connection.send((memory.name, lock._semlock.name))  # type: ignore[attr-defined]
    connection.recv()
    memory.close()
    memory.unlink()  # gone already, of which nobody hears


def start_engine(names: SharedNames, *, watches: bool = False) -> tuple[Connection, multiprocessing.Process]:
    """An engine's process, once it has made its names."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with names.given():
        process = context.Process(target=engine, args=(theirs, watches))
        process.start()
    return ours, process  # type: ignore[return-value]


def serve(watches: bool) -> None:
    """A server whose engine has just started: prints the names and waits to be killed."""
    connection, process = start_engine(SharedNames(), watches=watches)
    print(*connection.recv(), process.pid, flush=True)
    time.sleep(1000)


if __name__ == "__main__":
    serve(sys.argv[1] == "watches")
