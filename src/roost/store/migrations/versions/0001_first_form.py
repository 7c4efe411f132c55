"""The first form of the record: jobs with specs, edges, attempts and events; nodes; counters."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
REAL: sa.Double[float] = sa.Double().with_variant(sa.REAL(), "sqlite")


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", BIG, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counters")),
        sqlite_strict=True,
    )
    op.create_table(
        "jobs",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("submitted_by", sa.Text(), nullable=False),
        sa.Column("is_root", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("queued_at", BIG, nullable=False),
        sa.Column("priority", BIG, nullable=False),
        sa.Column("tries_left", BIG, nullable=False),
        sa.Column("progress", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("nodes", sa.Text(), nullable=False),
        sa.Column("runnable_at", BIG, nullable=True),
        sa.Column("started_at", BIG, nullable=True),
        sa.Column("command_started_at", BIG, nullable=True),
        sa.Column("command_ended_at", BIG, nullable=True),
        sa.Column("ended_at", BIG, nullable=True),
        sa.Column("command_outcome", sa.Text(), nullable=False),
        sa.Column("ui_status", sa.Text(), nullable=False),
        sa.Column("overall_progress", sa.Integer(), nullable=False),
        sa.Column("tasks_total", sa.Integer(), nullable=False),
        sa.Column("tasks_done", sa.Integer(), nullable=False),
        sa.Column("tasks_failed", sa.Integer(), nullable=False),
        sa.Column("clients_assigned", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "(status = 'cancelled' OR status = 'failed' OR "
            "status = 'succeeded') = (ended_at IS NOT NULL)",
            name=op.f("ck_jobs_ended_when_final"),
        ),
        sa.CheckConstraint(
            "command_outcome = '' OR command_outcome = 'succeeded' OR command_outcome = 'failed'",
            name=op.f("ck_jobs_command_outcome"),
        ),
        sa.CheckConstraint(
            "status = 'queued' OR status = 'runnable' OR status = 'waiting' OR "
            "status = 'running' OR status = 'pausing' OR status = 'paused' OR "
            "status = 'resuming' OR status = 'ejecting' OR status = 'ejected' OR "
            "status = 'succeeded' OR status = 'failed' OR status = 'cancelled' OR "
            "status = 'abandoned'",
            name=op.f("ck_jobs_status"),
        ),
        sa.CheckConstraint("attempt >= 0", name=op.f("ck_jobs_attempt")),
        sa.CheckConstraint("is_root BETWEEN 0 AND 1", name=op.f("ck_jobs_is_root")),
        sa.CheckConstraint(
            "overall_progress BETWEEN 0 AND 1000000", name=op.f("ck_jobs_overall_progress")
        ),
        sa.CheckConstraint("progress BETWEEN 0 AND 1000000", name=op.f("ck_jobs_progress")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sqlite_strict=True,
    )
    op.create_index("jobs_by_status", "jobs", ["status", "id"])
    op.create_index("jobs_by_submitter", "jobs", ["submitted_by", "status", "id"])
    op.create_index(
        "jobs_waiting",
        "jobs",
        ["status", "runnable_at", "priority"],
        **_where("status = 'runnable'"),
    )
    op.create_index("roots", "jobs", ["id"], **_where("is_root = 1"))
    op.create_index("roots_by_status", "jobs", ["status", "id"], **_where("is_root = 1"))
    op.create_index(
        "roots_by_submitter", "jobs", ["submitted_by", "status", "id"], **_where("is_root = 1")
    )
    op.create_table(
        "nodes",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("hostname", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("joined_at", BIG, nullable=False),
        sa.Column("last_beat_at", BIG, nullable=False),
        sa.Column("active", sa.Integer(), nullable=False),
        sa.Column("disabled", sa.Integer(), nullable=False),
        sa.Column("leaving", sa.Integer(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("load", REAL, nullable=False),
        sa.Column("idle_minutes", BIG, nullable=False),
        sa.CheckConstraint("active BETWEEN 0 AND 1", name=op.f("ck_nodes_active")),
        sa.CheckConstraint("disabled BETWEEN 0 AND 1", name=op.f("ck_nodes_disabled")),
        sa.CheckConstraint("leaving BETWEEN 0 AND 1", name=op.f("ck_nodes_leaving")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nodes")),
        sa.UniqueConstraint("hostname", "name", name=op.f("uq_nodes_hostname_name")),
        sqlite_strict=True,
    )
    op.create_table(
        "attempts",
        sa.Column("job", BIG, autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("nodes", sa.Text(), nullable=False),
        sa.Column("assigned_at", BIG, nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("started_at", BIG, nullable=True),
        sa.Column("ended_at", BIG, nullable=True),
        sa.Column("stopping", sa.Integer(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=True),
        sa.Column("exit_code", BIG, nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "(cause IS NULL) = (ended_at IS NULL)", name=op.f("ck_attempts_cause_when_ended")
        ),
        sa.CheckConstraint("number >= 1", name=op.f("ck_attempts_number")),
        sa.CheckConstraint("stopping BETWEEN 0 AND 1", name=op.f("ck_attempts_stopping")),
        sa.ForeignKeyConstraint(
            ["job"], ["jobs.id"], name=op.f("fk_attempts_job"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job", "number", name=op.f("pk_attempts")),
        sqlite_strict=True,
    )
    op.create_index("attempts_open", "attempts", ["job", "number"], **_where("ended_at IS NULL"))
    op.create_table(
        "job_edges",
        sa.Column("position", BIG, nullable=False),
        sa.Column("parent", BIG, nullable=False),
        sa.Column("child", BIG, nullable=False),
        sa.CheckConstraint("parent <> child", name=op.f("ck_job_edges_no_loop")),
        sa.ForeignKeyConstraint(
            ["child"], ["jobs.id"], name=op.f("fk_job_edges_child"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["parent"], ["jobs.id"], name=op.f("fk_job_edges_parent"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_job_edges")),
        sa.UniqueConstraint("parent", "child", name=op.f("uq_job_edges_parent_child")),
        sqlite_strict=True,
    )
    op.create_index("edges_by_child", "job_edges", ["child", "position"])
    op.create_table(
        "job_events",
        sa.Column("id", BIG, nullable=False),
        sa.Column("job", BIG, autoincrement=False, nullable=False),
        sa.Column("at", BIG, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job"], ["jobs.id"], name=op.f("fk_job_events_job"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_events")),
        sqlite_strict=True,
    )
    op.create_index("events_by_job", "job_events", ["job", "id"])
    op.create_table(
        "job_specs",
        sa.Column("job", BIG, autoincrement=False, nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job"], ["jobs.id"], name=op.f("fk_job_specs_job"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job", name=op.f("pk_job_specs")),
        sqlite_strict=True,
    )
