"""Message threads and their notes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "threads",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("job", BIG, nullable=True),
        sa.Column("node", BIG, nullable=True),
        sa.CheckConstraint("job IS NULL OR node IS NULL", name=op.f("ck_threads_about_one")),
        sa.ForeignKeyConstraint(
            ["job"], ["jobs.id"], name=op.f("fk_threads_job"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["node"], ["nodes.id"], name=op.f("fk_threads_node"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_threads")),
        sa.UniqueConstraint("job", name=op.f("uq_threads_job")),
        sa.UniqueConstraint("node", name=op.f("uq_threads_node")),
        sqlite_strict=True,
    )
    op.create_table(
        "notes",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("thread", BIG, nullable=False),
        sa.Column("at", BIG, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.CheckConstraint("text <> ''", name=op.f("ck_notes_text")),
        sa.ForeignKeyConstraint(
            ["thread"], ["threads.id"], name=op.f("fk_notes_thread"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notes")),
        sqlite_strict=True,
    )
    op.create_index("notes_by_thread", "notes", ["thread", "id"])
