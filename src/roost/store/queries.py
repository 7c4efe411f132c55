"""Every question that is asked of the record, as a function with a name.

Each takes a connection, asks a bounded number of statements (a few per thousands of ids, never
one per job) and returns plain records. Knows the schema and how rows become records; must not
know who asks, nor anything that only lives in the core's memory: `Part.REASONS` and `Part.HOLDS`
stay empty here. Specifications are neither read nor decoded unless a part needs them.

Listings walk an index from the newest job and stop at the limit, so a million finished jobs cost
nothing. An index on (status, id) gives that order within one status only; several statuses are
therefore asked for one by one and merged.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from heapq import merge
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace
from sqlalchemy import BindParameter, Connection, Select, bindparam, func, or_, select, tuple_

from roost.core import attributes
from roost.core.records import (
    Activity,
    Attempt,
    Attribute,
    AttributePoint,
    Condition,
    JobId,
    JobSpec,
    JobStatus,
    Moment,
    NodeId,
    Note,
    Notice,
    ThreadId,
)
from roost.gateway import (
    AttemptView,
    JobFilter,
    JobStanding,
    JobView,
    Kind,
    Part,
    Sample,
    ThreadView,
)
from roost.store import rows, schema
from roost.store.rows import (
    JOB_COLUMNS,
    Row,
    attempt_of,
    attribute_of,
    chunks,
    event_of,
    job_of,
    note_of,
    point_of,
    rollup_of,
    spec_of,
)

Id = TypeVar("Id", bound=int)

HOUR_MS = 3_600_000

_jobs = schema.jobs.c
_edges = schema.job_edges.c
_specs = schema.job_specs.c
_attempts = schema.attempts.c
_events = schema.job_events.c
_threads = schema.threads.c
_notes = schema.notes.c
_secondary = schema.secondary_nodes.c

_BARE = select(*JOB_COLUMNS)
_WITH_SPEC = select(*JOB_COLUMNS, _specs.spec).join_from(schema.jobs, schema.job_specs)
_ID: BindParameter[int] = bindparam("id")
_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
_other = schema.notes.alias("other").c

_BY_ID = {
    False: (_BARE.where(_jobs.id == _ID), _BARE.where(_jobs.id.in_(_IDS))),
    True: (_WITH_SPEC.where(_jobs.id == _ID), _WITH_SPEC.where(_jobs.id.in_(_IDS))),
}
"""With the spec or without: the statement for one job and the one for many."""

_PARENTS = (
    select(_edges.child, _edges.parent).where(_edges.child.in_(_IDS)).order_by(_edges.position)
)
_CHILDREN = (
    select(_edges.parent, _edges.child).where(_edges.parent.in_(_IDS)).order_by(_edges.position)
)
_CHILD_STATUSES = (
    select(_edges.child, _jobs.status)
    .join_from(schema.job_edges, schema.jobs, _edges.child == _jobs.id)
    .where(_edges.parent == _ID)
    .order_by(_edges.position)
)
USUAL_JOBS_MAX = 101
_TOOK = (
    select(_jobs.command_ended_at - _jobs.command_started_at)
    .join_from(schema.job_edges, schema.jobs, _edges.child == _jobs.id)
    .where(
        _edges.parent == _ID,
        _jobs.status == JobStatus.SUCCEEDED.value,
        _jobs.command_started_at.is_not(None),
        _jobs.command_ended_at.is_not(None),
    )
    .limit(USUAL_JOBS_MAX)
)
_EVENTS = (
    select(_events.job, _events.at, _events.status, _events.message)
    .where(_events.job.in_(_IDS))
    .order_by(_events.id)
)
_ATTEMPTS = (
    select(schema.attempts).where(_attempts.job.in_(_IDS)).order_by(_attempts.job, _attempts.number)
)
_HISTORY = (
    select(_attempts.ended_at, _attempts.job)
    .where(_attempts.node == _ID, schema.HAS_ENDED)
    .order_by(_attempts.ended_at.desc())
)
_HISTORY_AS_SECONDARY = (
    select(_secondary.ended_at, _secondary.job)
    .where(_secondary.node == _ID)
    .order_by(_secondary.ended_at.desc())
)
_START_FAILURES = (
    select(schema.attempts)
    .where(_attempts.node == _ID, schema.NOT_STARTED)
    .order_by(_attempts.ended_at.desc())
)
_START_FAILURES_COUNT = select(func.count()).where(_attempts.node == _ID, schema.NOT_STARTED)
_ATTEMPTS_WITH_NAME = (
    select(schema.attempts, _jobs.name)
    .join_from(schema.attempts, schema.jobs)
    # Many are given ahead to nodes and taken back before they begin.
    .where(_attempts.started_at.is_not(None) | schema.NOT_STARTED)
    .order_by(_attempts.assigned_at.desc())
)
_SINCE: BindParameter[int] = bindparam("since")
_ENDED_ON_NODE = _ATTEMPTS_WITH_NAME.where(
    _attempts.node == _ID, schema.HAS_ENDED, _attempts.ended_at >= _SINCE
)
_ENDED_ON_NODE_AS_SECONDARY = _ATTEMPTS_WITH_NAME.join(
    schema.secondary_nodes,
    (_secondary.job == _attempts.job) & (_secondary.number == _attempts.number),
).where(_secondary.node == _ID, _secondary.ended_at >= _SINCE)
_OPEN = _ATTEMPTS_WITH_NAME.where(schema.IS_OPEN)
_OF_FAMILY = _ATTEMPTS_WITH_NAME.where(
    (_attempts.job == _ID) | _attempts.job.in_(select(_edges.child).where(_edges.parent == _ID))
)
_SPECS = select(_specs.job, _specs.spec).where(_specs.job.in_(_IDS))
_IS_LATEST = _notes.id == (
    select(func.max(_other.id)).where(_other.thread == _notes.thread).scalar_subquery()
)
_JOB_NOTES = (
    select(_threads.job, schema.notes)
    .join_from(schema.threads, schema.notes)
    .where(_threads.job.in_(_IDS), _IS_LATEST)
)
_NODE_NOTES = (
    select(_threads.node, schema.notes)
    .join_from(schema.threads, schema.notes)
    .where(_threads.node.is_not(None), _IS_LATEST)
)
_ATTRIBUTES = (
    select(schema.job_attributes)
    .where(schema.job_attributes.c.job.in_(_IDS))
    .order_by(schema.job_attributes.c.job, schema.job_attributes.c.key)
)
_POINTS = (
    select(schema.attribute_points)
    .where(schema.attribute_points.c.job == _ID)
    .order_by(schema.attribute_points.c.key, schema.attribute_points.c.number)
)


# --- jobs -------------------------------------------------------------------------------------


def job_views(
    connection: Connection, ids: Sequence[JobId], parts: Collection[Part] = ()
) -> list[JobView]:
    """These jobs in this order; unknown ids are left out."""
    one, many = _BY_ID[_needs_spec(parts)]
    if len(ids) == 1:
        return _views(connection, connection.execute(one, {"id": ids[0]}).all(), parts)
    found: dict[JobId, Row] = {}
    for chunk in chunks(dict.fromkeys(ids)):
        found.update((row[0], row) for row in connection.execute(many, {"ids": chunk}))
    return _views(connection, [found[job] for job in ids if job in found], parts)


def attribute_points(connection: Connection, job: JobId) -> dict[str, list[AttributePoint]]:
    """What is kept of the history of its numeric attributes, by folded name, oldest first."""
    found: dict[str, list[AttributePoint]] = {}
    for row in connection.execute(_POINTS, {"id": job}):
        point = point_of(row)
        found.setdefault(point.name, []).append(point)
    return found


def child_statuses(connection: Connection, job: JobId) -> list[tuple[JobId, JobStatus]]:
    """The children of a job, in their order."""
    rows_found = connection.execute(_CHILD_STATUSES, {"id": job})
    return [(child, JobStatus(status)) for child, status in rows_found]


def first_parents(connection: Connection, ids: Sequence[JobId]) -> dict[JobId, JobId]:
    """Of those that have one."""
    return {child: edges[0][1] for child, edges in _by_first(connection, _PARENTS, ids).items()}


def usual_ms(connection: Connection, parent: JobId) -> int | None:
    """What the commands of a job's children took that have succeeded, in the median over the
    first of them; None when there are none."""
    found = sorted(connection.scalars(_TOOK, {"id": parent}))
    return found[len(found) // 2] if found else None


def attempts_on_node(
    connection: Connection, node: NodeId, since: Moment, limit: int
) -> list[AttemptView]:
    """Those that ran on this node at some time since then, or could not, the latest first."""
    asked = {"id": node, "since": since}
    ended = connection.execute(_ENDED_ON_NODE.limit(limit), asked).all()
    with_others = connection.execute(_ENDED_ON_NODE_AS_SECONDARY.limit(limit), asked).all()
    views = [_attempt_view(row) for row in (*ended, *with_others)]
    # No more are open than the farm has CPUs.
    running = map(_attempt_view, connection.execute(_OPEN))
    views += [view for view in running if node in view.attempt.nodes]
    views.sort(key=lambda view: view.attempt.assigned_at, reverse=True)
    return views[:limit]


def attempts_of_family(connection: Connection, job: JobId, limit: int) -> list[AttemptView]:
    """What ran of a job and of its children, or could not be started, the latest first."""
    return [*map(_attempt_view, connection.execute(_OF_FAMILY.limit(limit), {"id": job}))]


def _attempt_view(row: Row) -> AttemptView:
    return AttemptView(attempt_of(row[:-1]), row[-1])


def list_jobs(
    connection: Connection, which: JobFilter, parts: Collection[Part] = ()
) -> list[JobView]:
    """Jobs that pass the filter, in its order, at most `which.limit` of them.

    `name_contains` has no index: it walks back from the newest job until enough names match. Nor
    has any order but that of the ids: all that passes is then sorted.
    """
    statement = _filtered(_WITH_SPEC if _needs_spec(parts) else _BARE, which)
    statuses = which.statuses
    if (which.sort, which.descending) != ("id", True) or which.skip:
        return _views(connection, _sorted(connection, statement, which), parts)
    if which.submitted_by and not statuses:
        statuses = tuple(JobStatus)  # the index on the submitter has the status before the id
    if which.parent is not None:
        # Already narrowed to the children of one job: any order of the rest is cheap.
        if statuses:
            statement = statement.where(_jobs.status.in_(_texts(statuses)))
        rows = connection.execute(statement).all()
    elif statuses:
        rows = [
            row
            for status in _texts(statuses)
            for row in connection.execute(statement.where(_jobs.status == status))
        ]
        rows.sort(key=lambda row: row[0], reverse=True)
    else:
        rows = connection.execute(statement).all()
    return _views(connection, rows[: which.limit], parts)


def _sorted(
    connection: Connection, statement: Select[*tuple[Any, ...]], which: JobFilter
) -> Sequence[Row]:
    if which.statuses:
        statement = statement.where(_jobs.status.in_(_texts(which.statuses)))
    keys = [_jobs.id] if which.sort == "id" else [_ORDERS[which.sort], _jobs.id]
    order = [key.desc() if which.descending else key.asc() for key in keys]
    return connection.execute(statement.order_by(None).order_by(*order).offset(which.skip)).all()


_ORDERS: dict[str, Any] = {
    "name": func.lower(_jobs.name),
    "submitted_by": func.lower(_jobs.submitted_by),
    "status": _jobs.status,
    "priority": _jobs.priority,
    "progress": _jobs.overall_progress,
    "failed": _jobs.tasks_failed,
    "ended": _jobs.ended_at,
}


def count_jobs(connection: Connection, which: JobFilter, count_max: int) -> dict[JobStatus, int]:
    """How many jobs pass the filter, by status. Each count stops at `count_max`."""
    everything = replace(which, before=None, limit=count_max)
    statement = _filtered(select(_jobs.id), everything).order_by(None)
    wanted = which.statuses or tuple(JobStatus)
    if which.parent is not None:
        # Few enough to be counted as they are, and no index has both the parent and the status.
        found = _filtered(select(_jobs.status), everything).order_by(None).subquery()
        rows_found = connection.execute(
            select(found.c.status, func.count()).group_by(found.c.status)
        )
        return {JobStatus(status): count for status, count in rows_found if status in wanted}
    counts: dict[JobStatus, int] = {}
    for status in wanted:
        some = statement.where(_jobs.status == status.value).subquery()
        if count := connection.execute(select(func.count()).select_from(some)).scalar_one():
            counts[status] = count
    return counts


_STANDING = select(_jobs.id, _jobs.name, _jobs.status, _jobs.priority, _jobs.tasks_failed)


def standings(
    connection: Connection, which: JobFilter | None, ids: Sequence[JobId] = ()
) -> list[JobStanding]:
    """Of the jobs that pass the filter, up to its limit, or of these; newest first."""
    rows_found: list[Row] = []
    if which is not None:
        statement = _filtered(_STANDING, which)
        if which.statuses:
            statement = statement.where(_jobs.status.in_(_texts(which.statuses)))
        rows_found.extend(connection.execute(statement))
    else:
        chosen = _STANDING.where(_jobs.id.in_(_IDS))
        for chunk in chunks(dict.fromkeys(ids)):
            rows_found.extend(connection.execute(chosen, {"ids": chunk}))
        rows_found.sort(key=lambda row: row[0], reverse=True)
    return [JobStanding(row[0], row[1], JobStatus(row[2]), row[3], row[4]) for row in rows_found]


def _filtered(statement: Select[*tuple[Any, ...]], which: JobFilter) -> Select[*tuple[Any, ...]]:
    """All of the filter but the statuses; newest first."""
    newest = _jobs.id
    if which.parent is not None:
        newest = _edges.child
        statement = statement.join(
            schema.job_edges, (_edges.child == _jobs.id) & (_edges.parent == which.parent)
        )
    if which.before is not None:
        statement = statement.where(newest < which.before)
    if which.after is not None:
        statement = statement.where(newest > which.after)
    if which.submitted_after is not None:
        statement = statement.where(_jobs.queued_at >= which.submitted_after)
    if which.ended_after is not None:
        statement = statement.where(_jobs.ended_at >= which.ended_after)
    if which.name_excludes:
        excluded = _jobs.name.icontains(which.name_excludes, autoescape=True)
        statement = statement.where(~excluded)
    if which.roots_only:
        statement = statement.where(schema.IS_ROOT)
    if which.submitted_by:
        statement = statement.where(_jobs.submitted_by == which.submitted_by)
    if which.name_contains:
        statement = statement.where(_jobs.name.icontains(which.name_contains, autoescape=True))
    return statement.order_by(newest.desc()).limit(max(which.limit, 0))


def job_ids(
    connection: Connection,
    statuses: Sequence[JobStatus] | None = None,
    roots_only: bool = False,
) -> list[JobId]:
    """All ids with one of these statuses (None: any), ascending."""
    statement = select(_jobs.id)
    if statuses is not None:
        statement = statement.where(_jobs.status.in_(_texts(statuses)))
    if roots_only:
        statement = statement.where(schema.IS_ROOT)
    # Sorted here: asked for the order, SQLite walks all jobs by id rather than few by status.
    return sorted(map(JobId, connection.scalars(statement)))


def ended_roots(
    connection: Connection, after: tuple[Moment, JobId], limit: int
) -> list[tuple[Moment, JobId, int]]:
    """Roots that are over, the first to end first: when, which, and how many jobs are in its tree.

    Begins behind the root that ended then and has that id.
    """
    ended = (_jobs.ended_at, _jobs.id)
    statement = (
        select(*ended, _jobs.tasks_total)
        .where(schema.IS_ENDED_ROOT, tuple_(*ended) > tuple_(*after))
        .order_by(*ended)
        .limit(limit)
    )
    return [(at, job, tasks) for at, job, tasks in connection.execute(statement)]


def count_waiting(
    connection: Connection,
    runnable_before: Moment,
    priority_min: int | None = None,
    priority_max: int | None = None,
) -> int:
    """How many jobs are runnable since that moment or earlier, priorities inclusive."""
    statement = select(func.count()).where(schema.IS_WAITING, _jobs.runnable_at <= runnable_before)
    if priority_min is not None:
        statement = statement.where(_jobs.priority >= priority_min)
    if priority_max is not None:
        statement = statement.where(_jobs.priority <= priority_max)
    return connection.execute(statement).scalar_one()


def notices(connection: Connection) -> list[Notice]:
    """Those that are to be delivered, in their order."""
    rows_found = connection.execute(select(schema.notices).order_by(schema.notices.c.id))
    return [rows.notice_of(row) for row in rows_found]


def job_history(connection: Connection, node: NodeId, limit: int) -> list[JobId]:
    """The jobs that most recently ended on this node, the latest first; each once."""
    found: dict[JobId, None] = {}
    if limit > 0:
        alone = connection.execute(_HISTORY, {"id": node})
        with_others = connection.execute(_HISTORY_AS_SECONDARY, {"id": node})
        for _, job in merge(alone, with_others, key=lambda row: row[0], reverse=True):
            found[job] = None
            if len(found) >= limit:
                break
    return list(found)


def start_failures(connection: Connection, node: NodeId, limit: int) -> tuple[int, list[Attempt]]:
    """How many attempts could not be started on this node, and the latest of them first."""
    total = connection.execute(_START_FAILURES_COUNT, {"id": node}).scalar_one()
    rows = connection.execute(_START_FAILURES.limit(limit), {"id": node})
    return total, [attempt_of(row) for row in rows]


def _texts(statuses: Iterable[JobStatus]) -> list[str]:
    return list(dict.fromkeys(status.value for status in statuses))


# --- the farm over time -----------------------------------------------------------------------


def samples(connection: Connection, since: Moment, count_max: int) -> list[Sample]:
    """Since that moment, oldest first, folded into at most `count_max`."""
    columns = schema.samples.c
    rows_found = connection.execute(
        select(schema.samples).where(columns.at >= since - HOUR_MS).order_by(columns.at)
    )
    found = [one for one in _with_hours(Sample(*row) for row in rows_found) if one.at >= since]
    size = -(-len(found) // max(count_max, 1))
    if size <= 1:
        return found
    return [_folded(found[at : at + size]) for at in range(0, len(found), size)]


def _with_hours(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Each with what failed in the hour before it, as far as the samples go back."""
    hour: deque[Sample] = deque()
    failed = 0
    for sample in samples:
        hour.append(sample)
        failed += sample.failed
        while hour[0].at <= sample.at - HOUR_MS:
            failed -= hour.popleft().failed
        yield replace(sample, failed_an_hour=failed)


