"""When a node takes jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column(
        "nodes",
        sa.Column("availability", sa.Text(), nullable=False, server_default=sa.text("'[]'")),
    )
