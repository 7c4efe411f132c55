"""Ended roots by the moment they ended, for jobs to expire."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    where = sa.text("is_root = 1 AND ended_at IS NOT NULL")
    op.create_index(
        "roots_by_end", "jobs", ["ended_at", "id"], sqlite_where=where, postgresql_where=where
    )