def _folded(found: Sequence[Sample]) -> Sample:
    names = Sample.__struct_fields__

    def fold(name: str) -> Any:
        values: list[int] = [getattr(one, name) for one in found]
        if name in ("ended", "failed"):
            return sum(values)
        if name in ("at", "failed_an_hour") or name.startswith("wait_"):
            return max(values)
        return round(sum(values) / len(values))

    return Sample(**{name: fold(name) for name in names})


def ended_kinds(connection: Connection, roots_max: int) -> list[Kind]:
    """By the names of the root jobs that ended last, digits aside; most jobs first."""
    statement = (
        select(_jobs.name, _jobs.status, _jobs.started_at, _jobs.ended_at)
        .where(schema.IS_ENDED_ROOT)
        .order_by(_jobs.ended_at.desc(), _jobs.id.desc())
        .limit(roots_max)
    )
    totals: dict[str, list[int]] = {}
    for name, status, started_at, ended_at in connection.execute(statement):
        total = totals.setdefault(_DIGITS.sub("#", name), [0, 0, 0, 0])
        total[0] += 1
        total[1] += status == JobStatus.FAILED.value
        if started_at is not None:
            total[2] += 1
            total[3] += ended_at - started_at
    found = [
        Kind(name, jobs, failed, ran_ms // max(ran, 1))
        for name, (jobs, failed, ran, ran_ms) in totals.items()
    ]
    return sorted(found, key=lambda kind: (-kind.jobs, kind.name))


_DIGITS = re.compile(r"\d+")


def activities(
    connection: Connection, limit: int, before: int | None = None, words: str = ""
) -> list[tuple[int, Activity]]:
    """What people did, the latest first, each with its number."""
    columns = schema.activities.c
    statement = select(schema.activities).order_by(columns.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(columns.id < before)
    for word in words.split():
        places = (columns.by, columns.action, columns.text)
        statement = statement.where(
            or_(*(place.icontains(word, autoescape=True) for place in places))
        )
    return [(row[0], rows.activity_of(row)) for row in connection.execute(statement)]


# --- notes ------------------------------------------------------------------------------------


def thread_ids(connection: Connection) -> list[ThreadId]:
    """The ids of all threads, ascending."""
    return list(map(ThreadId, connection.scalars(select(_threads.id).order_by(_threads.id))))


def threads(
    connection: Connection, ids: Sequence[ThreadId] | None = None, latest_only: bool = False
) -> list[ThreadView]:
    """These threads in this order, unknown ones left out, or all by id; with their notes, oldest
    first, or only the latest of each."""
    wanted = thread_ids(connection) if ids is None else ids
    statement = (
        select(_threads.id, _threads.job, _threads.node, schema.notes)
        .join_from(schema.threads, schema.notes)
        .where(_threads.id.in_(_IDS))
        .order_by(_notes.id)
    )
    if latest_only:
        statement = statement.where(_IS_LATEST)
    found = _by_first(connection, statement, wanted)
    return [
        ThreadView(rows[0][0], rows[0][1], rows[0][2], tuple(note_of(row[3:]) for row in rows))
        for rows in (found[thread] for thread in wanted if thread in found)
    ]


def latest_notes_of_nodes(connection: Connection) -> dict[NodeId, Note]:
    """For each node that has a thread, the newest note in it."""
    return {row[0]: note_of(row[1:]) for row in connection.execute(_NODE_NOTES)}


# --- views ------------------------------------------------------------------------------------


_ON_THE_SPEC = {Part.SPEC, Part.CONDITIONS, Part.ATTRIBUTES}


def _needs_spec(parts: Collection[Part]) -> bool:
    return not _ON_THE_SPEC.isdisjoint(parts)


def _views(connection: Connection, rows: Sequence[Row], parts: Collection[Part]) -> list[JobView]:
    """One view per row of `JOB_COLUMNS` and, where a part needs it, the spec's text."""
    if not parts:
        return [JobView(job_of(row, JobSpec(name=row[1])), rollup_of(row)) for row in rows]
    ids = [row[0] for row in rows]

    def asked(part: Part, statement: Select[*tuple[Any, ...]]) -> dict[JobId, list[Row]]:
        return _by_first(connection, statement, ids) if part in parts else {}

    parents = asked(Part.PARENTS, _PARENTS)
    children = asked(Part.CHILDREN, _CHILDREN)
    events = asked(Part.EVENTS, _EVENTS)
    attempts = asked(Part.ATTEMPTS, _ATTEMPTS)
    notes = asked(Part.NOTES, _JOB_NOTES)
    changed = asked(Part.ATTRIBUTES, _ATTRIBUTES)
    conditions: dict[JobId, tuple[Condition, ...]] = {}
    if Part.CONDITIONS in parts:
        conditions = _conditions_in_force(connection, {row[0]: row[-1] for row in rows})
    with_spec = Part.SPEC in parts
    views = []
    for row in rows:
        job = row[0]
        views.append(
            JobView(
                job_of(row, spec_of(row[-1]) if with_spec else JobSpec(name=row[1])),
                rollup_of(row),
                parents=tuple(edge[1] for edge in parents.get(job, ())),
                children=tuple(edge[1] for edge in children.get(job, ())),
                events=tuple(map(event_of, events.get(job, ()))),
                attempts=tuple(map(attempt_of, attempts.get(job, ()))),
                conditions=conditions.get(job, ()),
                latest_note=note_of(notes[job][0][1:]) if job in notes else None,
                attributes=_own_attributes(row, changed.get(job, ()))
                if Part.ATTRIBUTES in parts
                else (),
            )
        )
    return views


def _by_first(
    connection: Connection, statement: Select[*tuple[Any, ...]], ids: Iterable[Id]
) -> dict[Id, list[Row]]:
    """The rows of a statement over `ids`, in its order, grouped by their first column."""
    groups: dict[Id, list[Row]] = {}
    for chunk in chunks(dict.fromkeys(ids)):
        for row in connection.execute(statement, {"ids": chunk}):
            groups.setdefault(row[0], []).append(row)
    return groups


class _Conditions(msgspec.Struct, frozen=True):
    """The one field of a spec that others inherit; the decoder skips the rest."""

    conditions: tuple[Condition, ...] = ()


class _Submitted(msgspec.Struct, frozen=True):
    """The attributes in a spec; the decoder skips the rest."""

    attributes: dict[str, str] = {}


_CONDITIONS = msgspec.json.Decoder(_Conditions)
_SUBMITTED = msgspec.json.Decoder(_Submitted)


def _own_attributes(row: Row, changed: Iterable[Row]) -> tuple[Attribute, ...]:
    job, queued_at = row[0], row[3]
    since = {attributes.fold(one.name): one for one in map(attribute_of, changed)}
    submitted = _SUBMITTED.decode(row[-1]).attributes
    return tuple(attributes.own(job, submitted, queued_at, since).values())


def _conditions_in_force(
    connection: Connection, specs: dict[JobId, str]
) -> dict[JobId, tuple[Condition, ...]]:
    """A job's own conditions or else those of its root, by first parents (decision 13)."""
    own = {job: _CONDITIONS.decode(text).conditions for job, text in specs.items()}
    roots = _roots_of(connection, [job for job, conditions in own.items() if not conditions])
    texts = _by_first(connection, _SPECS, roots.values())
    inherited = {root: _CONDITIONS.decode(rows[0][1]).conditions for root, rows in texts.items()}
    return own | {job: inherited[root] for job, root in roots.items()}


def _roots_of(connection: Connection, ids: Iterable[JobId]) -> dict[JobId, JobId]:
    """Follow first parents to the top, all jobs together: two statements per level at most."""
    roots = {job: job for job in ids}
    climbing = set(roots.values())
    while climbing:
        found = _by_first(connection, _PARENTS, climbing)
        above: dict[JobId, JobId] = {child: edges[0][1] for child, edges in found.items()}
        roots = {job: above.get(top, top) for job, top in roots.items()}
        climbing = set(above.values())
    return roots
