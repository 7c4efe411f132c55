"""What jobs share: client groups; resources, with the licences that HQueue has built in and no
limit on them; failures counted per tree and node. And attempts can be found by their node."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

LICENCES = ("sidefx.license.houdini", "sidefx.license.render", "sidefx.license.karma")


def upgrade() -> None:
    op.create_table(
        "client_groups",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("nodes", sa.Text(), nullable=False),
        sa.CheckConstraint("name <> ''", name=op.f("ck_client_groups_name")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_client_groups")),
        sa.UniqueConstraint("name", name=op.f("uq_client_groups_name")),
        sqlite_strict=True,
    )
    resources = op.create_table(
        "resources",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("max", BIG, nullable=True),
        sa.Column("per_machine", sa.Integer(), nullable=False),
        sa.CheckConstraint("per_machine BETWEEN 0 AND 1", name=op.f("ck_resources_per_machine")),
        sa.CheckConstraint("name <> ''", name=op.f("ck_resources_name")),
        sa.CheckConstraint("max >= 0", name=op.f("ck_resources_max")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_resources")),
        sa.UniqueConstraint("name", name=op.f("uq_resources_name")),
        sqlite_strict=True,
    )
    op.bulk_insert(
        resources,
        [
            {"id": number, "name": name, "max": None, "per_machine": 1}
            for number, name in enumerate(LICENCES, 1)
        ],
    )
    counters = sa.table("counters", sa.column("name", sa.Text), sa.column("value", BIG))
    op.bulk_insert(counters, [{"name": "next_resource_id", "value": len(LICENCES) + 1}])
    op.add_column(
        "jobs",
        sa.Column("failures", sa.Text(), nullable=False, server_default=sa.text("'[]'")),
    )
    # Spelled out, for Alembic would leave the constraint aside.
    op.execute(
        "ALTER TABLE jobs ADD COLUMN blocked_warning INTEGER DEFAULT 0 NOT NULL"
        " CONSTRAINT ck_jobs_blocked_warning CHECK (blocked_warning BETWEEN 0 AND 1)"
    )
    op.add_column("attempts", sa.Column("node", BIG, nullable=False, server_default=sa.text("0")))
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    first = "json_extract(nodes, '$[0]')" if is_sqlite else "(nodes::json->>0)::bigint"
    op.execute(f"UPDATE attempts SET node = COALESCE({first}, 0)")
    for name, condition in (
        ("attempts_by_node", "ended_at IS NOT NULL"),
        ("attempts_not_started", "cause = 'not started'"),
    ):
        where = sa.text(condition)
        op.create_index(
            name, "attempts", ["node", "ended_at"], sqlite_where=where, postgresql_where=where
        )
