"""Where blobs lie: a local folder, or any file system of fsspec."""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from graft.adapters.errors import GraftError, Reason, StoreUnavailable
from graft.adapters.store import disk
from graft.adapters.store.local_blobs import LocalBlobs

_log = logging.getLogger(__name__)
_TRIES = 5
_CHUNK_BYTES = 1 << 20
_FIRST_PAUSE_SECONDS = 0.1
_T = TypeVar("_T")


class BlobFiles(Protocol):
    """Whole files by their SHA-256; `put` makes a file visible at once or not at all."""

    def put(self, source: Path, sha256: str) -> None:
        """Store the file `source`, whose hash it is; a sound blob that is there is only marked as new.

        Nobody may write to `source` any more: it may become the blob.
        """
        ...

    def get(self, sha256: str, target: Path) -> None:
        """Copy the blob to `target`. Raises FileNotFoundError."""
        ...

    def hashed(self, sha256: str) -> str:
        """What the blob's bytes hash to now, as 64 hex digits. Raises FileNotFoundError."""
        ...

    def listed(self) -> Iterator[tuple[str, datetime]]:
        """Every blob and when it was stored last."""
        ...

    def has(self, sha256: str) -> bool:
        """Whether the blob is there, sound or not."""
        ...

    def delete(self, sha256: str, *, stored_before: datetime) -> int | None:
        """Delete a blob unless it was stored (again) since, and return its size in bytes; None where it was not."""
        ...

    def sweep(self, *, left_before: datetime) -> int:
        """Remove what killed processes left half written; returns how many files."""
        ...

    def enrol(self, owner: str) -> None:
        """Say that the catalog `owner` keeps blobs here."""
        ...

    def owners(self) -> frozenset[str]:
        """Every catalog that was enrolled."""
        ...


def open_blob_files(url: str, *, only_look: bool = False) -> BlobFiles:
    """The blobs at a path or fsspec URL (`file://`, `s3://`, `memory://` …); `only_look` makes no folder.

    Raises StoreUnavailable.
    """
    try:
        filesystem, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError, OSError) as error:
        remedy = "give a folder or an fsspec URL, and install the package that its protocol needs"
        reason = Reason(field="store", problem=str(error), remedy=remedy)
        raise StoreUnavailable(f"the store {url} cannot be opened", [reason]) from error
    if isinstance(filesystem, LocalFileSystem):
        return LocalBlobs(Path(root), only_look=only_look)
    return RemoteBlobs(filesystem, root)


class RemoteBlobs:
    """Blobs in an object store, where a put is atomic; all calls but `get` are tried up to five times."""

    def __init__(self, filesystem: Any, root: str) -> None:
        """`filesystem` is an fsspec file system, `root` a path in it."""
        self._filesystem, self._root = filesystem, root.rstrip("/")

    def put(self, source: Path, sha256: str) -> None:
        """Store the file again even when it is there: that marks it as new for the collector."""

        def upload() -> None:
            self._filesystem.makedirs(self._path(sha256).rsplit("/", 1)[0], exist_ok=True)
            self._filesystem.put_file(str(source), self._path(sha256))
            stored, sent = int(self._filesystem.info(self._path(sha256))["size"]), source.stat().st_size
            if stored != sent:
                raise OSError(f"{stored} of {sent} bytes arrived")

        self._retried(upload)

    def get(self, sha256: str, target: Path) -> None:
        """Copy the blob to `target`, in one try: the caller tries again when the bytes are wrong, too."""
        self._filesystem.get_file(self._path(sha256), str(target))

    def hashed(self, sha256: str) -> str:
        """What the blob's bytes hash to now, in one try. Raises FileNotFoundError."""
        hasher = hashlib.sha256()
        with self._filesystem.open(self._path(sha256), "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                hasher.update(chunk)
        return hasher.hexdigest()

    def listed(self) -> Iterator[tuple[str, datetime]]:
        """Every blob and when it was stored last; one whose age is unknown counts as new."""
        for path in self._retried(self._filesystem.find, f"{self._root}/blobs"):
            yield str(path).rsplit("/", 1)[-1], self._stored(path)

    def has(self, sha256: str) -> bool:
        """Whether the blob is there, sound or not."""
        return bool(self._retried(self._filesystem.exists, self._path(sha256)))

    def delete(self, sha256: str, *, stored_before: datetime) -> int | None:
        """Look at its age once more and delete it at once: who stores a blob looks afterwards whether it is there."""
        path = self._path(sha256)
        try:
            size_bytes = int(self._retried(self._filesystem.info, path)["size"])
            if self._stored(path) >= stored_before:
                return None
            self._retried(self._filesystem.rm_file, path)
        except FileNotFoundError:
            return None
        return size_bytes

    def sweep(self, *, left_before: datetime) -> int:
        """An object store shows nothing half written."""
        return 0

    def enrol(self, owner: str) -> None:
        """Say that the catalog `owner` keeps blobs here."""
        self._retried(self._filesystem.makedirs, f"{self._root}/owners", True)
        self._retried(self._filesystem.pipe_file, f"{self._root}/owners/{owner}", b"")

    def owners(self) -> frozenset[str]:
        """Every catalog that was enrolled."""
        try:
            found = self._retried(self._filesystem.find, f"{self._root}/owners")
        except FileNotFoundError:
            return frozenset()
        return frozenset(str(path).rsplit("/", 1)[-1] for path in found)

    def _path(self, sha256: str) -> str:
        return f"{self._root}/blobs/{sha256[:2]}/{sha256}"

    def _stored(self, path: str) -> datetime:
        try:
            moment = self._filesystem.modified(path)
        except (NotImplementedError, FileNotFoundError):
            return datetime.now(UTC)
        assert isinstance(moment, datetime)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    def _retried(self, call: Callable[..., _T], *args: Any) -> _T:
        return retried(lambda: call(*args), what="a call to the store", where=self._root)


def retried(call: Callable[[], _T], *, what: str, where: str, pause: Callable[[float], None] | None = None) -> _T:
    """The result of `call`, tried up to five times with growing, jittered pauses.

    A missing file and a full local disk are final. Raises StoreUnavailable naming `what` and the last error; `where`
    and all else that callers elsewhere should not read is logged.
    """
    pause = pause or time.sleep
    last: Exception | None = None
    for attempt in range(_TRIES):
        if attempt:
            # Full jitter, so that many readers do not come back together.
            pause(random.uniform(0, _FIRST_PAUSE_SECONDS * 2**attempt))
        try:
            with disk.full_disk_explained(where):
                return call()
        except (FileNotFoundError, GraftError):
            raise
        except Exception as error:  # object stores raise errors of their own libraries
            last = error
    _log.error("%s (%s) failed %d times", what, where, _TRIES, exc_info=last)
    reason = Reason(field="store", problem=_said(last), remedy="try again later")
    raise StoreUnavailable(f"{what} failed {_TRIES} times", [reason]) from last


def _said(error: Exception | None) -> str:
    """Without the path that an error of the operating system names."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) if type(error) is OSError else f"{type(error).__name__}: {error}"
