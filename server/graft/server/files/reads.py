"""What is read of files, each time in the transaction of the caller. One whose time is over is not there any more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from graft.server.errors import BadInput, NoSuchResource, Violation
from graft.server.files import tables
from graft.server.files.file import File, Purpose, file_ids

_files, _holds = tables.files, tables.holds


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A part of a tenant's files: at most `limit`, those behind the id `after`, of one purpose or of all."""

    limit: int
    after: str | None = None
    newest_first: bool = True
    purpose: Purpose | None = None


def get(connection: sa.Connection, tenant: str, file: str, *, now: datetime) -> File:
    """One file. Raises `NoSuchResource`."""
    query = sa.select(_files).where(_files.c.tenant == tenant, _files.c.id == file, _is_there(now))
    # What is no id, such as a text with a NUL, not every database can be asked for.
    row = connection.execute(query).mappings().first() if file_ids.made(file) else None
    if row is None:
        raise NoSuchResource(f"there is no file {file[:100]!r}")
    return _file(row)


def listed(connection: sa.Connection, tenant: str, listing: Listing, *, now: datetime) -> tuple[tuple[File, ...], bool]:
    """Files in the order of their making, and whether there are more. Raises `BadInput` for the cursor."""
    query = sa.select(_files).where(_files.c.tenant == tenant, _is_there(now))
    if listing.after is not None:
        if not file_ids.made(listing.after):
            problem = f"{listing.after[:100]!r} is no id of a file; give the last one of the page before"
            raise BadInput(Violation(field="after", problem=problem))
        query = query.where(_files.c.id < listing.after if listing.newest_first else _files.c.id > listing.after)
    if listing.purpose is not None:
        query = query.where(_files.c.purpose == listing.purpose.value)
    order = _files.c.id.desc() if listing.newest_first else _files.c.id
    found = connection.execute(query.order_by(order).limit(listing.limit + 1)).mappings().all()
    return tuple(map(_file, found[: listing.limit])), len(found) > listing.limit


def held_bytes(connection: sa.Connection, tenant: str) -> int:
    """What a tenant's files take, the same bytes counted for each of them."""
    query = sa.select(sa.func.coalesce(sa.func.sum(_files.c.size_bytes), 0)).where(_files.c.tenant == tenant)
    return int(connection.execute(query).scalar_one())


def live_digests(connection: sa.Connection) -> frozenset[str]:
    """SHA-256 of all files: what the store must keep."""
    return frozenset(connection.execute(sa.select(_files.c.sha256)).scalars())


def _is_there(now: datetime) -> sa.ColumnElement[bool]:
    needed = sa.exists().where(_holds.c.tenant == _files.c.tenant, _holds.c.file == _files.c.id)
    return sa.or_(_files.c.expire_time.is_(None), _files.c.expire_time > now, needed)


def _file(row: sa.RowMapping) -> File:
    return File(**{**row, "purpose": Purpose(row["purpose"])})
