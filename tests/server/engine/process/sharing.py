"""Processes for `test_shared_names`: an engine's, and a server's that can be killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import time
from multiprocessing import shared_memory
from multiprocessing.connection import Connection

from graft.server.engine.process.orphans import end_with_parent
from graft.server.engine.process.shared_names import SharedNames, adopt_names


def engine(connection: Connection, watches: bool, is_late: bool) -> None:
    """Adopt, make a segment and a semaphore, tell their names, and go when told. One that is late, as if it imported
    until its server had been killed, asks for its end behind that, and does not go by itself."""
    if watches:
        end_with_parent()
    adopt_names()
    adopt_names()
    memory = shared_memory.SharedMemory(create=True, size=4096)
    lock = multiprocessing.get_context("spawn").Lock()
    connection.send((memory.name, lock._semlock.name))  # type: ignore[attr-defined]
    if is_late:
        with contextlib.suppress(EOFError):
            connection.recv()
        end_with_parent()
        time.sleep(1000)
    connection.recv()
    memory.close()
    memory.unlink()  # gone already, of which nobody hears


def start_engine(
    names: SharedNames, *, watches: bool = False, is_late: bool = False
) -> tuple[Connection, multiprocessing.Process]:
    """An engine's process, once it has made its names."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with names.given():
        process = context.Process(target=engine, args=(theirs, watches, is_late))
        process.start()
    return ours, process  # type: ignore[return-value]


def serve(kind: str) -> None:
    """A server whose engine has just started: prints the names and waits to be killed."""
    connection, process = start_engine(SharedNames(), watches=kind == "watches", is_late=kind == "late")
    print(*connection.recv(), process.pid, flush=True)
    time.sleep(1000)


if __name__ == "__main__":
    serve(sys.argv[1])
