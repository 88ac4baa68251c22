"""Writes of aliases: compare-and-set in the transaction of the caller."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from graft.adapters.adapter import STABLE, Alias
from graft.adapters.catalog import changes, replay, rows, tables
from graft.adapters.catalog.reads import get_adapter, get_version
from graft.adapters.errors import Conflict, InvalidReference, NotFound, Reason
from graft.adapters.names import check_name

_table = tables.aliases


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Where an alias shall point, and what it must be until then (see `Catalog.set_alias`)."""

    tenant: str
    adapter: str
    alias: str
    version: str
    weight_percent: int | None
    expected_etag: str | None


def set_alias(connection: sa.Connection, wish: Wish, *, request_id: str | None, now: datetime) -> Alias:
    """Point an alias at a version. Raises Conflict, NotFound, InvalidReference."""
    check_name(wish.alias, what="alias")
    _check_weight(wish)
    call = ["set_alias", asdict(wish)]
    answer = replay.recall(connection, wish.tenant, request_id, call)
    if answer is not None:
        return Alias(**{**answer, "update_time": datetime.fromisoformat(answer["update_time"])})
    version = get_version(connection, wish.tenant, wish.adapter, wish.version)
    names = (wish.tenant, wish.adapter, wish.alias)
    now_there = _read(connection, names)
    _compare(names, now_there, wish.expected_etag)
    kept_percent = now_there.weight_percent if now_there else 0
    done = Alias(
        adapter=wish.adapter,
        tenant=wish.tenant,
        name=wish.alias,
        version_digest=version.digest,
        weight_percent=kept_percent if wish.weight_percent is None else wish.weight_percent,
        etag=secrets.token_hex(8),
        update_time=now,
    )
    _write(connection, names, now_there, done)
    _check_sum(connection, done)
    kept = {**asdict(done), "update_time": now.isoformat()}
    replay.remember(connection, wish.tenant, request_id, call, kept, now=now)
    changes.record(connection, wish.tenant, wish.adapter)
    return done


def delete_alias(
    connection: sa.Connection,
    names: tuple[str, str, str],
    expected_etag: str | None,
    *,
    request_id: str | None,
    now: datetime,
) -> None:
    """Delete the alias called (tenant, adapter, alias). Raises NotFound, Conflict."""
    call = ["delete_alias", names[1], names[2], expected_etag]
    if replay.recall(connection, names[0], request_id, call) is not None:
        return
    get_adapter(connection, names[0], names[1])
    now_there = _read(connection, names)
    if now_there is None:
        raise NotFound(f"adapter {names[1]!r} has no alias {names[2][:100]!r}")
    _compare(names, now_there, expected_etag)
    gone = connection.execute(sa.delete(_table).where(*_is(names), _table.c.etag == now_there.etag))
    if not gone.rowcount:
        raise _lost(names, _read(connection, names))
    replay.remember(connection, names[0], request_id, call, {}, now=now)
    changes.record(connection, names[0], names[1])


def _is(names: tuple[str, str, str]) -> tuple[sa.ColumnElement[bool], ...]:
    return (_table.c.tenant == names[0], _table.c.adapter == names[1], _table.c.name == names[2])


def _read(connection: sa.Connection, names: tuple[str, str, str]) -> Alias | None:
    row = connection.execute(sa.select(_table).where(*_is(names))).mappings().first()
    return None if row is None else rows.alias(row)


def _compare(names: tuple[str, str, str], now_there: Alias | None, expected_etag: str | None) -> None:
    if expected_etag is not None and expected_etag != (now_there.etag if now_there else ""):
        raise _lost(names, now_there)


def _lost(names: tuple[str, str, str], now_there: Alias | None) -> Conflict:
    if now_there is None:
        problem = "it does not exist (any more)"
    else:
        problem = f"its etag is now {now_there.etag}, it points at {now_there.version_digest}"
    reason = Reason(field="etag", problem=problem, remedy="read the alias again and decide anew")
    return Conflict(f"alias {names[1]}:{names[2]} was changed by someone else", [reason])


def _write(connection: sa.Connection, names: tuple[str, str, str], now_there: Alias | None, done: Alias) -> None:
    if now_there is None:
        # Another replica that inserts first makes this fail; the caller then compares again.
        connection.execute(sa.insert(_table).values(**asdict(done)))
        return
    # The etag stands in the WHERE clause: on PostgreSQL two transactions may have read the same row.
    where = (*_is(names), _table.c.etag == now_there.etag)
    changed = connection.execute(sa.update(_table).where(*where).values(**asdict(done)))
    if not changed.rowcount:
        raise _lost(names, _read(connection, names))


def _check_weight(wish: Wish) -> None:
    weight = wish.weight_percent
    problem = None
    if weight is not None and not 0 <= weight <= 100:
        problem = f"{weight} is not between 0 and 100"
    elif wish.alias == STABLE and weight:
        problem = f"{STABLE!r} takes what the other aliases leave; set their weights instead of {weight}"
    if problem:
        raise InvalidReference("invalid alias weight", [Reason(field="weight_percent", problem=problem)])


def _check_sum(connection: sa.Connection, done: Alias) -> None:
    query = sa.select(_table.c.name, _table.c.weight_percent).where(
        _table.c.tenant == done.tenant, _table.c.adapter == done.adapter, _table.c.weight_percent > 0
    )
    weights: dict[str, Any] = {row.name: row.weight_percent for row in connection.execute(query)}
    if sum(weights.values()) > 100:
        shares = ", ".join(f"{name} {weight}" for name, weight in sorted(weights.items()))
        problem = f"the aliases of {done.adapter} would take more than 100 percent: {shares}"
        raise InvalidReference("invalid alias weight", [Reason(field="weight_percent", problem=problem)])
