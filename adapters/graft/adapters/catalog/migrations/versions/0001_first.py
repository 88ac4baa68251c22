"""The first tables: tenants, bases, adapters, versions, aliases, records, requests."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "adapters_0001"
down_revision = None
branch_labels = ("adapters",)
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create every table and the tenant `default`."""
    _owners()
    _versions()
    _journals()


def downgrade() -> None:
    """Drop every table."""
    for name in ("requests", "records", "aliases", "versions", "adapters", "bases", "tenants"):
        op.drop_table(name)


def _owners() -> None:
    tenants = op.create_table(
        "tenants",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("create_time", _TIME, nullable=False),
    )
    op.bulk_insert(tenants, [{"name": "default", "create_time": datetime.now(UTC)}])
    op.create_table(
        "bases",
        sa.Column("digest", sa.String(71), primary_key=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("weights_digest", sa.String(71), nullable=False),
        sa.Column("tokenizer_digest", sa.String(71), nullable=False),
        sa.Column("chat_template_digest", sa.String(71)),
        sa.Column("path", sa.String(4096), nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
    )
    op.create_index("ix_bases_name", "bases", ["name"])
    op.create_table(
        "adapters",
        sa.Column("tenant", sa.String(63), sa.ForeignKey("tenants.name"), primary_key=True),
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("next_number", sa.Integer, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
    )


def _versions() -> None:
    op.create_table(
        "versions",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("adapter", sa.String(63), primary_key=True),
        sa.Column("digest", sa.String(71), primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("base", sa.JSON, nullable=False),
        sa.Column("form", sa.String(16), nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("alpha", sa.Float, nullable=False),
        sa.Column("target_modules", sa.JSON, nullable=False),
        sa.Column("files", sa.JSON, nullable=False),
        sa.Column("provenance", sa.String(16), nullable=False),
        sa.Column("lineage", sa.JSON, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["tenant", "adapter"], ["adapters.tenant", "adapters.name"], name="versions_adapter"),
        sa.UniqueConstraint("tenant", "adapter", "number", name="versions_number"),
    )
    op.create_table(
        "aliases",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("adapter", sa.String(63), primary_key=True),
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("version_digest", sa.String(71), nullable=False),
        sa.Column("weight_percent", sa.Integer, nullable=False),
        sa.Column("etag", sa.String(32), nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "adapter", "version_digest"],
            ["versions.tenant", "versions.adapter", "versions.digest"],
            name="aliases_version",
        ),
    )


def _journals() -> None:
    op.create_table(
        "records",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("tenant", sa.String(63), sa.ForeignKey("tenants.name"), nullable=False),
        sa.Column("version_digest", sa.String(71), nullable=False),
        sa.Column("kind", sa.String(63), nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
    )
    op.create_index("records_version", "records", ["tenant", "version_digest"])
    op.create_table(
        "requests",
        sa.Column("tenant", sa.String(63), sa.ForeignKey("tenants.name"), primary_key=True),
        sa.Column("request_id", sa.String(128), primary_key=True),
        sa.Column("fingerprint", sa.String(71), nullable=False),
        sa.Column("answer", sa.JSON, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
    )
