"""The first tables: prompts, their versions and labels, and what changed when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "prompts_0001"
down_revision = None
branch_labels = ("prompts",)
depends_on = "adapters_0001"

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "prompts",
        sa.Column("tenant", sa.String(63), sa.ForeignKey("tenants.name"), primary_key=True),
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("next_number", sa.Integer, nullable=False),
    )
    _versions()
    _labels()
    latest = op.create_table(
        "prompt_revision", sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False)
    )
    op.bulk_insert(latest, [{"number": 1}])
    op.create_table(
        "prompt_changes",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("prompt", sa.String(128), primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_index("prompt_changes_revision", "prompt_changes", ["revision"])


def downgrade() -> None:
    """Drop every table."""
    for name in ("prompt_changes", "prompt_revision", "prompt_labels", "prompt_versions", "prompts"):
        op.drop_table(name)


def _versions() -> None:
    op.create_table(
        "prompt_versions",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("prompt", sa.String(128), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("commit_message", sa.Text, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "prompt"], ["prompts.tenant", "prompts.name"], name="prompt_versions_prompt"
        ),
        sa.UniqueConstraint("tenant", "prompt", "digest", name="prompt_versions_digest"),
    )


def _labels() -> None:
    op.create_table(
        "prompt_labels",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("prompt", sa.String(128), primary_key=True),
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("version_number", sa.Integer, nullable=False),
        sa.Column("etag", sa.String(32), nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "prompt", "version_number"],
            ["prompt_versions.tenant", "prompt_versions.prompt", "prompt_versions.number"],
            name="prompt_labels_version",
        ),
    )
