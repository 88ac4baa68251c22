"""Writes of labels: compare-and-set in the transaction of the caller."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from datetime import datetime

import sqlalchemy as sa

from graft.adapters.catalog import replay
from graft.adapters.errors import Conflict, NotFound, Reason
from graft.server.prompting.catalog import reads, tables
from graft.server.prompting.catalog.prompt import PromptLabel
from graft.server.prompting.program.names import check_label

_table = tables.labels


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Where a label shall point, and what it must be until then (see `PromptCatalog.set_label`)."""

    tenant: str
    prompt: str
    label: str
    version: str | None
    expected_etag: str | None


def set_label(connection: sa.Connection, wish: Wish, *, request_id: str | None, now: datetime) -> PromptLabel:
    """Point a label at a version. Raises Conflict, NotFound, InvalidReference."""
    check_label(wish.label)
    call = ["set_prompt_label", asdict(wish)]
    answer = replay.recall(connection, wish.tenant, request_id, call)
    if answer is not None:
        return PromptLabel(**{**answer, "update_time": datetime.fromisoformat(answer["update_time"])})
    entry = reads.entry(connection, wish.tenant, wish.prompt)
    target, now_there = entry.find(wish.version).version, entry.labels.get(wish.label)
    if wish.expected_etag is not None and wish.expected_etag != (now_there.etag if now_there else ""):
        raise _lost(wish, now_there)
    done = point(connection, wish, now_there, target.number, now)
    kept = {**asdict(done), "update_time": now.isoformat()}
    replay.remember(connection, wish.tenant, request_id, call, kept, now=now)
    reads.record_change(connection, wish.tenant, wish.prompt)
    return done


def point(
    connection: sa.Connection, wish: Wish, now_there: PromptLabel | None, number: int, now: datetime
) -> PromptLabel:
    """Write a label, which must still be what it was. Raises Conflict."""
    done = PromptLabel(
        tenant=wish.tenant,
        prompt=wish.prompt,
        name=wish.label,
        version_number=number,
        etag=secrets.token_hex(8),
        update_time=now,
    )
    if now_there is None:
        # Another replica that inserts first makes this fail; the caller then compares again.
        connection.execute(sa.insert(_table).values(**asdict(done)))
        return done
    # The etag stands in the WHERE clause: on PostgreSQL two transactions may have read the same row.
    where = (*_is(wish.tenant, wish.prompt, wish.label), _table.c.etag == now_there.etag)
    if not connection.execute(sa.update(_table).where(*where).values(**asdict(done))).rowcount:
        raise _lost(wish, reads.entry(connection, wish.tenant, wish.prompt).labels.get(wish.label))
    return done


def delete_label(
    connection: sa.Connection, tenant: str, prompt: str, label: str, *, request_id: str | None, now: datetime
) -> None:
    """Delete a label; its version stays. Raises NotFound."""
    call = ["delete_prompt_label", prompt, label]
    if replay.recall(connection, tenant, request_id, call) is not None:
        return
    entry = reads.entry(connection, tenant, prompt)
    entry.find("latest")
    if not connection.execute(sa.delete(_table).where(*_is(tenant, prompt, label))).rowcount:
        known = ", ".join(entry.labels) or "none"
        raise NotFound(f"the prompt {prompt!r} has no label {label[:100]!r}; its labels: {known}")
    replay.remember(connection, tenant, request_id, call, {}, now=now)
    reads.record_change(connection, tenant, prompt)


def _is(tenant: str, prompt: str, label: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (_table.c.tenant == tenant, _table.c.prompt == prompt, _table.c.name == label)


def _lost(wish: Wish, now_there: PromptLabel | None) -> Conflict:
    if now_there is None:
        problem = "it does not exist (any more)"
    else:
        problem = f"its etag is now {now_there.etag}, it points at version {now_there.version_number}"
    reason = Reason(field="etag", problem=problem, remedy="read the label again and decide anew")
    return Conflict(f"label {wish.prompt}:{wish.label} was changed by someone else", [reason])
