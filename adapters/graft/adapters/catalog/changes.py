"""Which adapters changed at which revision: what a snapshot has to read anew, also after another process's writes."""

from __future__ import annotations

import sqlalchemy as sa

from graft.adapters.catalog import tables

_latest, _changes = tables.revision, tables.changes


def record(connection: sa.Connection, tenant: str, adapter: str) -> None:
    """Raise the revision, in the transaction that changes the adapter's versions or aliases, as its last write.

    The one row stays locked until the commit, so that revisions become visible in their order.
    """
    connection.execute(sa.update(_latest).values(number=_latest.c.number + 1))
    number = revision(connection)
    here = (_changes.c.tenant == tenant, _changes.c.adapter == adapter)
    if not connection.execute(sa.update(_changes).where(*here).values(revision=number)).rowcount:
        connection.execute(sa.insert(_changes).values(tenant=tenant, adapter=adapter, revision=number))


def revision(connection: sa.Connection) -> int:
    """The latest revision."""
    return int(connection.execute(sa.select(_latest.c.number)).scalar_one())


def since(connection: sa.Connection, revision: int) -> frozenset[tuple[str, str]]:
    """The adapters (tenant, name) that changed after `revision`; deleted ones are among them."""
    query = sa.select(_changes.c.tenant, _changes.c.adapter).where(_changes.c.revision > revision)
    return frozenset((row.tenant, row.adapter) for row in connection.execute(query))
