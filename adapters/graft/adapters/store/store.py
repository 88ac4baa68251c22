"""The blob store: the files of versions by their SHA-256, and local folders of them for the engine to read."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import IO

from graft.adapters.adapter import AdapterFile, AdapterVersion
from graft.adapters.digest import PREFIX, sha256_of_file
from graft.adapters.errors import BlobMissing, Conflict, Reason
from graft.adapters.store import disk
from graft.adapters.store.blobs import open_blob_files, retried

_log = logging.getLogger(__name__)
_COLLECT_AGE = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Collected:
    """How many blobs, folders and leftovers were deleted, and the size of the blobs."""

    num_deleted: int
    freed_bytes: int


class BlobStore:
    """Content-addressed files behind fsspec; safe for threads and for several processes.

    A blob or a version's folder is visible complete or not at all.
    """

    def __init__(self, url: str, *, local_dir: Path, only_look: bool = False) -> None:
        """`url` is a path or an fsspec URL; `local_dir` holds the folders that the engine reads.

        With `only_look` no folder is made, and nothing can be stored.

        Raises StoreUnavailable, or StoreFull.
        """
        self._url = url
        self._versions, self._temporary = Path(local_dir) / "versions", Path(local_dir) / "tmp"
        # Digests whose local folder was hashed whole in this process.
        self._verified: set[str] = set()
        self._lock = threading.Lock()
        with disk.full_disk_explained(local_dir):
            if not only_look:
                self._versions.mkdir(parents=True, exist_ok=True)
            self._blobs = open_blob_files(url, only_look=only_look)

    def put_files(
        self, folder: Path, names: Iterable[str], *, sha256: Mapping[str, str] | None = None
    ) -> tuple[AdapterFile, ...]:
        """Store the named files of `folder`; those already there are left as they are.

        `sha256` gives the hashes by name of files that are the caller's alone and are not written to any more: they
        are not copied.
        Raises StoreFull or StoreUnavailable; a file that could not be stored whole is not visible.
        """
        known = sha256 or {}
        return tuple(self._put_file(Path(folder) / name, known.get(name)) for name in names)

    def read(self, version: AdapterVersion, name: str) -> bytes:
        """The bytes of one of the version's files, verified by SHA-256. Raises StoreUnavailable, StoreFull."""
        (file,) = (one for one in version.files if one.name == name)
        with self.open(file, f"{version.adapter}@{version.number}") as copy:
            return copy.read()

    def open(self, file: AdapterFile, owner: str) -> IO[bytes]:
        """The blob's bytes, verified by SHA-256, in a file without a name that goes when it is closed.

        Errors call it `file.name` of `owner`. Raises StoreUnavailable, StoreFull.
        """
        with disk.full_disk_explained(self._temporary), disk.temporary_path(self._temporary) as copy:
            self._fetch(file, copy, owner)
            return copy.open("rb")

    def path_of(self, version: AdapterVersion) -> Path:
        """Where `materialize` puts the version's folder."""
        return self._versions / version.digest.removeprefix(PREFIX)

    def materialize(self, version: AdapterVersion) -> Path:
        """The version's local folder, fetched and verified by SHA-256 where it is not there yet.

        A folder that this process verified before is only checked by size; one that was damaged is built again.
        Raises StoreUnavailable (naming a missing or damaged blob) or StoreFull.
        """
        final = self.path_of(version)
        with self._lock:
            verified = version.digest in self._verified
        if self._is_sound(final, version, whole=not verified) and self._renewed(final):
            self._mark_verified(version)
            return final
        with disk.full_disk_explained(self._versions), disk.temporary_path(self._temporary) as temporary:
            self._build(temporary, version)
            self._publish(temporary, final, version)
        self._mark_verified(version)
        return final

    def keep(self, version: AdapterVersion, folder: Path) -> None:
        """Make `folder`, from which the version's files were just stored, its local folder: nothing is fetched again.

        The folder must be the caller's alone, and is taken away where it is of use. Its files may be the blobs' own.
        Where that cannot be, for example across file systems, nothing happens: it is fetched when it is needed.
        """
        with contextlib.suppress(OSError), disk.exclusive(self._versions):
            self._keep(version, folder, self.path_of(version))

    def _keep(self, version: AdapterVersion, folder: Path, final: Path) -> None:
        if final.exists() or not self._is_sound(folder, version, whole=False):
            return
        names = {file.name for file in version.files}
        for path in folder.iterdir():
            if path.name in names:
                path.chmod(0o444)
            else:
                disk.remove(path)
        os.utime(folder)
        folder.rename(final)
        self._mark_verified(version)

    def integrity(self, version: AdapterVersion) -> tuple[Reason, ...]:
        """What is missing or damaged among the version's blobs; empty when all is well. Raises StoreUnavailable."""
        reasons = []
        for file in version.files:
            if problem := self.damage(file):
                reasons.append(Reason(field=file.name, problem=problem, remedy="register the version again"))
        return tuple(reasons)

    def damage(self, file: AdapterFile) -> str | None:
        """What is wrong with a blob; None where nothing is. Raises StoreUnavailable."""
        try:
            found = retried(partial(self._blobs.hashed, file.sha256), what=f"reading {file.name}", where=self._url)
        except FileNotFoundError:
            found = None
        if found == file.sha256:
            return None
        return f"blob {file.sha256} {f'is damaged: its bytes hash to {found}' if found else 'is missing'}"

    def lacks(self, version: AdapterVersion) -> bool:
        """Whether a file of the version is not stored (any more). Raises StoreUnavailable."""
        return not all(self.has(file) for file in version.files)

    def has(self, file: AdapterFile) -> bool:
        """Whether the blob is stored. Raises StoreUnavailable."""
        return self._blobs.has(file.sha256)

    def enrol(self, owner: str) -> None:
        """Say that the catalog `owner` keeps files here: while it is not the only one, none collects.

        Raises StoreUnavailable, StoreFull.
        """
        with disk.full_disk_explained(self._url):
            self._blobs.enrol(owner)

    def collect(self, live_digests: Set[str], *, min_age: timedelta = _COLLECT_AGE) -> Collected:
        """Delete blobs and local folders whose SHA-256 or version digest is not in `live_digests`.

        The set is `Catalog.live_digests()` and the digests of leased versions, read before this call. What is younger
        than `min_age` is spared: it may belong to a version that is being registered.
        Raises Conflict where the files of several catalogs lie here, StoreUnavailable.
        """
        self._check_owners()
        oldest = datetime.now(UTC) - min_age
        dead = [sha256 for sha256, stored in self._blobs.listed() if sha256 not in live_digests and stored < oldest]
        deleted = [self._blobs.delete(sha256, stored_before=oldest) for sha256 in dead]
        sizes_bytes = [size_bytes for size_bytes in deleted if size_bytes is not None]
        num_left = self._blobs.sweep(left_before=oldest) + disk.remove_older(self._temporary, oldest)
        folders = [path for path in self._versions.iterdir() if PREFIX + path.name not in live_digests]
        num_folders = sum(self._taken_away(folder, oldest) for folder in folders)
        return Collected(num_deleted=len(sizes_bytes) + num_left + num_folders, freed_bytes=sum(sizes_bytes))

    def _taken_away(self, folder: Path, oldest: datetime) -> bool:
        """Remove a version's folder unless it was used since."""
        with disk.temporary_path(self._temporary) as taken:
            with disk.exclusive(self._versions):
                if not folder.exists() or folder.stat().st_mtime >= oldest.timestamp():
                    return False
                folder.rename(taken)
            with self._lock:
                self._verified.discard(PREFIX + folder.name)
            return True

    def _renewed(self, folder: Path) -> bool:
        """Whether the folder is still there: from now on a collector, which spares what is young, leaves it."""
        with disk.exclusive(self._versions):
            try:
                os.utime(folder)
            except FileNotFoundError:
                return False
            return True

    def num_dead(self, live_digests: Set[str]) -> int:
        """How many blobs no version needs. Raises StoreUnavailable."""
        return sum(sha256 not in live_digests for sha256, _ in self._blobs.listed())

    def _check_owners(self) -> None:
        owners = self._blobs.owners()
        if len(owners) > 1:
            problem = f"{len(owners)} catalogs keep files in {self._url}, and none knows what the others need"
            remedy = "give each catalog a store of its own, and remove from the folder owners there who left"
            raise Conflict("nothing is collected", [Reason(field="store", problem=problem, remedy=remedy)])

    def _put_file(self, path: Path, sha256: str | None) -> AdapterFile:
        with disk.full_disk_explained(self._url):
            if sha256 is not None:
                return self._put_private(path, sha256)
            with disk.temporary_path(self._temporary) as copy:
                # What is hashed must be what is stored, even if someone writes to the folder meanwhile.
                shutil.copyfile(path, copy)
                return replace(self._put_private(copy, sha256_of_file(copy)), name=path.name)

    def _put_private(self, path: Path, sha256: str) -> AdapterFile:
        self._blobs.put(path, sha256)
        return AdapterFile(name=path.name, size_bytes=path.stat().st_size, sha256=sha256)

    def _mark_verified(self, version: AdapterVersion) -> None:
        with self._lock:
            self._verified.add(version.digest)

    def _is_sound(self, folder: Path, version: AdapterVersion, *, whole: bool) -> bool:
        try:
            for file in version.files:
                path = folder / file.name
                if path.stat().st_size != file.size_bytes:
                    return False
                if whole and sha256_of_file(path) != file.sha256:
                    return False
        except FileNotFoundError:
            return False
        return True

    def _build(self, folder: Path, version: AdapterVersion) -> None:
        folder.mkdir()
        for file in version.files:
            self._fetch(file, folder / file.name, f"{version.adapter}@{version.number}")

    def _fetch(self, file: AdapterFile, target: Path, version: str) -> None:
        def fetch() -> None:
            disk.remove(target)
            self._blobs.get(file.sha256, target)
            found = sha256_of_file(target)
            if found != file.sha256:
                _log.error("blob %s of %s arrived from %s with the hash %s", file.sha256, version, self._url, found)
                raise OSError(f"{target.stat().st_size} bytes arrived that hash to something else")
            target.chmod(0o444)

        try:
            retried(fetch, what=f"reading {file.name} of {version}", where=self._url)
        except FileNotFoundError as error:
            _log.error("blob %s (%s of %s) is missing in %s", file.sha256, file.name, version, self._url)
            reason = Reason(field=file.name, problem="is missing in the store", remedy="push the same files again")
            raise BlobMissing(f"{version} cannot be loaded", [reason]) from error

    def _publish(self, temporary: Path, final: Path, version: AdapterVersion) -> None:
        # Only one thread or process at a time may replace a folder: the first one's serves the others as well.
        with disk.exclusive(self._versions):
            if self._is_sound(final, version, whole=True):
                return
            if final.exists():
                damaged = self._temporary / f"{temporary.name}-damaged"
                final.rename(damaged)
                disk.remove(damaged)
            temporary.rename(final)  # not flushed: after a crash the next process hashes it whole
