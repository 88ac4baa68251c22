"""Who needs versions: asked before one is deleted, in the transaction that deletes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import sqlalchemy as sa

from graft.adapters.errors import Conflict, Reason

Needs = Callable[[sa.Connection, str, str], Mapping[str, str]]
"""Of a tenant's adapter: who needs which of its versions, by digest, in words."""
_MAX_NAMED = 20


def nobody(connection: sa.Connection, tenant: str, adapter: str) -> Mapping[str, str]:
    """Where nothing beside aliases needs versions."""
    return {}


def check_unneeded(
    connection: sa.Connection, needs: Needs, tenant: str, adapter: str, *, digest: str | None = None
) -> None:
    """That nobody needs the version, or any of the adapter's where none is named. Raises Conflict."""
    needed = needs(connection, tenant, adapter)
    found = [(one, who) for one, who in needed.items() if digest in (None, one)]
    if found:
        remedy = "wait for it, or cancel it first"
        reasons = [Reason(field=one, problem=f"{who} needs it", remedy=remedy) for one, who in found[:_MAX_NAMED]]
        raise Conflict(f"versions of {adapter} are in use", reasons)
