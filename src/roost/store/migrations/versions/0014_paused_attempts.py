"""Which attempts are to be paused, also while their node is lost."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    # Spelled out, for Alembic would leave the constraint aside.
    op.execute(
        "ALTER TABLE attempts ADD COLUMN paused INTEGER DEFAULT 0 NOT NULL"
        " CONSTRAINT ck_attempts_paused CHECK (paused BETWEEN 0 AND 1)"
    )
    op.execute(
        "UPDATE attempts SET paused = 1 WHERE ended_at IS NULL AND stopping = 0 AND job IN"
        " (SELECT id FROM jobs WHERE status IN ('pausing', 'paused'))"
    )
