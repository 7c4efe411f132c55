"""Which line of a running attempt is the latest in its job's story: the others are not new."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    last = sa.Column("last_entry", BIG, nullable=False, server_default=sa.text("0"))
    op.add_column("attempts", last)
