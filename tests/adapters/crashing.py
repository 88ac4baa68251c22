"""Kills children anywhere in registering, promoting and deleting, and checks what they leave (F3).

`python -m tests.adapters.crashing failpoints|moments FOLDER`: a program of its own, because it forks, and the
process that runs the tests may hold threads of gRPC or torch that do not survive a fork.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from graft.adapters.accepting import accept_folder
from graft.adapters.base.base import Base
from graft.adapters.catalog.catalog import Catalog
from graft.adapters.form import ServingForm
from graft.adapters.store.store import BlobStore
from tests.adapters.making import LIMITS, make_adapter, make_base

JOE = {"tenant": "default", "adapter": "joe"}
Step = tuple[str, Callable[[Catalog, BlobStore], object]]


def _open(home: Path) -> tuple[Catalog, BlobStore]:
    return Catalog.open(f"sqlite:///{home}/catalog.db"), BlobStore(str(home / "store"), local_dir=home / "local")


def _steps(base: Base, folders: list[Path]) -> list[Step]:
    """What the killed process does, in order; each step is acknowledged when it returned."""

    def accept(folder: Path) -> Callable[[Catalog, BlobStore], object]:
        return lambda catalog, store: store.materialize(
            accept_folder(
                folder,
                catalog=catalog,
                store=store,
                base=base,
                serving_form=ServingForm.NF4,
                limits=LIMITS,
                **JOE,  # type: ignore[arg-type]
            )
        )

    def promote(version: str) -> Callable[[Catalog, BlobStore], object]:
        return lambda catalog, _: catalog.set_alias(**JOE, alias="stable", version=version)

    def delete(catalog: Catalog, _: BlobStore) -> None:
        catalog.delete_version(**JOE, version="1")

    return [
        ("accept 1", accept(folders[0])),
        ("promote 1", promote("1")),
        ("accept 2", accept(folders[1])),
        ("promote 2", promote("2")),
        ("delete 1", delete),
    ]


def _die_at(failpoint: int) -> None:
    """Kill this process the moment it comes to its `failpoint`-th flush, rename, copy, new folder or commit."""
    seen = 0

    def reached(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == failpoint:
            os.kill(os.getpid(), signal.SIGKILL)

    def guarded(module: Any, name: str) -> None:
        real = getattr(module, name)

        def first_reached(*args: Any, **kwargs: Any) -> Any:
            reached()
            return real(*args, **kwargs)

        setattr(module, name, first_reached)

    guarded(os, "fsync")
    guarded(os, "rename")
    guarded(os, "mkdir")
    guarded(shutil, "copyfile")
    event.listen(sa.Engine, "commit", reached)


def _run_child(home: Path, steps: list[Step], prepare: Callable[[], None]) -> tuple[int, int]:
    """Fork; the child runs the steps and acknowledges each through a pipe. Its process id, and the pipe's end."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    code = 1
    try:
        prepare()
        catalog, store = _open(home)
        for _, work in steps:
            work(catalog, store)
            os.write(writer, b".")
        code = 0
    finally:
        os._exit(code)


def _num_acknowledged(child: int, reader: int) -> tuple[int, int]:
    """How many steps were acknowledged, and the child's exit code (negative: the signal)."""
    with os.fdopen(reader, "rb") as pipe:
        acknowledged = len(pipe.read())
    return acknowledged, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _check(home: Path, acknowledged: int) -> None:
    catalog, store = _open(home)
    versions = (
        {version.number: version for version in catalog.versions("default", "joe").items} if _has_joe(catalog) else {}
    )
    for version in versions.values():
        assert store.integrity(version) == ()
        store.materialize(version)
    snapshot = catalog.snapshot("tiny")
    if acknowledged >= 1:
        assert 2 in versions or 1 in versions
    if acknowledged in (2, 3):
        assert snapshot.resolve("joe").version in versions.values()
    if acknowledged in (1, 2, 3):
        assert 1 in versions
    if acknowledged >= 4:
        assert snapshot.resolve("joe").version == versions[2]
    if acknowledged == 5:
        assert 1 not in versions
    catalog.close()


def _has_joe(catalog: Catalog) -> bool:
    return any(adapter.name == "joe" for adapter in catalog.adapters().items)


def kill_at_every_failpoint(steps: list[Step], folder: Path) -> None:
    """Until a child comes through."""
    failpoint, code = 0, -signal.SIGKILL
    seen: set[int] = set()
    while code:
        failpoint += 1
        home = folder / f"home-{failpoint}"
        home.mkdir()
        acknowledged, code = _num_acknowledged(*_run_child(home, steps, partial(_die_at, failpoint)))
        assert code in (0, -signal.SIGKILL), code
        _check(home, acknowledged)
        seen.add(acknowledged)
        shutil.rmtree(home)
    # The failpoints lay in every step, and the last run came through.
    assert seen == set(range(len(steps) + 1)), seen
    assert failpoint > 50, failpoint
    print(f"killed at {failpoint - 1} failpoints")


def kill_at_random_moments(steps: list[Step], folder: Path) -> None:
    """Also inside SQLite and inside system calls, where no failpoint of ours lies."""
    rng = random.Random(1)
    killed = 0
    for trial in range(20):
        home = folder / f"home-{trial}"
        home.mkdir()
        child, reader = _run_child(home, steps, lambda: None)
        time.sleep(rng.uniform(0, 0.12))
        os.kill(child, signal.SIGKILL)
        acknowledged, code = _num_acknowledged(child, reader)
        killed += code != 0
        _check(home, acknowledged)
    assert killed
    print(f"killed {killed} of 20")


def main(mode: str, folder: Path) -> None:
    """Make a base and two adapters in `folder`, and kill."""
    base = make_base(folder / "tiny")
    steps = _steps(base, [make_adapter(folder / f"adapter-{seed}", base=base, seed=seed) for seed in (1, 2)])
    {"failpoints": kill_at_every_failpoint, "moments": kill_at_random_moments}[mode](steps, folder)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
