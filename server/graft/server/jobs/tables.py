"""The tables of jobs. Every row names its tenant, or a job that does."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

from graft.adapters.catalog import tables as catalog
from graft.adapters.catalog.tables import UtcDateTime

MIGRATIONS = "graft.server.jobs:migrations/versions"
"""An Alembic branch beside the catalog's, whose tenants it refers to, and the files'."""
metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(63), ForeignKey(catalog.tenants.c.name), nullable=False),
    Column("state", String(20), nullable=False),
    Column("spec", JSON, nullable=False),
    Column("priority", Integer, nullable=False),
    # In the queue's virtual time; what was charged once costs nothing when it waits again.
    Column("cost", Float, nullable=False),
    Column("is_charged", Boolean, nullable=False),
    # None: nobody has it. See policy/lease.py.
    Column("worker", String(128), nullable=True),
    Column("fence", Integer, nullable=False),
    Column("beat", BigInteger, nullable=False),
    # The last report of the worker that has it.
    Column("num_reports", BigInteger, nullable=False),
    Column("num_losses", Integer, nullable=False),
    Column("num_events", Integer, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("finish_time", UtcDateTime, nullable=True),
    Column("error", JSON(none_as_null=True), nullable=True),
    Column("result", JSON(none_as_null=True), nullable=True),
    Column("start", JSON(none_as_null=True), nullable=True),
    Column("plan", JSON(none_as_null=True), nullable=True),
    Column("progress", JSON, nullable=False),
    Column("resolved", JSON, nullable=False),
    Index("jobs_state", "state"),
    Index("jobs_tenant", "tenant", "id"),
)

events = Table(
    "job_events",
    metadata,
    Column("job", String(32), ForeignKey("jobs.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("level", String(8), nullable=False),
    Column("is_metrics", Boolean, nullable=False),
    Column("message", Text, nullable=False),
    Column("data", JSON(none_as_null=True), nullable=True),
    Column("state", String(20), nullable=False),
)

checkpoints = Table(
    "job_checkpoints",
    metadata,
    Column("job", String(32), ForeignKey("jobs.id"), primary_key=True),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("version_digest", String(71), nullable=False),
    Column("metrics", JSON, nullable=False),
)

# One row: the queue's virtual time. Whoever claims writes it first, and so waits for others who do.
queue = Table(
    "job_queue",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("virtual_time", Float, nullable=False),
)

shares = Table(
    "job_shares",
    metadata,
    Column("tenant", String(63), ForeignKey(catalog.tenants.c.name), primary_key=True),
    Column("finish", Float, nullable=False),
)
