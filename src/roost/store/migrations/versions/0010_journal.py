"""What was submitted and has no rows yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "journal",
        sa.Column("number", BIG, nullable=False),
        sa.Column("is_last", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.CheckConstraint("is_last BETWEEN 0 AND 1", name=op.f("ck_journal_is_last")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_journal")),
        sqlite_strict=True,
    )
