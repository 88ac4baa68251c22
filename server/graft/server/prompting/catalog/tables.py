"""The tables of programs. Every row names its tenant."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from graft.adapters.catalog import tables as catalog
from graft.adapters.catalog.tables import UtcDateTime

MIGRATIONS = "graft.server.prompting.catalog:migrations/versions"
"""An Alembic branch beside the catalog's, whose tenants it refers to."""
metadata = MetaData()

# The row stays when all versions are deleted: no number is ever given twice.
prompts = Table(
    "prompts",
    metadata,
    Column("tenant", String(63), ForeignKey(catalog.tenants.c.name), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("next_number", Integer, nullable=False),
)

versions = Table(
    "prompt_versions",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("prompt", String(128), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(71), nullable=False),
    Column("text", Text, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("commit_message", Text, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    ForeignKeyConstraint(["tenant", "prompt"], ["prompts.tenant", "prompts.name"], name="prompt_versions_prompt"),
    UniqueConstraint("tenant", "prompt", "digest", name="prompt_versions_digest"),
)

# The foreign key refuses to delete a version while a label points at it.
labels = Table(
    "prompt_labels",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("prompt", String(128), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("version_number", Integer, nullable=False),
    Column("etag", String(32), nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
    ForeignKeyConstraint(
        ["tenant", "prompt", "version_number"],
        ["prompt_versions.tenant", "prompt_versions.prompt", "prompt_versions.number"],
        name="prompt_labels_version",
    ),
)

# One row: how many changes there were.
revision = Table("prompt_revision", metadata, Column("number", BigInteger, primary_key=True, autoincrement=False))

# The revision at which each program last changed; the rows of deleted ones stay.
changes = Table(
    "prompt_changes",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("prompt", String(128), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Index("prompt_changes_revision", "revision"),
)
