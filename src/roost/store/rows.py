"""Records to rows and back, one function pair per record; saving a batch, loading what is alive.

Knows `core.records`, `core.messages.Changes` and the schema, and must not know threads, files or
transactions: the caller owns the connection and its transaction. A round trip is the identity.
The order of writing is such that every foreign key holds at every statement, and deletion comes
last, so a record may be made and forgotten in one batch.

Rows are plain tuples in the order of named columns and go to the driver in one `executemany` per
kind of change. Statements are built here once, from the schema; `Bulk` has each compiled once
per database, for SQLAlchemy's own parameter handling costs more than SQLite's insert.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from operator import attrgetter
from typing import Any, TypeVar

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Executable,
    Select,
    Table,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal_column,
    not_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import UpdateBase

from roost.core.attributes import fold
from roost.core.lifecycle import FINAL
from roost.core.messages import Changes, LiveRecords
from roost.core.records import (
    Activity,
    Attempt,
    AttemptCause,
    Attribute,
    AttributePoint,
    AvailabilityRule,
    Event,
    Group,
    GroupId,
    Job,
    JobId,
    JobSpec,
    JobStatus,
    Moment,
    Node,
    NodeFacts,
    NodeId,
    Note,
    NoteId,
    Notice,
    Resource,
    ResourceId,
    Rollup,
    Thread,
    ThreadId,
    lean,
)
from roost.gateway import Sample
from roost.store import schema

Row = Sequence[Any]
T = TypeVar("T")

CHUNK = 5_000
"""Ids per IN list; far below the number of parameters either database takes."""

# --- statements -------------------------------------------------------------------------------


class Bulk:
    """A writing statement for many rows, each a tuple with a value for every one of `names`."""

    def __init__(self, names: Sequence[str], build: Callable[[Dialect], UpdateBase]) -> None:
        self._names = list(names)
        self._build = build
        self._compiled: dict[str, tuple[str, bool]] = {}

    def run(self, connection: Connection, rows: list[tuple[Any, ...]]) -> None:
        if not rows:
            return
        dialect = connection.dialect
        if dialect.name not in self._compiled:
            self._compiled[dialect.name] = self._compile(dialect)
        sql, positional = self._compiled[dialect.name]
        # Past SQLAlchemy, whose own part of an `executemany` costs more than a few rows do.
        driver = connection.connection.dbapi_connection
        assert driver is not None
        cursor = driver.cursor()
        try:
            if positional:
                cursor.executemany(sql, rows)
            else:
                cursor.executemany(sql, [dict(zip(self._names, row, strict=True)) for row in rows])
        finally:
            cursor.close()

    def _compile(self, dialect: Dialect) -> tuple[str, bool]:
        compiled = self._build(dialect).compile(dialect=dialect, column_keys=self._names)
        places: list[str] | None = getattr(compiled, "positiontup", None)
        assert places is None or places == self._names, (places, self._names)
        return str(compiled), places is not None


def _insert(table: Table, names: Sequence[str]) -> Bulk:
    return Bulk(names, lambda dialect: insert(table))


def _upsert(table: Table) -> Bulk:
    """Write the row whole, whether it is new or not: the one spelling SQLAlchemy has no word for
    that covers both databases."""
    keys = list(table.primary_key.columns)

    def build(dialect: Dialect) -> UpdateBase:
        kind = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
        statement = kind(table)
        others = {c.name: c for c in statement.excluded if c.name not in table.primary_key.columns}
        return statement.on_conflict_do_update(index_elements=keys, set_=others)

    return Bulk([column.name for column in table.columns], build)


def _delete(table: Table) -> Bulk:
    """Rows by their `id`."""
    is_this = table.c.id == bindparam("this")
    return Bulk(("this",), lambda dialect: delete(table).where(is_this))


JOB_STATE = (
    "status",
    "queued_at",
    "priority",
    "tries_left",
    "progress",
    "attempt",
    "nodes",
    "runnable_at",
    "started_at",
    "command_started_at",
    "command_ended_at",
    "ended_at",
    "command_outcome",
    "ui_status",
    "overall_progress",
    "tasks_total",
    "tasks_done",
    "tasks_failed",
    "clients_assigned",
    "failures",
    "blocked_warning",
)
"""Columns that follow the record; the others stay as they were submitted."""

JOB_COLUMNS = tuple(schema.jobs.c[name] for name in ("id", "name", *JOB_STATE))
"""What `job_of` and `rollup_of` read."""

_INSERT_JOB = _insert(schema.jobs, ("id", "name", "submitted_by", "is_root", *JOB_STATE))
_INSERT_SPEC = _insert(schema.job_specs, ("job", "spec"))
_INSERT_EDGE = _insert(schema.job_edges, ("parent", "child"))
_INSERT_EVENT = _insert(schema.job_events, ("job", "at", "status", "message"))
_INSERT_THREAD = _insert(schema.threads, ("id", "job", "node"))
_INSERT_NOTICE = _insert(schema.notices, tuple(column.name for column in schema.notices.columns))
_DELETE_NOTICE = _delete(schema.notices)
_INSERT_ACTIVITY = _insert(
    schema.activities, tuple(c.name for c in schema.activities.columns if c.name != "id")
)
_UPSERT_SAMPLE = _upsert(schema.samples)
_INSERT_NOTE = _insert(schema.notes, ("id", "thread", "at", "text"))
_UPSERT_ATTEMPT = _upsert(schema.attempts)
_UPSERT_SECONDARY_NODE = _upsert(schema.secondary_nodes)
_UPSERT_NODE = _upsert(schema.nodes)
_UPSERT_GROUP = _upsert(schema.groups)
_UPSERT_RESOURCE = _upsert(schema.resources)
_UPSERT_COUNTER = _upsert(schema.counters)
_UPSERT_ATTRIBUTE = _upsert(schema.job_attributes)
_INSERT_POINT = _insert(schema.attribute_points, ("job", "key", "number", "at", "value"))
_THIN_POINTS = Bulk(
    ("of", "called", "stride"),
    lambda dialect: delete(schema.attribute_points).where(
        schema.attribute_points.c.job == bindparam("of"),
        schema.attribute_points.c.key == bindparam("called"),
        schema.attribute_points.c.number % bindparam("stride", type_=schema.Big)
        != literal_column("0"),
    ),
)
_UPDATE_JOB = Bulk(
    (*JOB_STATE, "this"),
    lambda dialect: update(schema.jobs).where(schema.jobs.c.id == bindparam("this")),
)
_UPDATE_SPEC = Bulk(
    ("spec", "this"),
    lambda dialect: update(schema.job_specs).where(schema.job_specs.c.job == bindparam("this")),
)
_DELETE_JOB = _delete(schema.jobs)
_DELETE_GROUP = _delete(schema.groups)
_DELETE_RESOURCE = _delete(schema.resources)
_DELETE_THREAD = _delete(schema.threads)
_DELETE_NOTE = _delete(schema.notes)
_DELETE_EDGE = Bulk(
    ("over", "under"),
    lambda dialect: delete(schema.job_edges).where(
        schema.job_edges.c.parent == bindparam("over"),
        schema.job_edges.c.child == bindparam("under"),
    ),
)
_HAS_PARENT = exists().where(schema.job_edges.c.child == schema.jobs.c.id)
_MARK_ROOT = (
    update(schema.jobs)
    .where(schema.jobs.c.id.in_(bindparam("ids", expanding=True)))
    .values(is_root=case((not_(_HAS_PARENT), 1), else_=0))
)


def fetch(connection: Connection, statement: Executable, **values: object) -> list[Row]:
    """The rows of a reading statement as the driver has them: plain tuples. Rows of SQLAlchemy's
    cost as much again as reading them."""
    result = connection.execute(statement, values)
    try:
        return [*result.cursor.fetchall()]
    finally:
        result.close()


def fetch_ids(connection: Connection, statement: Select[tuple[int]]) -> list[JobId]:
    """The ids that a statement of one column finds, in no order; as one row, which takes a third of
    the time."""
    listed = select(func.json_group_array(statement.subquery().c[0]))
    return _IDS.decode(fetch(connection, listed)[0][0])


# --- records ----------------------------------------------------------------------------------

_SPEC = msgspec.json.Decoder(JobSpec)
_FACTS = msgspec.json.Decoder(NodeFacts)
_RULES = msgspec.json.Decoder(tuple[AvailabilityRule, ...])
_NODES = msgspec.json.Decoder(tuple[NodeId, ...])
_FAILURES = msgspec.json.Decoder(tuple[tuple[NodeId, int], ...])
_IDS = msgspec.json.Decoder(list[JobId])
_encode = msgspec.json.Encoder().encode
_STATUS = {status.value: status for status in JobStatus}
_CAUSE = {cause.value: cause for cause in AttemptCause}


def spec_text(spec: JobSpec) -> str:
    return _encode(spec).decode()


def spec_of(text: str) -> JobSpec:
    return _SPEC.decode(text)


def _nodes_text(nodes: tuple[NodeId, ...]) -> str:
    return _encode(nodes).decode() if nodes else "[]"


def _nodes_of(text: str) -> tuple[NodeId, ...]:
    return _NODES.decode(text) if text != "[]" else ()


def job_state(job: Job, rollup: Rollup) -> tuple[Any, ...]:
    """Values of `JOB_STATE`."""
    return (
        job.status.value,
        job.queued_at,
        job.priority,
        job.tries_left,
        job.progress,
        job.attempt,
        _nodes_text(job.nodes),
        job.runnable_at,
        job.started_at,
        job.command_started_at,
        job.command_ended_at,
        job.ended_at,
        job.command_outcome,
        rollup.ui_status,
        rollup.overall_progress,
        rollup.tasks_total,
        rollup.tasks_done,
        rollup.tasks_failed,
        rollup.clients_assigned,
        _encode(job.failures).decode() if job.failures else "[]",
        int(job.blocked_warning),
    )


def job_of(row: Row, spec: JobSpec) -> Job:
    """The job of a row that begins with `JOB_COLUMNS`."""
    (
        job, _, status, queued, priority, tries, progress, attempt, nodes, runnable, started,
        command_started, command_ended, ended, outcome, _, _, _, _, _, _, failures, warning,
    ) = row[:23]  # fmt: skip
    return Job(
        job, spec, _STATUS[status], queued, priority, tries, progress, attempt,
        () if nodes == "[]" else _NODES.decode(nodes), runnable, started, command_started,
        command_ended, ended, outcome, () if failures == "[]" else _FAILURES.decode(failures),
        warning == 1,
    )  # fmt: skip


def rollup_of(row: Row) -> Rollup:
    """The roll-up of a row that begins with `JOB_COLUMNS`."""
    return Rollup(*row[15:21])


def attempt_row(attempt: Attempt) -> tuple[Any, ...]:
    return (
        attempt.job,
        attempt.number,
        _nodes_text(attempt.nodes),
        attempt.assigned_at,
        attempt.purpose,
        attempt.started_at,
        attempt.ended_at,
        int(attempt.stopping),
        attempt.cause and attempt.cause.value,
        attempt.exit_code,
        attempt.text,
        attempt.nodes[0] if attempt.nodes else 0,
        attempt.last_entry,
        int(attempt.paused),
    )


def attempt_of(row: Row) -> Attempt:
    """The attempt of a whole row of `attempts`."""
    (
        job, number, nodes, assigned, purpose, started, ended, stopping, cause, code, text, _, last,
        paused,
    ) = row  # fmt: skip
    return Attempt(
        job, number, _nodes_of(nodes), assigned, purpose, started, ended, bool(stopping),
        None if cause is None else _CAUSE[cause], code, text, last,
        bool(paused),
    )  # fmt: skip


def node_row(node: Node) -> tuple[Any, ...]:
    hostname, name = node.facts.key
    return (
        node.id,
        hostname,
        name,
        _encode(node.facts).decode(),
        node.joined_at,
        node.last_beat_at,
        int(node.active),
        int(node.disabled),
        int(node.leaving),
        node.description,
        node.load,
        node.idle_minutes,
        _encode(node.availability).decode() if node.availability else "[]",
    )


def node_of(row: Row) -> Node:
    """The node of a whole row of `nodes`."""
    node, _, _, facts, joined, beat, active, disabled, leaving, description, *rest = row
    load, idle, availability = rest
    return Node(
        node, _FACTS.decode(facts), joined, beat, bool(active), bool(disabled), bool(leaving),
        description, load, idle, _RULES.decode(availability),
    )  # fmt: skip


def group_row(group: Group) -> tuple[Any, ...]:
    return (group.id, group.name, _nodes_text(group.nodes))


def group_of(row: Row) -> Group:
    """The group of a whole row of `client_groups`."""
    group, name, nodes = row
    return Group(GroupId(group), name, _nodes_of(nodes))


def resource_row(resource: Resource) -> tuple[Any, ...]:
    return (resource.id, resource.name, resource.max, int(resource.per_machine))


def resource_of(row: Row) -> Resource:
    """The resource of a whole row of `resources`."""
    resource, name, maximum, per_machine = row
    return Resource(ResourceId(resource), name, maximum, bool(per_machine))


def notice_row(notice: Notice) -> tuple[Any, ...]:
    return msgspec.structs.astuple(notice)


def notice_of(row: Row) -> Notice:
    """The notice of a whole row of `notices`."""
    return Notice(*row)


def activity_row(activity: Activity) -> tuple[Any, ...]:
    jobs = msgspec.json.encode(activity.jobs).decode()
    return (
        activity.at,
        activity.by,
        activity.action,
        activity.text,
        jobs,
        activity.jobs_total,
        activity.node,
    )


def activity_of(row: Row) -> Activity:
    """The activity of a whole row of `activities`."""
    _, at, by, action, text, jobs, jobs_total, node = row
    return Activity(at, by, action, text, tuple(msgspec.json.decode(jobs)), jobs_total, node)


def save_sample(connection: Connection, sample: Sample, forget_before: Moment) -> None:
    """Add the sample, and forget those from before."""
    row = tuple(getattr(sample, column.name) for column in schema.samples.columns)
    _UPSERT_SAMPLE.run(connection, [row])
    connection.execute(delete(schema.samples).where(schema.samples.c.at < forget_before))


def forget_activities(connection: Connection, before: Moment, most: int) -> None:
    """The oldest ones, as far as they are from before; at most so many."""
    columns = schema.activities.c
    oldest = connection.execute(select(func.min(columns.id))).scalar()
    if oldest is not None:
        old = (columns.id < oldest + most, columns.at < before)
        connection.execute(delete(schema.activities).where(*old))


def note_row(note: Note) -> tuple[Any, ...]:
    return (note.id, note.thread, note.at, note.text)


def note_of(row: Row) -> Note:
    """The note of a whole row of `notes`."""
    return Note(*row)


def event_row(event: Event) -> tuple[Any, ...]:
    return (event.job, event.at, event.status, event.message)


def event_of(row: Row) -> Event:
    """The event of a row (job, at, status, message)."""
    return Event(*row)


def attribute_row(attribute: Attribute) -> tuple[Any, ...]:
    key = fold(attribute.name)
    return (attribute.job, key, attribute.name, attribute.text, attribute.at, attribute.count)


def attribute_of(row: Row) -> Attribute:
    """The attribute of a whole row of `job_attributes`."""
    job, _, name, text, at, count = row
    return Attribute(job, name, text, at, count)


def point_row(point: AttributePoint) -> tuple[Any, ...]:
    return (point.job, point.name, point.number, point.at, point.value)


def point_of(row: Row) -> AttributePoint:
    """The point of a whole row of `attribute_points`."""
    return AttributePoint(*row)


# --- saving -----------------------------------------------------------------------------------


def save_changes(connection: Connection, changes: Changes) -> None:
    """Write one batch. What belongs to a job that the same batch deletes is not written."""
    gone = set(changes.deleted)
    edges = [edge for edge in changes.edges if gone.isdisjoint(edge)]
    _save_jobs(connection, changes, gone, {child for _, child in edges})
    _INSERT_EDGE.run(connection, edges)
    _DELETE_EDGE.run(connection, list(changes.edges_removed))
    _save_attempts(connection, [one for one in changes.attempts if one.job not in gone])
    _INSERT_EVENT.run(
        connection, [event_row(event) for event in changes.events if event.job not in gone]
    )
    _save_attributes(connection, changes, gone)
    # Whose place among the roots may have changed; the new ones were put in theirs already.
    moved = {child for _, child in edges}.difference(job.id for job, _ in changes.submitted)
    moved.update(child for _, child in changes.edges_removed)
    moved.update(_children_of(connection, gone))
    _DELETE_JOB.run(connection, [(job,) for job in changes.deleted])
    for chunk in chunks(sorted(moved - gone)):
        connection.execute(_MARK_ROOT, {"ids": chunk})
    _UPSERT_NODE.run(connection, [node_row(node) for node in changes.nodes])
    # Deletion first: a name may have been given to another in the same batch.
    _DELETE_GROUP.run(connection, [(group,) for group in changes.groups_deleted])
    _UPSERT_GROUP.run(connection, [group_row(group) for group in changes.groups])
    _DELETE_RESOURCE.run(connection, [(one,) for one in changes.resources_deleted])
    _UPSERT_RESOURCE.run(connection, [resource_row(one) for one in changes.resources])
    # Deletion first: a job may have been given another thread in the same batch.
    _DELETE_THREAD.run(connection, [(thread,) for thread in changes.threads_deleted])
    _DELETE_NOTE.run(connection, [(note,) for note in changes.notes_deleted])
    _INSERT_THREAD.run(connection, [(one.id, one.job, one.node) for one in changes.threads])
    _INSERT_NOTE.run(connection, [note_row(note) for note in changes.notes])
    _INSERT_NOTICE.run(connection, [notice_row(notice) for notice in changes.notices])
    _DELETE_NOTICE.run(connection, [(notice,) for notice in changes.notices_done])
    _INSERT_ACTIVITY.run(connection, [activity_row(one) for one in changes.activities])
    counters = {
        "next_job_id": changes.next_job_id,
        "next_node_id": changes.next_node_id,
        "next_group_id": changes.next_group_id,
        "next_resource_id": changes.next_resource_id,
        "next_thread_id": changes.next_thread_id,
        "next_note_id": changes.next_note_id,
        "next_notice_id": changes.next_notice_id,
    }
    _UPSERT_COUNTER.run(
        connection, [(name, value) for name, value in counters.items() if value is not None]
    )


def save_probe(connection: Connection) -> None:
    """Write and take back a counter: the transaction log must take it."""
    _UPSERT_COUNTER.run(connection, [("probe", 0)])
    connection.execute(schema.counters.delete().where(schema.counters.c.name == "probe"))


def _save_jobs(
    connection: Connection, changes: Changes, gone: set[JobId], children: set[JobId]
) -> None:
    fresh = [(job, rollup) for job, rollup in changes.submitted if job.id not in gone]
    _INSERT_JOB.run(
        connection,
        [
            (
                job.id,
                job.spec.name,
                job.spec.submitted_by,
                int(job.id not in children),
                *job_state(job, rollup),
            )
            for job, rollup in fresh
        ],
    )
    _INSERT_SPEC.run(connection, [(job.id, spec_text(job.spec)) for job, _ in fresh])
    _UPDATE_SPEC.run(
        connection,
        [(spec_text(spec), job) for job, spec in changes.specs if job not in gone],
    )
    _UPDATE_JOB.run(
        connection,
        [(*job_state(job, rollup), job.id) for job, rollup in changes.jobs if job.id not in gone],
    )


def _save_attempts(connection: Connection, changed: list[Attempt]) -> None:
    """An attempt that is being stopped may outlive its job; then there is nothing to keep."""
    doubtful = {attempt.job for attempt in changed if attempt.stopping}
    known: set[JobId] = set()
    for chunk in chunks(doubtful):
        known.update(
            connection.scalars(select(schema.jobs.c.id).where(schema.jobs.c.id.in_(chunk)))
        )
    kept = [one for one in changed if one.job not in doubtful or one.job in known]
    _UPSERT_ATTEMPT.run(connection, [attempt_row(one) for one in kept])
    _UPSERT_SECONDARY_NODE.run(
        connection,
        [
            (one.job, one.number, node, one.ended_at)
            for one in kept
            if len(one.nodes) > 1 and one.ended_at is not None
            for node in one.nodes[1:]
        ],
    )


def _save_attributes(connection: Connection, changes: Changes, gone: set[JobId]) -> None:
    kept = [attribute_row(one) for one in changes.attributes if one.job not in gone]
    _UPSERT_ATTRIBUTE.run(connection, kept)
    _INSERT_POINT.run(connection, [point_row(p) for p in changes.points if p.job not in gone])
    _THIN_POINTS.run(connection, list(changes.strides))


def _children_of(connection: Connection, parents: Iterable[JobId]) -> Iterator[JobId]:
    edges = schema.job_edges.c
    for chunk in chunks(parents):
        yield from connection.scalars(select(edges.child).where(edges.parent.in_(chunk)))


# --- loading ----------------------------------------------------------------------------------

_UNFINISHED = select(schema.jobs.c.id).where(
    schema.jobs.c.status.in_([status.value for status in JobStatus if status not in FINAL])
)
_STILL_RUNNING = select(schema.attempts.c.job).where(schema.IS_OPEN)
_OPEN_ATTEMPTS = (
    select(schema.attempts)
    .where(schema.IS_OPEN)
    .order_by(schema.attempts.c.job, schema.attempts.c.number)
)


class _Among:
    """A reading statement about many jobs; `job` is the column that has to be one of them."""

    def __init__(self, statement: Select[*tuple[Any, ...]], job: ColumnElement[int]) -> None:
        first, last = bindparam("first", type_=schema.Big), bindparam("last", type_=schema.Big)
        self._listed = statement.where(job.in_(schema.listed("ids")))
        self._between = statement.where(job.between(first, last))

    def fetch(self, connection: Connection, ids: Iterable[JobId]) -> Iterator[Row]:
        """In no order."""
        for chunk in chunks(sorted(ids)):
            # Dense, as most live jobs are: reading straight is cheaper than looking up each.
            if chunk[-1] - chunk[0] == len(chunk) - 1:
                yield from fetch(connection, self._between, first=chunk[0], last=chunk[-1])
            else:
                yield from fetch(connection, self._listed, ids=schema.as_list(chunk))


_jobs = schema.jobs.c
_IS_AS_SUBMITTED = and_(
    *(_jobs[name] == literal_column("0") for name in ("attempt", "progress", "blocked_warning")),
    *(_jobs[name] == literal_column("'[]'") for name in ("nodes", "failures")),
    _jobs.command_outcome == literal_column("''"),
    *(
        _jobs[name].is_(None)
        for name in ("started_at", "command_started_at", "command_ended_at", "ended_at")
    ),
)
_NEW_JOBS = _Among(
    select(
        _jobs.id,
        schema.job_specs.c.spec,
        _jobs.status,
        _jobs.queued_at,
        _jobs.priority,
        _jobs.tries_left,
        _jobs.runnable_at,
    )
    .join_from(schema.jobs, schema.job_specs)
    .where(_IS_AS_SUBMITTED),
    _jobs.id,
)
"""Those that have the defaults of `Job` in all other fields: most of a large farm."""
_OTHER_JOBS = _Among(
    select(*JOB_COLUMNS, schema.job_specs.c.spec)
    .join_from(schema.jobs, schema.job_specs)
    .where(not_(_IS_AS_SUBMITTED)),
    _jobs.id,
)
_ATTRIBUTES = _Among(select(schema.job_attributes), schema.job_attributes.c.job)
_edges = schema.job_edges.c
_FAMILIES = _Among(
    select(
        _edges.parent, func.json_group_array(_edges.position), func.json_group_array(_edges.child)
    ).group_by(_edges.parent),
    _edges.parent,
)
_ABOVE = _Among(select(_edges.parent).distinct(), _edges.child)
_PARENTS = (
    select(_edges.child, _edges.parent)
    .where(_edges.child.in_(schema.listed("ids")))
    .order_by(_edges.position)
)


def load_live(connection: Connection) -> LiveRecords:
    """The unfinished trees: each job that is not final or still has a running attempt, and all
    jobs linked with one through edges, with their attributes; all nodes, groups, resources and
    threads; the counters."""
    seeds = {*fetch_ids(connection, _UNFINISHED), *fetch_ids(connection, _STILL_RUNNING)}
    live = load_component(connection, seeds)
    live.nodes = [
        node_of(row) for row in connection.execute(select(schema.nodes).order_by(schema.nodes.c.id))
    ]
    groups = connection.execute(select(schema.groups).order_by(schema.groups.c.id))
    live.groups = [group_of(row) for row in groups]
    resources = connection.execute(select(schema.resources).order_by(schema.resources.c.id))
    live.resources = [resource_of(row) for row in resources]
    live.threads = _load_threads(connection)
    for name, value in connection.execute(select(schema.counters)):
        setattr(live, name, value)
    return live


def _load_threads(connection: Connection) -> list[Thread]:
    """All threads with the ids of their notes; what the notes say is not needed in memory."""
    notes: dict[ThreadId, list[NoteId]] = {}
    columns = select(schema.notes.c.thread, schema.notes.c.id)
    for thread, note in connection.execute(columns.order_by(schema.notes.c.id)):
        notes.setdefault(thread, []).append(note)
    threads = connection.execute(select(schema.threads).order_by(schema.threads.c.id))
    return [Thread(one, job, node, tuple(notes[one])) for one, job, node in threads]


def load_component(connection: Connection, ids: Iterable[JobId]) -> LiveRecords:
    """These jobs and all that are linked with them, by id; unknown ids are left out."""
    members, children = _linked(connection, ids)
    jobs = [
        Job(
            job, lean(spec_of(spec)), _STATUS[status], queued, priority, tries, runnable_at=runnable
        )
        for job, spec, status, queued, priority, tries, runnable in _NEW_JOBS.fetch(
            connection, members
        )
    ]
    jobs += [job_of(row, lean(spec_of(row[-1]))) for row in _OTHER_JOBS.fetch(connection, members)]
    jobs.sort(key=attrgetter("id"))
    running = fetch(connection, _OPEN_ATTEMPTS)
    attempts = [attempt_of(row) for row in running if row[0] in members]
    attributes = [attribute_of(row) for row in _ATTRIBUTES.fetch(connection, members)]
    parents = parents_of(connection, _shared(children.values()))
    return LiveRecords(jobs, children, parents, attempts, attributes=attributes)


def _linked(
    connection: Connection, seeds: Iterable[JobId]
) -> tuple[set[JobId], dict[JobId, list[JobId]]]:
    """The whole linked sets around these jobs, and the children of each in their order. Goes
    outward one generation at a time, so it costs a few statements per level and not one per job."""
    members = set(seeds)
    children: dict[JobId, list[JobId]] = {}
    outermost = set(members)
    while outermost:
        below = {
            parent: _ordered(_IDS.decode(positions), _IDS.decode(found))
            for parent, positions, found in _FAMILIES.fetch(connection, outermost)
        }
        children |= below
        above = {parent for (parent,) in _ABOVE.fetch(connection, outermost)}
        outermost = above.union(*below.values()) - members
        members |= outermost
    return members, children


def _ordered(positions: list[JobId], ids: list[JobId]) -> list[JobId]:
    in_order = sorted(positions)
    if in_order == positions:
        return ids
    by_position = dict(zip(positions, ids, strict=True))
    return [by_position[position] for position in in_order]


def _shared(families: Iterable[Iterable[JobId]]) -> set[JobId]:
    """The jobs that are in more than one of these families."""
    seen: set[JobId] = set()
    shared: set[JobId] = set()
    for family in families:
        shared |= seen.intersection(family)
        seen.update(family)
    return shared


def parents_of(connection: Connection, ids: Iterable[JobId]) -> dict[JobId, tuple[JobId, ...]]:
    """The parents, in their order, of each of these jobs that has some."""
    found: dict[JobId, list[JobId]] = {}
    for child, parent in fetch(connection, _PARENTS, ids=schema.as_list(ids)):
        found.setdefault(child, []).append(parent)
    return {child: tuple(parents) for child, parents in found.items()}


def chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """Cut into lists of at most `CHUNK`, in order."""
    iterator = iter(items)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk
