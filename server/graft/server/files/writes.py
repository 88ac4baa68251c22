"""Writes of files, each in the transaction of its caller."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime

import sqlalchemy as sa

from graft.adapters.catalog import replay
from graft.adapters.catalog.tables import tenants
from graft.adapters.errors import Conflict, NotFound, Reason
from graft.server.errors import QuotaExceeded
from graft.server.files import holds, reads, tables
from graft.server.files.file import File

_files = tables.files
_COLUMNS = tuple(one.name for one in fields(File))


def add(connection: sa.Connection, file: File, *, max_bytes: int, request_id: str | None, now: datetime) -> File:
    """Keep a file, whose bytes are stored. Raises NotFound for the tenant, `QuotaExceeded` beyond `max_bytes`.

    Repeated with the same `request_id` it is the file of the first call, which `NoSuchResource` says was deleted since.
    """
    lifetime = None if file.expire_time is None else int((file.expire_time - file.create_time).total_seconds())
    call = ["add_file", file.purpose, file.filename, file.sha256, lifetime]
    answer = replay.recall(connection, file.tenant, request_id, call)
    if answer is not None:
        return reads.get(connection, file.tenant, answer["id"], now=now)
    if connection.execute(sa.select(tenants.c.name).where(tenants.c.name == file.tenant)).first() is None:
        raise NotFound(f"there is no tenant {file.tenant[:100]!r}")
    held = reads.held_bytes(connection, file.tenant)
    if held + file.size_bytes > max_bytes:
        raise QuotaExceeded(
            f"the tenant's files take {held} bytes and this would add {file.size_bytes}: the limit is {max_bytes} "
            "(max_files_mib); delete files that nobody needs, or raise the setting"
        )
    connection.execute(sa.insert(_files).values(**{name: getattr(file, name) for name in _COLUMNS}))
    replay.remember(connection, file.tenant, request_id, call, {"id": file.id}, now=now)
    return file


def delete(connection: sa.Connection, tenant: str, file: str, *, request_id: str | None, now: datetime) -> None:
    """Delete a file that nothing needs; its bytes stay until the store collects. Raises `NoSuchResource`, Conflict."""
    call = ["delete_file", file]
    if replay.recall(connection, tenant, request_id, call) is not None:
        return
    reads.get(connection, tenant, file, now=now)
    needed = holds.holders(connection, tenant, file)
    if needed:
        remedy = "wait until it has ended, or cancel it"
        reasons = [Reason(field="file", problem=f"{holder} uses it", remedy=remedy) for holder in needed]
        raise Conflict(f"the file {file} is in use", reasons)
    connection.execute(sa.delete(_files).where(_files.c.tenant == tenant, _files.c.id == file))
    replay.remember(connection, tenant, request_id, call, {}, now=now)


def forget_expired(connection: sa.Connection, *, now: datetime) -> int:
    """Delete files whose time is over and that nothing needs; returns how many."""
    needed = sa.exists().where(tables.holds.c.tenant == _files.c.tenant, tables.holds.c.file == _files.c.id)
    return connection.execute(sa.delete(_files).where(_files.c.expire_time <= now, ~needed)).rowcount
