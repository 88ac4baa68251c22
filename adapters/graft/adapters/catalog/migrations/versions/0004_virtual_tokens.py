"""A version may be a soft prompt of so many virtual tokens; all that are there are LoRAs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "adapters_0004"
down_revision = "adapters_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, with none."""
    op.add_column("versions", sa.Column("num_virtual_tokens", sa.Integer, nullable=False, server_default="0"))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("versions", "num_virtual_tokens")
