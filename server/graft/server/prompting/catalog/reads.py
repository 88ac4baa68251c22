"""What is read from the tables, each in the transaction of its caller."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import sqlalchemy as sa

from graft.server.prompting.catalog import tables
from graft.server.prompting.catalog.prompt import PromptLabel, PromptVersion
from graft.server.prompting.catalog.snapshot import PromptEntry, PromptSnapshot

_latest, _changes = tables.revision, tables.changes


def entry(
    connection: sa.Connection, tenant: str, prompt: str, known: Mapping[int, PromptVersion] = MappingProxyType({})
) -> PromptEntry:
    """One program as it is now, empty where there is none. The versions `known` before are not read again."""
    table, after = tables.versions, max(known, default=0)
    here = (table.c.tenant == tenant, table.c.prompt == prompt)
    old = connection.execute(sa.select(table.c.number).where(*here, table.c.number <= after).order_by(table.c.number))
    versions = {number: known[number] for number in old.scalars()}
    new = connection.execute(sa.select(table).where(*here, table.c.number > after).order_by(table.c.number))
    versions |= {row["number"]: version(row) for row in new.mappings()}
    labels = sa.select(tables.labels).where(tables.labels.c.tenant == tenant, tables.labels.c.prompt == prompt)
    found = connection.execute(labels.order_by(tables.labels.c.name)).mappings()
    return PromptEntry(name=prompt, versions=versions, labels={row["name"]: PromptLabel(**row) for row in found})


def version(row: sa.RowMapping) -> PromptVersion:
    """A row of `prompt_versions`."""
    return PromptVersion(**{**row, "tags": tuple(row["tags"])})


def record_change(connection: sa.Connection, tenant: str, prompt: str) -> None:
    """Raise the revision, in the transaction that changes the program, as its last write.

    The one row stays locked until the commit, so that revisions become visible in their order.
    """
    connection.execute(sa.update(_latest).values(number=_latest.c.number + 1))
    number = revision(connection)
    here = (_changes.c.tenant == tenant, _changes.c.prompt == prompt)
    if not connection.execute(sa.update(_changes).where(*here).values(revision=number)).rowcount:
        connection.execute(sa.insert(_changes).values(tenant=tenant, prompt=prompt, revision=number))


def revision(connection: sa.Connection) -> int:
    """The latest revision."""
    return int(connection.execute(sa.select(_latest.c.number)).scalar_one())


def refreshed(connection: sa.Connection, before: PromptSnapshot) -> PromptSnapshot:
    """`before` itself where nothing changed since; else with the programs that changed as they are now."""
    latest = revision(connection)
    if latest == before.revision:
        return before
    query = sa.select(_changes.c.tenant, _changes.c.prompt).where(_changes.c.revision > before.revision)
    changed = {}
    for name in [(row.tenant, row.prompt) for row in connection.execute(query)]:
        was = before.entries.get(name)
        changed[name] = entry(connection, *name, known=was.versions if was else {})
    return before.with_entries(changed, revision=latest)
