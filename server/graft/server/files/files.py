"""What can be done with files: upload, look, read, delete."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import IO

from graft.adapters.store.staging import Staging
from graft.adapters.store.store import BlobStore
from graft.server.errors import BadInput, Violation
from graft.server.files.catalog import FileCatalog
from graft.server.files.draft import FileDraft
from graft.server.files.file import File
from graft.server.files.reads import Listing
from graft.server.registry.thread import CatalogThread

# The one name in staging: what a caller calls the file is never a path here.
_STAGED = "file"


class Files:
    """The verbs of tenants' files. Rows are read and written in the catalog's thread, bytes beside it."""

    def __init__(self, catalog: FileCatalog, thread: CatalogThread, store: BlobStore, staging: Staging) -> None:
        """`staging` refuses with `InvalidFile`."""
        self._catalog = catalog
        self._thread = thread
        self._store = store
        self._staging = staging

    async def upload(
        self,
        draft: FileDraft,
        chunks: AsyncIterator[bytes],
        *,
        tenant: str,
        sha256: str | None = None,
        request_id: str | None = None,
    ) -> File:
        """Take the bytes, compare them with the declared hash (64 hex digits) if there is one, and keep the file.

        Raises `InvalidFile`, `QuotaExceeded`, StoreFull, StoreUnavailable; then nothing of it is visible.
        """
        async with self.begin() as incoming:
            async for chunk in chunks:
                await incoming.write(chunk)
            return await incoming.keep(draft, tenant=tenant, sha256=sha256, request_id=request_id)

    def begin(self) -> IncomingFile:
        """An upload of which is not known yet how it is called: a form may say so behind the bytes."""
        return IncomingFile(self._catalog, self._thread, self._store, self._staging)

    async def get(self, tenant: str, file: str) -> File:
        """One file. Raises `NoSuchResource`."""
        return await self._thread.run(lambda: self._catalog.get(tenant, file))

    async def listed(self, tenant: str, listing: Listing) -> tuple[tuple[File, ...], bool]:
        """A part of the tenant's files, and whether there are more. Raises `BadInput`."""
        return await self._thread.run(lambda: self._catalog.listed(tenant, listing))

    async def open(self, tenant: str, file: str) -> tuple[File, IO[bytes]]:
        """A file and its bytes, whose hash was compared: to be closed. Raises `NoSuchResource`, StoreUnavailable."""
        found = await self.get(tenant, file)
        return found, await asyncio.to_thread(self._store.open, found.blob, found.id)

    async def delete(self, tenant: str, file: str, *, request_id: str | None) -> None:
        """Delete a file. Raises `NoSuchResource`; Conflict while a job uses it."""
        await self._thread.run(lambda: self._catalog.delete(tenant, file, request_id=request_id))


class IncomingFile:
    """Bytes that come in: kept as a file, or thrown away on leaving."""

    def __init__(self, catalog: FileCatalog, thread: CatalogThread, store: BlobStore, staging: Staging) -> None:
        """Use `Files.begin`."""
        self._catalog, self._thread, self._store, self._staging = catalog, thread, store, staging

    async def __aenter__(self) -> IncomingFile:
        self._upload = await asyncio.to_thread(lambda: self._staging.begin(names=(_STAGED,)))
        return self

    async def __aexit__(self, *error: object) -> None:
        await asyncio.to_thread(self._upload.abort)

    async def write(self, chunk: bytes) -> None:
        """Append to the file. Raises `InvalidFile` over the limit, StoreFull."""
        if not chunk:
            return
        await asyncio.to_thread(self._upload.write, _STAGED, chunk)

    async def keep(
        self, draft: FileDraft, *, tenant: str, sha256: str | None = None, request_id: str | None = None
    ) -> File:
        """Store what came and register it. Raises what `Files.upload` does."""
        if not self._upload.sha256():
            raise BadInput(Violation(field="file", problem="is empty: send at least one byte"))
        folder = await asyncio.to_thread(self._upload.commit, None if sha256 is None else {_STAGED: sha256})
        known = self._upload.sha256()
        # The blob comes before its row: a collector spares young ones, so no row ever names what is not there.
        (blob,) = await asyncio.to_thread(self._store.put_files, folder, (_STAGED,), sha256=known)
        kept = await self._thread.run(
            lambda: self._catalog.add(
                draft, tenant=tenant, size_bytes=blob.size_bytes, sha256=blob.sha256, request_id=request_id
            )
        )
        if not await asyncio.to_thread(self._store.has, blob):
            # A collector on another machine may have seen the old blob just before it was stored again.
            await asyncio.to_thread(self._store.put_files, folder, (_STAGED,), sha256=known)
        return kept
