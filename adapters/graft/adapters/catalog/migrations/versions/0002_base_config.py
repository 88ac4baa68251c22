"""A base is known by its configuration, too; rows written before do not say by which."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "adapters_0002"
down_revision = "adapters_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, empty."""
    op.add_column("bases", sa.Column("config_digest", sa.String(71)))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("bases", "config_digest")
