"""What people did to the farm, and its numbers minute by minute."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
COUNTS = (
    "running",
    "waiting",
    "cpus",
    "cpus_busy",
    "nodes",
    "nodes_active",
    "nodes_busy",
    "ended",
    "failed",
    "wait_p50_ms",
    "wait_p90_ms",
    "wait_p99_ms",
)


def upgrade() -> None:
    op.create_table(
        "activities",
        sa.Column("id", BIG, nullable=False),
        sa.Column("at", BIG, nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("jobs", sa.Text(), nullable=False),
        sa.Column("jobs_total", sa.Integer(), nullable=False),
        sa.Column("node", BIG),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_activities")),
        sqlite_strict=True,
    )
    op.create_table(
        "samples",
        sa.Column("at", BIG, autoincrement=False, nullable=False),
        *(sa.Column(name, BIG, nullable=False) for name in COUNTS),
        sa.PrimaryKeyConstraint("at", name=op.f("pk_samples")),
        sqlite_strict=True,
    )
