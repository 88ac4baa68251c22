"""How bases come in: by upload, to be served when a server starts on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from graft.adapters.base.base import Base
from graft.adapters.base.file_names import check_base_files
from graft.adapters.base.uploaded import UploadedBase
from graft.adapters.catalog.catalog import Catalog
from graft.adapters.catalog.rows import BaseRecord
from graft.adapters.errors import InvalidBase, Reason
from graft.adapters.names import check_name
from graft.adapters.store.staging import Staging
from graft.server.registry.accepted import DeclaredFile
from graft.server.registry.thread import CatalogThread


class BaseUploads:
    """Checks, stores and registers. Nothing of a refused base stays."""

    def __init__(self, *, catalog: CatalogThread, staging: Staging, folder: Path, max_bytes: int, served: Base) -> None:
        self._catalog, self._staging, self._folder = catalog, staging, folder
        self._max_bytes, self._served = max_bytes, served

    async def upload(
        self,
        *,
        name: str,
        files: Sequence[DeclaredFile],
        chunks: AsyncIterator[tuple[str, bytes]],
        tenant: str,
        request_id: str | None = None,
    ) -> Base:
        """Take chunks of (file name, bytes), compare them with what was declared, and register the base.

        Raises `InvalidBase`, `InvalidReference`, `AlreadyExists` and `Conflict` for the name, `StoreFull`.
        """
        check_name(name, what="base")
        sizes = {file.name: file.size_bytes for file in files}
        if len(sizes) != len(files):
            reason = Reason(field="header.files", problem="names a file more than once")
            raise InvalidBase("the upload was refused", [reason])
        check_base_files(sizes, max_bytes=self._max_bytes)
        upload = await asyncio.to_thread(lambda: self._staging.begin(names=sizes))
        try:
            async for file, data in chunks:
                await asyncio.to_thread(upload.write, file, data)
            folder = await asyncio.to_thread(upload.commit, {file.name: file.sha256 for file in files})
            # Beside the catalog's thread: gigabytes are hashed here.
            uploaded = await asyncio.to_thread(lambda: UploadedBase(folder, name, sha256=upload.sha256()))

            def register(catalog: Catalog) -> Base:
                base = uploaded.keep(self._folder, catalog.bases())
                try:
                    catalog.register_base(base, tenant=tenant, request_id=request_id)
                except BaseException:
                    uploaded.undo()
                    raise
                return base

            return await self._catalog.write(register)
        finally:
            await asyncio.to_thread(upload.abort)

    async def bases(self) -> tuple[BaseRecord, ...]:
        """Every registered base, oldest first."""
        return await self._catalog.read(lambda catalog: catalog.bases())

    def is_served(self, digest: str) -> bool:
        return digest == self._served.digest
