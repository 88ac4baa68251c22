"""Every change of an adapter's versions or aliases raises a revision, which other processes poll."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "adapters_0003"
down_revision = "adapters_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Begin at 1, with which every adapter that is there was changed."""
    latest = op.create_table("revision", sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False))
    op.bulk_insert(latest, [{"number": 1}])
    op.create_table(
        "changes",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("adapter", sa.String(63), primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_index("changes_revision", "changes", ["revision"])
    op.execute("INSERT INTO changes (tenant, adapter, revision) SELECT tenant, name, 1 FROM adapters")


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("changes")
    op.drop_table("revision")
