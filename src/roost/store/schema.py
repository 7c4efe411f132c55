"""The tables: what a row is, which rows are legal, and which index serves which question.

Knows SQLAlchemy Core and the words of `core.records`, and must not know how rows are read or
written. Moments are integer milliseconds; lists and specs are JSON text that no statement looks
into; flags are 0 or 1. CHECK constraints repeat the core's lifecycle, so that a wrong row cannot
be stored by any program. Nothing here exists in only one database: PostgreSQL ignores the STRICT
mark, and partial indexes are spelled for both.

The state of a job changes often and its specification never, hence two tables: an update of a
job rewrites some 200 bytes however long its command is. Indexes that name the status change with
every move of a job; there are as few of them as the listings allow.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    func,
    literal_column,
    select,
    text,
)

from roost.core.lifecycle import FINAL
from roost.core.records import PROGRESS_UNIT, JobStatus

# STRICT tables refuse the type names BIGINT and DOUBLE; SQLite's own names are as wide.
Big = BigInteger().with_variant(Integer(), "sqlite")
Real: Double[float] = Double().with_variant(REAL(), "sqlite")

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def _one_of(column: str, words: Iterable[str]) -> str:
    # Not IN: for more than two words SQLite builds a table of them at every statement, which
    # costs an update of a job more than all its indexes.
    return " OR ".join(f"{column} = '{word}'" for word in words)


def _flag(name: str) -> tuple[Column[int], CheckConstraint]:
    return Column(name, Integer, nullable=False), CheckConstraint(
        f"{name} BETWEEN 0 AND 1", name=name
    )


def _share(name: str) -> tuple[Column[int], CheckConstraint]:
    check = CheckConstraint(f"{name} BETWEEN 0 AND {PROGRESS_UNIT}", name=name)
    return Column(name, Integer, nullable=False), check


jobs = Table(
    "jobs",
    metadata,
    Column("id", Big, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("submitted_by", Text, nullable=False),
    *_flag("is_root"),
    Column("status", Text, nullable=False),
    Column("queued_at", Big, nullable=False),
    Column("priority", Big, nullable=False),
    Column("tries_left", Big, nullable=False),
    *_share("progress"),
    Column("attempt", Integer, nullable=False),
    Column("nodes", Text, nullable=False),
    Column("runnable_at", Big),
    Column("started_at", Big),
    Column("command_started_at", Big),
    Column("command_ended_at", Big),
    Column("ended_at", Big),
    Column("command_outcome", Text, nullable=False),
    Column("ui_status", Text, nullable=False),
    *_share("overall_progress"),
    Column("tasks_total", Integer, nullable=False),
    Column("tasks_done", Integer, nullable=False),
    Column("tasks_failed", Integer, nullable=False),
    Column("clients_assigned", Integer, nullable=False),
    # A column that came later has a default, for the rows that were there.
    Column("failures", Text, nullable=False, server_default=text("'[]'")),
    Column("blocked_warning", Integer, nullable=False, server_default=text("0")),
    CheckConstraint("blocked_warning BETWEEN 0 AND 1", name="blocked_warning"),
    CheckConstraint(_one_of("status", JobStatus), name="status"),
    CheckConstraint(
        f"({_one_of('status', sorted(FINAL))}) = (ended_at IS NOT NULL)",
        name="ended_when_final",
    ),
    CheckConstraint(
        _one_of("command_outcome", ("", "succeeded", "failed")), name="command_outcome"
    ),
    CheckConstraint("attempt >= 0", name="attempt"),
    sqlite_strict=True,
)

# Partial indexes only serve a query that repeats their condition literally, hence no parameters.
IS_ROOT = jobs.c.is_root == literal_column("1")
IS_WAITING = jobs.c.status == literal_column("'runnable'")

Index("jobs_by_status", jobs.c.status, jobs.c.id)
Index("jobs_by_submitter", jobs.c.submitted_by, jobs.c.status, jobs.c.id)
Index("roots", jobs.c.id, sqlite_where=IS_ROOT, postgresql_where=IS_ROOT)
Index("roots_by_status", jobs.c.status, jobs.c.id, sqlite_where=IS_ROOT, postgresql_where=IS_ROOT)
Index(
    "roots_by_submitter",
    jobs.c.submitted_by,
    jobs.c.status,
    jobs.c.id,
    sqlite_where=IS_ROOT,
    postgresql_where=IS_ROOT,
)
IS_ENDED_ROOT = IS_ROOT & jobs.c.ended_at.is_not(None)
Index(
    "roots_by_end",
    jobs.c.status,
    jobs.c.ended_at,
    jobs.c.id,
    sqlite_where=IS_ENDED_ROOT,
    postgresql_where=IS_ENDED_ROOT,
)
# Its first column is the same throughout, but makes SQLite prefer it to jobs_by_status.
Index(
    "jobs_waiting",
    jobs.c.status,
    jobs.c.runnable_at,
    jobs.c.priority,
    sqlite_where=IS_WAITING,
    postgresql_where=IS_WAITING,
)


def _of_job(*, primary_key: bool = False) -> Column[int]:
    """The job a row belongs to, and goes with when the job is deleted."""
    key = ForeignKey("jobs.id", ondelete="CASCADE")
    return Column("job", Big, key, primary_key=primary_key, autoincrement=False, nullable=False)


job_specs = Table(
    "job_specs",
    metadata,
    _of_job(primary_key=True),
    Column("spec", Text, nullable=False),
    sqlite_strict=True,
)

job_edges = Table(
    "job_edges",
    metadata,
    # Counts up over all edges: orders the children of a parent and the parents of a child.
    Column("position", Big, primary_key=True),
    Column("parent", Big, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("child", Big, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    UniqueConstraint("parent", "child"),
    CheckConstraint("parent <> child", name="no_loop"),
    sqlite_strict=True,
)
Index("edges_by_child", job_edges.c.child, job_edges.c.position)

attempts = Table(
    "attempts",
    metadata,
    _of_job(primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("nodes", Text, nullable=False),
    Column("assigned_at", Big, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("started_at", Big),
    Column("ended_at", Big),
    *_flag("stopping"),
    Column("cause", Text),
    Column("exit_code", Big),
    Column("text", Text, nullable=False),
    # The first of its nodes once more, for the questions that begin with a node.
    Column("node", Big, nullable=False, server_default=text("0")),
    Column("last_entry", Big, nullable=False, server_default=text("0")),
    Column("paused", Integer, nullable=False, server_default=text("0")),
    CheckConstraint("paused BETWEEN 0 AND 1", name="paused"),
    CheckConstraint("number >= 1", name="number"),
    CheckConstraint("(cause IS NULL) = (ended_at IS NULL)", name="cause_when_ended"),
    sqlite_strict=True,
)

IS_OPEN = attempts.c.ended_at.is_(None)
Index(
    "attempts_open",
    attempts.c.job,
    attempts.c.number,
    sqlite_where=IS_OPEN,
    postgresql_where=IS_OPEN,
)

HAS_ENDED = attempts.c.ended_at.is_not(None)
NOT_STARTED = attempts.c.cause == literal_column("'not started'")
Index(
    "attempts_by_node",
    attempts.c.node,
    attempts.c.ended_at,
    sqlite_where=HAS_ENDED,
    postgresql_where=HAS_ENDED,
)
Index(
    "attempts_not_started",
    attempts.c.node,
    attempts.c.ended_at,
    sqlite_where=NOT_STARTED,
    postgresql_where=NOT_STARTED,
)

# The rest of the nodes of the few attempts that had several, once they have ended: a list cannot be
# looked into by an index, and a table with a row for every node of every attempt would double
# what the end of a job writes.
secondary_nodes = Table(
    "secondary_nodes",
    metadata,
    _of_job(primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("node", Big, primary_key=True, autoincrement=False),
    Column("ended_at", Big, nullable=False),
    sqlite_strict=True,
)
Index("secondary_nodes_by_node", secondary_nodes.c.node, secondary_nodes.c.ended_at)

nodes = Table(
    "nodes",
    metadata,
    Column("id", Big, primary_key=True, autoincrement=False),
    # Folded: what makes it the same node when it joins again. The spelling is in the facts.
    Column("hostname", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("facts", Text, nullable=False),
    Column("joined_at", Big, nullable=False),
    Column("last_beat_at", Big, nullable=False),
    *_flag("active"),
    *_flag("disabled"),
    *_flag("leaving"),
    Column("description", Text, nullable=False),
    Column("load", Real, nullable=False),
    Column("idle_minutes", Big, nullable=False),
    Column("availability", Text, nullable=False, server_default=text("'[]'")),
    UniqueConstraint("hostname", "name"),
    sqlite_strict=True,
)

groups = Table(
    "client_groups",
    metadata,
    Column("id", Big, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("nodes", Text, nullable=False),
    UniqueConstraint("name"),
    CheckConstraint("name <> ''", name="name"),
    sqlite_strict=True,
)

resources = Table(
    "resources",
    metadata,
    Column("id", Big, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("max", Big),
    *_flag("per_machine"),
    UniqueConstraint("name"),
    CheckConstraint("name <> ''", name="name"),
    CheckConstraint("max >= 0", name="max"),
    sqlite_strict=True,
)

threads = Table(
    "threads",
    metadata,
    Column("id", Big, primary_key=True, autoincrement=False),
    Column("job", Big, ForeignKey("jobs.id", ondelete="CASCADE")),
    Column("node", Big, ForeignKey("nodes.id", ondelete="CASCADE")),
    UniqueConstraint("job"),
    UniqueConstraint("node"),
    CheckConstraint("job IS NULL OR node IS NULL", name="about_one"),
    sqlite_strict=True,
)

notes = Table(
    "notes",
    metadata,
    Column("id", Big, primary_key=True, autoincrement=False),
    Column("thread", Big, ForeignKey("threads.id", ondelete="CASCADE"), nullable=False),
    Column("at", Big, nullable=False),
    Column("text", Text, nullable=False),
    CheckConstraint("text <> ''", name="text"),
    sqlite_strict=True,
)
Index("notes_by_thread", notes.c.thread, notes.c.id)

job_events = Table(
    "job_events",
    metadata,
    Column("id", Big, primary_key=True),
    _of_job(),
    Column("at", Big, nullable=False),
    Column("status", Text, nullable=False),
    Column("message", Text, nullable=False),
    sqlite_strict=True,
)
Index("events_by_job", job_events.c.job, job_events.c.id)

# What attributes became after the submission; those of the specification stay there. Setting one
# writes its row and, if it is a number, perhaps a point.
job_attributes = Table(
    "job_attributes",
    metadata,
    _of_job(primary_key=True),
    # Folded: what makes two names the same. The spelling is in `name`.
    Column("key", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("at", Big, nullable=False),
    Column("count", Big, nullable=False),
    CheckConstraint("count >= 0", name="count"),
    sqlite_strict=True,
)

attribute_points = Table(
    "attribute_points",
    metadata,
    _of_job(primary_key=True),
    Column("key", Text, primary_key=True),
    Column("number", Big, primary_key=True, autoincrement=False),
    Column("at", Big, nullable=False),
    Column("value", Real, nullable=False),
    sqlite_strict=True,
)

notices = Table(
    "notices",
    metadata,
    Column("id", Big, primary_key=True, autoincrement=False),
    Column("channel", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("job", Big, nullable=False),
    Column("name", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Big, nullable=False),
    Column("text", Text, nullable=False),
    sqlite_strict=True,
)
"""Not delivered yet. They outlive the job that they tell of."""

activities = Table(
    "activities",
    metadata,
    Column("id", Big, primary_key=True),
    Column("at", Big, nullable=False),
    Column("by", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("jobs", Text, nullable=False),
    Column("jobs_total", Integer, nullable=False),
    Column("node", Big),
    sqlite_strict=True,
)
"""What people did. They outlive the jobs and nodes they tell of."""

samples = Table(
    "samples",
    metadata,
    Column("at", Big, primary_key=True, autoincrement=False),
    *(
        Column(name, Big, nullable=False)
        for name in (
            "running",
            "waiting",
            "cpus",
            "cpus_busy",
            "nodes",
            "nodes_active",
            "nodes_busy",
            "ended",
            "failed",
            "wait_p50_ms",
            "wait_p90_ms",
            "wait_p99_ms",
        )
    ),
    sqlite_strict=True,
)
"""The farm's numbers minute by minute; the fields of `gateway.Sample`."""

journal = Table(
    "journal",
    metadata,
    Column("number", Big, primary_key=True),
    *_flag("is_last"),
    Column("text", Text, nullable=False),
    sqlite_strict=True,
)
"""What was submitted and has no rows yet: see `store.journal`."""

journal_refused = Table(
    "journal_refused",
    metadata,
    Column("number", Big, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("text", Text, nullable=False),
    sqlite_strict=True,
)
"""What can have no rows, and why."""

counters = Table(
    "counters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Big, nullable=False),
    sqlite_strict=True,
)


def listed(name: str) -> Select[tuple[int]]:
    """The ids in the list that is bound to this name (see `as_list`): one parameter however many
    they are, and one statement to prepare. SQLite's spelling."""
    values = func.json_each(bindparam(name)).table_valued("value", name="listed")
    return select(values.c.value)


def as_list(ids: Iterable[int]) -> str:
    return f"[{','.join(map(str, ids))}]"
