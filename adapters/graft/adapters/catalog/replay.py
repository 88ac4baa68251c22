"""Answers to repeated requests (AIP-155): the same `request_id` is answered again, never done again."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from graft.adapters.catalog import tables
from graft.adapters.digest import digest_of_json
from graft.adapters.errors import Conflict, InvalidReference, Reason

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}\Z")
_KEPT = timedelta(days=7)


def recall(connection: sa.Connection, tenant: str, request_id: str | None, call: object) -> dict[str, Any] | None:
    """The answer that this request got before, or None.

    Raises Conflict when the id was used for another call, InvalidReference when it is malformed.
    """
    if not request_id:
        return None
    if not _REQUEST_ID.match(request_id):
        problem = f"{request_id[:200]!r} is not 1 to 128 printable ASCII characters without spaces"
        raise InvalidReference("invalid request id", [Reason(field="request_id", problem=problem)])
    table = tables.requests
    query = sa.select(table.c.fingerprint, table.c.answer)
    row = connection.execute(query.where(table.c.tenant == tenant, table.c.request_id == request_id)).first()
    if row is None:
        return None
    if row.fingerprint != digest_of_json(call):
        raise Conflict(f"request_id {request_id} was used for another call; use a new one")
    answer: dict[str, Any] = row.answer
    return answer


def remember(
    connection: sa.Connection,
    tenant: str,
    request_id: str | None,
    call: object,
    answer: dict[str, Any],
    *,
    now: datetime,
) -> None:
    """Keep the answer, in the transaction that did the work; forget those older than a week."""
    if not request_id:
        return
    table = tables.requests
    connection.execute(sa.delete(table).where(table.c.create_time < now - _KEPT))
    connection.execute(
        sa.insert(table).values(
            tenant=tenant,
            request_id=request_id,
            fingerprint=digest_of_json(call),
            answer=answer,
            create_time=now,
        )
    )
