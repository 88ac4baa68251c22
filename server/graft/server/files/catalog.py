"""The catalog of files: transactions over their rows. Synchronous and safe for threads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from graft.adapters.catalog.database import Database
from graft.server.files import reads, writes
from graft.server.files.draft import FileDraft
from graft.server.files.file import File, file_ids
from graft.server.files.reads import Listing


def _utc_now() -> datetime:
    return datetime.now(UTC)


class FileCatalog:
    """On the catalog's database, opened with `tables.MIGRATIONS`. Every method may raise what the catalog's do."""

    def __init__(self, database: Database, *, max_bytes: int, now: Callable[[], datetime] = _utc_now) -> None:
        """`max_bytes` bounds what one tenant keeps."""
        self._database = database
        self._max_bytes = max_bytes
        self._now = now

    def add(
        self, draft: FileDraft, *, tenant: str, size_bytes: int, sha256: str, request_id: str | None = None
    ) -> File:
        """Keep a file whose bytes are stored. Raises NotFound, `QuotaExceeded`, Conflict for the request's id."""
        now = self._now()
        file = File(
            id=file_ids(),
            tenant=tenant,
            purpose=draft.purpose,
            filename=draft.filename,
            size_bytes=size_bytes,
            sha256=sha256,
            create_time=now,
            expire_time=None if draft.lifetime is None else now + draft.lifetime,
        )
        return self._database.write(writes.add, file, max_bytes=self._max_bytes, request_id=request_id, now=now)

    def get(self, tenant: str, file: str) -> File:
        """One file. Raises `NoSuchResource`."""
        return self._database.read(reads.get, tenant, file, now=self._now())

    def listed(self, tenant: str, listing: Listing) -> tuple[tuple[File, ...], bool]:
        """A part of the tenant's files, and whether there are more. Raises `BadInput`."""
        return self._database.read(reads.listed, tenant, listing, now=self._now())

    def delete(self, tenant: str, file: str, *, request_id: str | None = None) -> None:
        """Delete a file. Raises `NoSuchResource`; Conflict naming what needs it."""
        self._database.write(writes.delete, tenant, file, request_id=request_id, now=self._now())

    def forget_expired(self) -> int:
        """Delete files whose time is over; returns how many."""
        return self._database.write(writes.forget_expired, now=self._now())

    def live_digests(self) -> frozenset[str]:
        """SHA-256 of all files: what the store must keep."""
        return self._database.read(reads.live_digests)
