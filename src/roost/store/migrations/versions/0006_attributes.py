"""Attributes of jobs as they were set after the submission, and the history of numeric ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
REAL: sa.Double[float] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "job_attributes",
        sa.Column("job", BIG, autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("at", BIG, nullable=False),
        sa.Column("count", BIG, nullable=False),
        sa.CheckConstraint("count >= 0", name=op.f("ck_job_attributes_count")),
        sa.ForeignKeyConstraint(
            ["job"], ["jobs.id"], name=op.f("fk_job_attributes_job"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job", "key", name=op.f("pk_job_attributes")),
        sqlite_strict=True,
    )
    op.create_table(
        "attribute_points",
        sa.Column("job", BIG, autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("number", BIG, autoincrement=False, nullable=False),
        sa.Column("at", BIG, nullable=False),
        sa.Column("value", REAL, nullable=False),
        sa.ForeignKeyConstraint(
            ["job"], ["jobs.id"], name=op.f("fk_attribute_points_job"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job", "key", "number", name=op.f("pk_attribute_points")),
        sqlite_strict=True,
    )
