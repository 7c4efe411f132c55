"""The other nodes of attempts that had several, so that these too are in a node's history."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "secondary_nodes",
        sa.Column("job", BIG, autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("node", BIG, autoincrement=False, nullable=False),
        sa.Column("ended_at", BIG, nullable=False),
        sa.ForeignKeyConstraint(
            ["job"], ["jobs.id"], name=op.f("fk_secondary_nodes_job"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job", "number", "node", name=op.f("pk_secondary_nodes")),
        sqlite_strict=True,
    )
    op.create_index("secondary_nodes_by_node", "secondary_nodes", ["node", "ended_at"])
    if op.get_bind().dialect.name == "sqlite":
        each, others = "json_each(attempts.nodes) AS each", "each.key > 0"
    else:
        each = "json_array_elements_text(attempts.nodes::json) WITH ORDINALITY AS each(value, key)"
        others = "each.key > 1"
    op.execute(
        "INSERT INTO secondary_nodes (job, number, node, ended_at)"
        " SELECT attempts.job, attempts.number, CAST(each.value AS BIGINT), attempts.ended_at"
        f" FROM attempts, {each} WHERE attempts.ended_at IS NOT NULL AND {others}"
    )
