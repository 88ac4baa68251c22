"""Who needs a file, each call in the transaction of the room that needs it."""

from __future__ import annotations

import sqlalchemy as sa

from graft.server.files import tables

_holds = tables.holds


def hold(connection: sa.Connection, tenant: str, file: str, holder: str) -> None:
    """From now on `holder` needs a file, which must be there: `reads.get` says so in words."""
    connection.execute(sa.insert(_holds).values(tenant=tenant, file=file, holder=holder))


def release(connection: sa.Connection, holder: str) -> None:
    """`holder` needs no file any more."""
    connection.execute(sa.delete(_holds).where(_holds.c.holder == holder))


def holders(connection: sa.Connection, tenant: str, file: str) -> tuple[str, ...]:
    """Who needs a file, in order."""
    query = sa.select(_holds.c.holder).where(_holds.c.tenant == tenant, _holds.c.file == file)
    return tuple(connection.execute(query.order_by(_holds.c.holder)).scalars())
