"""What `graft doctor --data-dir` finds out about a server's data, the files that were uploaded among it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import sqlalchemy as sa

from graft.adapters.adapter import AdapterFile
from graft.adapters.catalog import data_check
from graft.adapters.catalog.data_check import Found
from graft.adapters.catalog.database import Database
from graft.server.files import tables


def findings(data_dir: Path) -> Iterator[Found]:
    """As the adapters' findings, which this hands on. Reads everything, and writes to nothing."""
    yield from data_check.findings(data_dir, kept=_kept)


def _kept(database: Database) -> Sequence[AdapterFile]:
    with database.reading() as connection:
        # The database is looked at as it is: it may be older than files are.
        if not sa.inspect(connection).has_table(tables.files.name):
            return ()
        found = connection.execute(sa.select(tables.files).order_by(tables.files.c.id))
        return [AdapterFile(name=row.id, size_bytes=row.size_bytes, sha256=row.sha256) for row in found]
