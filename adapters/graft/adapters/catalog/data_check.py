"""What `graft doctor --data-dir` finds out about a server's data: is everything there that the catalog promises?"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from graft.adapters.adapter import AdapterFile, AdapterVersion
from graft.adapters.catalog.catalog import Catalog
from graft.adapters.catalog.database import Database
from graft.adapters.errors import CatalogCorrupt, CatalogUnavailable, StoreUnavailable
from graft.adapters.store.store import BlobStore

_MAX_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Found:
    """One thing looked at, in the shape of the doctor's findings."""

    subject: str
    state: Literal["ok", "notice", "problem"]
    found: str
    remedy: str = ""


Kept = Callable[[Database], Sequence[AdapterFile]]
"""What a room beside the catalog keeps in the same store, by the names under which it is told of."""


def nothing(database: Database) -> Sequence[AdapterFile]:
    """No room keeps anything beside the versions' files."""
    return ()


def findings(data_dir: Path, *, kept: Kept = nothing) -> Iterator[Found]:
    """The catalog's own integrity, and that of every file of every version and of what else is kept.

    Reads all of them, and writes to none.
    """
    file, blobs = data_dir / "catalog.db", data_dir / "blobs"
    if not file.is_file():
        remedy = "look where the server keeps its data, or start it once"
        yield Found(subject="catalog", state="notice", found=f"{data_dir} holds no catalog", remedy=remedy)
        return
    try:
        with contextlib.closing(Database.look(file)) as database:
            catalog, others = Catalog(database), kept(database)
            versions, live = catalog.every_version(), catalog.live_digests() | {one.sha256 for one in others}
    except (CatalogCorrupt, CatalogUnavailable) as error:
        yield Found(subject="catalog", state="problem", found=str(error))
        return
    yield Found(subject="catalog", state="ok", found=f"{file} is sound and holds {_counted(len(versions), 'version')}")
    if not blobs.is_dir():
        if versions or others:
            found = f"no files below {data_dir}: they lie where the server's --store-url says"
            yield Found(subject="files", state="notice", found=found)
        return
    store = BlobStore(str(blobs), local_dir=data_dir / "local", only_look=True)
    broken = [*_broken(store, versions), *_damaged(store, others)]
    yield from broken[:_MAX_SHOWN]
    if not broken:
        needed = [*(file for one in versions for file in one.files), *others]
        size_bytes = sum({file.sha256: file.size_bytes for file in needed}.values())
        yield Found(subject="files", state="ok", found=f"all that is needed is there, {size_bytes} bytes")
    elif len(broken) > _MAX_SHOWN:
        yield Found(subject="files", state="problem", found=f"and {len(broken) - _MAX_SHOWN} more like these")
    yield from _dead(store, live)


def _broken(store: BlobStore, versions: tuple[AdapterVersion, ...]) -> Iterator[Found]:
    for version in versions:
        name = f"{version.adapter}@{version.number}"
        remedy = f"push it again, or delete it: graft adapters delete {version.adapter} --version {version.number}"
        try:
            reasons = store.integrity(version)
        except StoreUnavailable as error:
            yield Found(subject=name, state="problem", found=str(error), remedy=remedy)
            continue
        for reason in reasons:
            yield Found(subject=name, state="problem", found=f"{reason.field}: {reason.problem}", remedy=remedy)


def _damaged(store: BlobStore, others: Sequence[AdapterFile]) -> Iterator[Found]:
    for one in others:
        try:
            problem = store.damage(one)
        except StoreUnavailable as error:
            problem = str(error)
        if problem:
            yield Found(subject=one.name, state="problem", found=problem, remedy="upload it again, and delete this one")


def _dead(store: BlobStore, live: frozenset[str]) -> Iterator[Found]:
    num_dead = store.num_dead(live)
    if num_dead:
        found = f"{_counted(num_dead, 'file')} that nothing needs any more"
        remedy = "a running server deletes them within the hour, or at once: graft adapters gc"
        yield Found(subject="files", state="notice", found=found, remedy=remedy)


def _counted(num: int, noun: str) -> str:
    return f"1 {noun}" if num == 1 else f"{num} {noun}s"
