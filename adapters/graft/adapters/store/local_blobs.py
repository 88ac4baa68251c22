"""Blobs in a local folder, safe beside other threads and processes that store and collect there."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from graft.adapters.digest import sha256_of_file
from graft.adapters.store import disk


class LocalBlobs:
    """Blobs in a local folder: `blobs/ab/abcd…`, each written beside, flushed and renamed."""

    def __init__(self, root: Path, *, only_look: bool = False) -> None:
        """Make the folder, unless it is only looked into. Raises OSError."""
        self._blobs, self._temporary, self._owners = root / "blobs", root / "tmp", root / "owners"
        if not only_look:
            self._blobs.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where the blob lies, or would lie."""
        return self._blobs / sha256[:2] / sha256

    def put(self, source: Path, sha256: str) -> None:
        """Store the file, durably. Raises OSError with nothing left behind."""
        final = self.path(sha256)
        if self._renewed(final, sha256):
            return
        with disk.temporary_path(self._temporary) as temporary:
            disk.link(source, temporary)
            temporary.touch()  # a collector goes by when a blob was stored, not by when its bytes came
            temporary.chmod(0o444)
            disk.flush(temporary)
            disk.publish(temporary, final)

    def _renewed(self, blob: Path, sha256: str) -> bool:
        """Whether a sound blob was there: a collector spares young ones, and this one is about to be referenced."""
        try:
            if sha256_of_file(blob) != sha256:
                return False
            os.utime(blob)  # fails, and makes no empty file, where a collector took the blob away meanwhile
        except FileNotFoundError:
            return False
        return True

    def get(self, sha256: str, target: Path) -> None:
        """Copy the blob to `target`. Raises FileNotFoundError."""
        # No hard link: damage done to the folder that the engine reads must not reach the blob.
        shutil.copyfile(self.path(sha256), target)

    def hashed(self, sha256: str) -> str:
        """What the blob's bytes hash to now. Raises FileNotFoundError."""
        return sha256_of_file(self.path(sha256))

    def listed(self) -> Iterator[tuple[str, datetime]]:
        """Every blob and when it was stored last."""
        for path in sorted(self._blobs.glob("??/*")):
            with contextlib.suppress(FileNotFoundError):  # another replica collects, too
                yield path.name, datetime.fromtimestamp(path.stat().st_mtime, UTC)

    def has(self, sha256: str) -> bool:
        """Whether the blob is there, sound or not."""
        return self.path(sha256).is_file()

    def delete(self, sha256: str, *, stored_before: datetime) -> int | None:
        """Take an old blob away in one step and look at its age again: whoever renews it meanwhile stores it anew."""
        with disk.temporary_path(self._temporary) as taken:
            try:
                if self.path(sha256).stat().st_mtime >= stored_before.timestamp():
                    return None
                self.path(sha256).rename(taken)
            except FileNotFoundError:
                return None
            status = taken.stat()
            if status.st_mtime < stored_before.timestamp():
                return status.st_size
            taken.rename(self.path(sha256))  # over one that was even stored anew, with the same bytes
            return None

    def sweep(self, *, left_before: datetime) -> int:
        """Remove what killed processes left half written; returns how many files."""
        return disk.remove_older(self._temporary, left_before)

    def enrol(self, owner: str) -> None:
        """Say that the catalog `owner` keeps blobs here. Raises OSError."""
        self._owners.mkdir(exist_ok=True)
        (self._owners / owner).touch()

    def owners(self) -> frozenset[str]:
        """Every catalog that was enrolled."""
        return frozenset(path.name for path in self._owners.iterdir()) if self._owners.is_dir() else frozenset()
