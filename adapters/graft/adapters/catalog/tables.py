"""The catalog's tables. Every row that a tenant owns names the tenant, from the first migration on."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator

metadata = MetaData()


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite keeps no time zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


tenants = Table(
    "tenants",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("create_time", UtcDateTime, nullable=False),
)

# Bases belong to the server, not to a tenant.
bases = Table(
    "bases",
    metadata,
    Column("digest", String(71), primary_key=True),
    Column("name", String(255), nullable=False, index=True),
    Column("weights_digest", String(71), nullable=False),
    Column("tokenizer_digest", String(71), nullable=False),
    Column("chat_template_digest", String(71)),
    Column("config_digest", String(71)),
    Column("path", String(4096), nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
)

adapters = Table(
    "adapters",
    metadata,
    Column("tenant", String(63), ForeignKey("tenants.name"), primary_key=True),
    Column("name", String(63), primary_key=True),
    # Numbers are never given twice, even after a version was deleted.
    Column("next_number", Integer, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("adapter", String(63), primary_key=True),
    Column("digest", String(71), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("base", JSON, nullable=False),
    Column("form", String(16), nullable=False),
    Column("rank", Integer, nullable=False),
    Column("alpha", Float, nullable=False),
    Column("target_modules", JSON, nullable=False),
    Column("files", JSON, nullable=False),
    Column("provenance", String(16), nullable=False),
    Column("lineage", JSON, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("num_virtual_tokens", Integer, nullable=False, server_default="0"),
    Column("num_labels", Integer, nullable=False, server_default="0"),
    ForeignKeyConstraint(["tenant", "adapter"], ["adapters.tenant", "adapters.name"], name="versions_adapter"),
    UniqueConstraint("tenant", "adapter", "number", name="versions_number"),
)

# The foreign key refuses to delete a version while an alias points at it.
aliases = Table(
    "aliases",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("adapter", String(63), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("version_digest", String(71), nullable=False),
    Column("weight_percent", Integer, nullable=False),
    Column("etag", String(32), nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
    ForeignKeyConstraint(
        ["tenant", "adapter", "version_digest"],
        ["versions.tenant", "versions.adapter", "versions.digest"],
        name="aliases_version",
    ),
)

# Append-only: metrics, parity receipts. They speak of a digest, and may outlive the version.
records = Table(
    "records",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("tenant", String(63), ForeignKey("tenants.name"), nullable=False),
    Column("version_digest", String(71), nullable=False),
    Column("kind", String(63), nullable=False),
    Column("body", JSON, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Index("records_version", "tenant", "version_digest"),
)

# Answers already given, so that a repeated request_id is answered again and not done again.
requests = Table(
    "requests",
    metadata,
    Column("tenant", String(63), ForeignKey("tenants.name"), primary_key=True),
    Column("request_id", String(128), primary_key=True),
    Column("fingerprint", String(71), nullable=False),
    Column("answer", JSON, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
)

# One row: how many changes of versions and aliases there were.
revision = Table("revision", metadata, Column("number", BigInteger, primary_key=True, autoincrement=False))

# The revision at which each adapter last changed; the rows of deleted adapters stay.
changes = Table(
    "changes",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("adapter", String(63), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Index("changes_revision", "revision"),
)
