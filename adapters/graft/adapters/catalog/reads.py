"""What the catalog reads, each in the transaction of its caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa

from graft.adapters.adapter import DEFAULT_TENANT, Adapter, AdapterVersion
from graft.adapters.catalog import changes, rows, tables
from graft.adapters.catalog.paging import Page, page_limit, read_token, write_token
from graft.adapters.catalog.rows import BaseRecord, Record
from graft.adapters.catalog.snapshot import CatalogSnapshot, find_version
from graft.adapters.digest import PREFIX, digest_of_json
from graft.adapters.errors import NotFound

_T = TypeVar("_T")
_versions = tables.versions
_ORDER = (_versions.c.tenant, _versions.c.adapter, _versions.c.number)


def bases(connection: sa.Connection) -> tuple[BaseRecord, ...]:
    """Every base, oldest first."""
    query = sa.select(tables.bases).order_by(tables.bases.c.create_time, tables.bases.c.digest)
    return tuple(map(rows.base_record, connection.execute(query).mappings()))


def adapters(connection: sa.Connection, tenant: str, page_size: int | None, page_token: str | None) -> Page[Adapter]:
    """A page of the tenant's adapters, by name."""
    table, scope = tables.adapters, ("adapters", tenant)
    query = sa.select(table).where(table.c.tenant == tenant)
    after = read_token(scope, page_token, str)
    return _page(connection, query, table.c.name, after, page_size, scope, rows.adapter)


def get_adapter(connection: sa.Connection, tenant: str, name: str) -> Adapter:
    """One adapter. Raises NotFound."""
    table = tables.adapters
    query = sa.select(table).where(table.c.tenant == tenant, table.c.name == name)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFound(f"there is no adapter {name[:100]!r}")
    return rows.adapter(row)


def versions(
    connection: sa.Connection, tenant: str, adapter: str, page_size: int | None, page_token: str | None
) -> Page[AdapterVersion]:
    """A page of the adapter's versions, by number."""
    get_adapter(connection, tenant, adapter)
    table, scope = tables.versions, ("versions", tenant, adapter)
    query = sa.select(table).where(table.c.tenant == tenant, table.c.adapter == adapter)
    after = read_token(scope, page_token, int)
    return _page(connection, query, table.c.number, after, page_size, scope, rows.version)


def get_version(connection: sa.Connection, tenant: str, adapter: str, selector: str) -> AdapterVersion:
    """The version that `selector` names. Raises NotFound, InvalidReference."""
    get_adapter(connection, tenant, adapter)
    table = tables.versions
    query = sa.select(table).where(table.c.tenant == tenant, table.c.adapter == adapter)
    found = map(rows.version, connection.execute(query).mappings())
    try:
        return find_version({version.digest: version for version in found}, selector)
    except NotFound as error:
        raise NotFound(f"adapter {adapter!r}: {error.message}") from None


def records(connection: sa.Connection, tenant: str, version_digest: str) -> tuple[Record, ...]:
    """The tenant's records about a version, oldest first."""
    table = tables.records
    query = sa.select(table).where(table.c.tenant == tenant, table.c.version_digest == version_digest)
    return tuple(map(rows.record, connection.execute(query.order_by(table.c.id)).mappings()))


def live_digests(connection: sa.Connection) -> frozenset[str]:
    """Digests of all versions, and of all their files."""
    found: set[str] = set()
    for digest, files in connection.execute(sa.select(tables.versions.c.digest, tables.versions.c.files)):
        found.add(digest)
        found.update(file["sha256"] for file in files)
    return frozenset(found)


def identity(connection: sa.Connection) -> str:
    """A digest of the moment at which the catalog was made."""
    query = sa.select(tables.tenants.c.create_time).where(tables.tenants.c.name == DEFAULT_TENANT)
    made = connection.execute(query).scalar_one()
    return digest_of_json(["catalog", str(made)]).removeprefix(PREFIX)


def every_version(connection: sa.Connection) -> tuple[AdapterVersion, ...]:
    """All tenants' versions, by tenant, adapter and number."""
    return tuple(map(rows.version, connection.execute(sa.select(_versions).order_by(*_ORDER)).mappings()))


def refreshed(connection: sa.Connection, before: CatalogSnapshot) -> CatalogSnapshot:
    """`before` itself where nothing changed since; else with the adapters that changed as they are now."""
    revision = changes.revision(connection)
    if revision == before.revision:
        return before
    names = changes.since(connection, before.revision)
    versions_found = connection.execute(_changed_since(_versions, before.revision).order_by(*_ORDER)).mappings()
    aliases_found = connection.execute(_changed_since(tables.aliases, before.revision)).mappings()
    return before.with_adapters(
        names, map(rows.version, versions_found), list(map(rows.alias, aliases_found)), revision=revision
    )


def _changed_since(table: sa.Table, revision: int) -> sa.Select[Any]:
    changed = tables.changes
    same = sa.and_(changed.c.tenant == table.c.tenant, changed.c.adapter == table.c.adapter)
    return sa.select(table).join(changed, same).where(changed.c.revision > revision)


def _page(
    connection: sa.Connection,
    query: sa.Select[Any],
    key: sa.Column[Any],
    after: str | int | None,
    page_size: int | None,
    scope: tuple[str, ...],
    value_of: Callable[[sa.RowMapping], _T],
) -> Page[_T]:
    limit = page_limit(page_size)
    if after is not None:
        query = query.where(key > after)
    # One more than asked for tells whether there is a next page.
    found = connection.execute(query.order_by(key).limit(limit + 1)).mappings().all()
    token = write_token(scope, found[limit - 1][key.name]) if len(found) > limit else None
    return Page(items=tuple(map(value_of, found[:limit])), next_page_token=token)
