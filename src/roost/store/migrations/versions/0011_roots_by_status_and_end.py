"""The index of ended roots begins with the status: what failed of late is found at once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.drop_index("roots_by_end", "jobs")
    is_ended_root = sa.text("is_root = 1 AND ended_at IS NOT NULL")
    op.create_index(
        "roots_by_end",
        "jobs",
        ["status", "ended_at", "id"],
        sqlite_where=is_ended_root,
        postgresql_where=is_ended_root,
    )
