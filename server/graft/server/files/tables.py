"""The tables of files. Every row names its tenant."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

from graft.adapters.catalog import tables as catalog
from graft.adapters.catalog.tables import UtcDateTime

MIGRATIONS = "graft.server.files:migrations/versions"
"""An Alembic branch beside the catalog's, whose tenants it refers to."""
metadata = MetaData()

files = Table(
    "files",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(63), ForeignKey(catalog.tenants.c.name), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("filename", String(255), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("expire_time", UtcDateTime, nullable=True),
    # What a hold refers to: a file of its own tenant.
    UniqueConstraint("tenant", "id", name="files_of_tenant"),
)

# Who needs a file. The foreign key refuses to delete one that is needed.
holds = Table(
    "file_holds",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("file", String(32), primary_key=True),
    Column("holder", String(64), primary_key=True),
    ForeignKeyConstraint(["tenant", "file"], ["files.tenant", "files.id"], name="file_holds_file"),
    Index("file_holds_holder", "holder"),
)
