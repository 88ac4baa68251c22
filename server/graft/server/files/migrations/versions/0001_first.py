"""The first tables: files, and who needs them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "files_0001"
down_revision = None
branch_labels = ("files",)
depends_on = "adapters_0001"

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "files",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("tenant", sa.String(63), sa.ForeignKey("tenants.name"), nullable=False),
        sa.Column("purpose", sa.String(32), nullable=False),
        sa.Column("filename", sa.String(255), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("expire_time", _TIME, nullable=True),
        sa.UniqueConstraint("tenant", "id", name="files_of_tenant"),
    )
    op.create_table(
        "file_holds",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("file", sa.String(32), primary_key=True),
        sa.Column("holder", sa.String(64), primary_key=True),
        sa.ForeignKeyConstraint(["tenant", "file"], ["files.tenant", "files.id"], name="file_holds_file"),
    )
    op.create_index("file_holds_holder", "file_holds", ["holder"])


def downgrade() -> None:
    """Drop every table."""
    for name in ("file_holds", "files"):
        op.drop_table(name)
