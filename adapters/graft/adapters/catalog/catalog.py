"""The catalog: names, versions and aliases, and the transactions over them.

Synchronous and safe for threads. Requests do not come here: they resolve names in a `CatalogSnapshot`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial

from graft.adapters.adapter import DEFAULT_TENANT, Adapter, AdapterVersion, Alias
from graft.adapters.base.base import Base
from graft.adapters.catalog import aliases as alias_writes
from graft.adapters.catalog import reads as catalog_reads
from graft.adapters.catalog import versions as version_writes
from graft.adapters.catalog.database import Database
from graft.adapters.catalog.needs import Needs, nobody
from graft.adapters.catalog.paging import Page
from graft.adapters.catalog.rows import BaseRecord, Record
from graft.adapters.catalog.snapshot import CatalogSnapshot
from graft.adapters.catalog.versions import Draft


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Catalog:
    """Transactions over tenants, bases, adapters, versions and aliases.

    Every method may raise CatalogUnavailable, CatalogCorrupt, or (when writing) StoreFull.
    """

    def __init__(self, database: Database, *, needs: Needs = nobody, now: Callable[[], datetime] = _utc_now) -> None:
        """Use `Catalog.open`, unless the clock is to be replaced, or something beside aliases `needs` versions."""
        self._database = database
        self._needs = needs
        self._now = now

    @classmethod
    def open(cls, url: str) -> Catalog:
        """Create or upgrade the catalog at a SQLAlchemy URL, e.g. `sqlite:////var/lib/graft/catalog.db`."""
        return cls(Database.open(url))

    def close(self) -> None:
        """Give the database's connections back."""
        self._database.close()

    def register_tenant(self, name: str) -> None:
        """Make a tenant; does nothing when it is there."""
        self._database.write(version_writes.register_tenant, name, now=self._now())

    def register_base(self, base: Base, *, tenant: str = DEFAULT_TENANT, request_id: str | None = None) -> None:
        """Remember a base, or its new path and name. Raises AlreadyExists where an adapter has the name."""
        self._database.write(version_writes.register_base, base, tenant=tenant, request_id=request_id, now=self._now())

    def check_base_name(self, name: str) -> None:
        """Raises AlreadyExists where an adapter has the name: a request for it could mean either."""
        self._database.read(version_writes.check_base_name, name)

    def bases(self) -> tuple[BaseRecord, ...]:
        """Every registered base, oldest first."""
        return self._database.read(catalog_reads.bases)

    def register_version(self, draft: Draft, *, request_id: str | None = None) -> AdapterVersion:
        """Register a version, and its adapter when that is new; the same content again returns the first one.

        The draft's records are appended in the same transaction, and change what requests resolve as the version does.
        Raises InvalidReference for the names, NotFound for the tenant, Conflict for a request_id used for another call.
        """
        return self._database.write(version_writes.register_version, draft, request_id=request_id, now=self._now())

    def adapters(
        self, tenant: str = DEFAULT_TENANT, *, page_size: int | None = None, page_token: str | None = None
    ) -> Page[Adapter]:
        """The tenant's adapters, by name."""
        return self._database.read(catalog_reads.adapters, tenant, page_size, page_token)

    def get_adapter(self, tenant: str, name: str) -> Adapter:
        """One adapter. Raises NotFound."""
        return self._database.read(catalog_reads.get_adapter, tenant, name)

    def versions(
        self, tenant: str, adapter: str, *, page_size: int | None = None, page_token: str | None = None
    ) -> Page[AdapterVersion]:
        """The adapter's versions, by number. Raises NotFound for the adapter."""
        return self._database.read(catalog_reads.versions, tenant, adapter, page_size, page_token)

    def get_version(self, tenant: str, adapter: str, selector: str) -> AdapterVersion:
        """The version with this number, digest, or unique digest prefix of 8 or more digits. Raises NotFound."""
        return self._database.read(catalog_reads.get_version, tenant, adapter, selector)

    def set_alias(
        self,
        *,
        tenant: str,
        adapter: str,
        alias: str,
        version: str,
        weight_percent: int | None = None,
        expected_etag: str | None = None,
        request_id: str | None = None,
    ) -> Alias:
        """Point an alias at a version by compare-and-set.

        `expected_etag`: None sets it whatever it is now, "" only if it does not exist yet, else only if it still
        has this etag. `weight_percent` None keeps the weight (0 for a new alias).
        Raises Conflict naming the current etag, NotFound, InvalidReference.
        """
        wish = alias_writes.Wish(
            tenant=tenant,
            adapter=adapter,
            alias=alias,
            version=version,
            weight_percent=weight_percent,
            expected_etag=expected_etag,
        )
        return self._database.write(alias_writes.set_alias, wish, request_id=request_id, now=self._now())

    def delete_alias(
        self,
        *,
        tenant: str,
        adapter: str,
        alias: str,
        expected_etag: str | None = None,
        request_id: str | None = None,
    ) -> None:
        """Delete an alias. Raises NotFound; Conflict when `expected_etag` is no longer its etag."""
        names = (tenant, adapter, alias)
        self._database.write(alias_writes.delete_alias, names, expected_etag, request_id=request_id, now=self._now())

    def delete_version(self, *, tenant: str, adapter: str, version: str, request_id: str | None = None) -> None:
        """Delete a version; its files stay until the store collects.

        Raises NotFound; Conflict naming its aliases, or who needs it.
        """
        write = partial(version_writes.delete_version, needs=self._needs, request_id=request_id, now=self._now())
        self._database.write(write, tenant, adapter, version)

    def delete_adapter(self, *, tenant: str, adapter: str, force: bool = False, request_id: str | None = None) -> None:
        """Delete an adapter.

        Raises NotFound; Conflict while it has versions, unless `force` deletes them too and nobody needs one.
        """
        write = partial(version_writes.delete_adapter, needs=self._needs, request_id=request_id, now=self._now())
        self._database.write(write, tenant, adapter, force)

    def add_record(
        self, version_digest: str, kind: str, body: Mapping[str, object], *, tenant: str = DEFAULT_TENANT
    ) -> Record:
        """Append a record about a version. Raises NotFound when the tenant has no such version."""
        return self._database.write(version_writes.add_record, tenant, version_digest, kind, body, now=self._now())

    def records(self, version_digest: str, *, tenant: str = DEFAULT_TENANT) -> tuple[Record, ...]:
        """The tenant's records about a version, oldest first."""
        return self._database.read(catalog_reads.records, tenant, version_digest)

    def live_digests(self) -> frozenset[str]:
        """Digests of all versions and SHA-256 of all their files: what the store must keep."""
        return self._database.read(catalog_reads.live_digests)

    def identity(self) -> str:
        """What tells this catalog from all others, as 64 hex digits; a copy has the same."""
        return self._database.read(catalog_reads.identity)

    def every_version(self) -> tuple[AdapterVersion, ...]:
        """All tenants' versions, by tenant, adapter and number."""
        return self._database.read(catalog_reads.every_version)

    def snapshot(self, base_name: str = "base") -> CatalogSnapshot:
        """All versions and aliases at this moment; `base_name` is what clients call the bare base."""
        return self.refreshed(CatalogSnapshot(base_name=base_name))

    def refreshed(self, before: CatalogSnapshot) -> CatalogSnapshot:
        """`before` itself where nothing changed since, in this process or another; else what changed is read anew."""
        return self._database.read(catalog_reads.refreshed, before)
