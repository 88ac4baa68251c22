"""What is known of a version's content, whichever tenants have it."""

from __future__ import annotations

from collections.abc import Mapping

from graft.adapters.catalog.catalog import Catalog
from graft.adapters.catalog.rows import Record
from graft.server.registry.snapshots import Snapshots
from graft.server.registry.thread import CatalogThread


class VersionRecords:
    """Append-only records by version digest. They change nothing that requests resolve."""

    def __init__(self, catalog: CatalogThread, snapshots: Snapshots) -> None:
        self._catalog = catalog
        self._snapshots = snapshots

    async def of(self, digest: str) -> tuple[Record, ...]:
        """All tenants' records about the version, oldest first within each tenant."""
        tenants = self._tenants_of(digest)
        return await self._catalog.read(
            lambda catalog: tuple(one for tenant in tenants for one in catalog.records(digest, tenant=tenant))
        )

    async def add(self, digest: str, kind: str, body: Mapping[str, object]) -> None:
        """Append a record for every tenant that has the version."""
        tenants = self._tenants_of(digest)

        def append(catalog: Catalog) -> None:
            for tenant in tenants:
                catalog.add_record(digest, kind, body, tenant=tenant)

        await self._catalog.read(append)

    def _tenants_of(self, digest: str) -> list[str]:
        return sorted({version.tenant for version in self._snapshots.current.versions if version.digest == digest})
