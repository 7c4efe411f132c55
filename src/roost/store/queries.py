"""Every question that is asked of the record, as a function with a name.

Each takes a connection, asks a bounded number of statements (a few per thousands of ids, never
one per job) and returns plain records. Knows the schema and how rows become records; must not
know who asks, nor anything that only lives in the core's memory: `Part.REASONS` and `Part.HOLDS`
stay empty here. Specifications are neither read nor decoded unless a part needs them.

A listing finds the ids of its jobs first, along an index whose order is its own, and stops at the
limit: a million finished jobs cost nothing. Such an index begins with the status; several statuses
are asked for one by one and merged. There is none for words in names, nor for the less usual
orders: these look at all jobs that pass the rest of the filter.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from heapq import merge
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    true,
    tuple_,
)

from roost.core import attributes
from roost.core.lifecycle import FINAL
from roost.core.records import (
    DAY_MS,
    HOUR_MS,
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
    event_of,
    fetch,
    fetch_ids,
    job_of,
    note_of,
    parents_of,
    point_of,
    rollup_of,
    spec_of,
)

Id = TypeVar("Id", bound=int)

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
_IDS = schema.listed("ids")
_other = schema.notes.alias("other").c

_BY_ID = {
    False: (_BARE.where(_jobs.id == _ID), _BARE.where(_jobs.id.in_(_IDS))),
    True: (_WITH_SPEC.where(_jobs.id == _ID), _WITH_SPEC.where(_jobs.id.in_(_IDS))),
}
"""The statement for one job and the one for many, without and with the spec."""

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
        return _views(connection, fetch(connection, one, id=ids[0]), parts)
    found = {row[0]: row for row in fetch(connection, many, ids=schema.as_list(ids))}
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
    """The first parent of each job that has one."""
    return {child: above[0] for child, above in parents_of(connection, ids).items()}


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
    """Jobs that pass the filter, in its order, at most `which.limit` of them."""
    return job_views(connection, find_ids(connection, which), parts)


def find_ids(connection: Connection, which: JobFilter) -> list[JobId]:
    """The ids of the jobs that pass the filter, in its order."""
    which = _bounded(connection, which)
    last = which.skip + max(which.limit, 0)
    found: list[Row] = []
    walks = _walks(which)
    for walk in walks:
        found += fetch(connection, walk.limit(last))
    if len(walks) > 1:
        # Nothing is before everything, as in the database.
        found.sort(
            key=lambda row: tuple((value is not None, value) for value in row),
            reverse=which.descending,
        )
    return [row[-1] for row in found[which.skip : last]]


def _walks(which: JobFilter) -> list[Select[*tuple[Any, ...]]]:
    """Statements that find by what the filter orders, the id last, each in its order: one for each
    status where an index has that order behind the status."""

    def walk(*keys: Any, by: Sequence[Any] = ()) -> Select[*tuple[Any, ...]]:
        order = [key.desc() if which.descending else key.asc() for key in by or keys]
        return _filtered(select(*keys), which).order_by(*order)

    statuses = _texts(which.statuses or JobStatus)
    if which.parent is not None:
        # Already narrowed to the children of one job: any order of the rest is cheap.
        keys = [_edges.child] if which.sort == "id" else [_ORDERS[which.sort], _jobs.id]
        return [_with_status(walk(*keys), which.statuses)]
    if which.sort == "id":
        if which.ended_after is not None and which.roots_only:
            # Few have ended since. With the plain id SQLite would rather not sort them.
            keys = [_jobs.id + literal_column("0")]
        elif which.statuses or which.submitted_by:
            keys = [_jobs.id]
        else:
            return [walk(_jobs.id)]
        return [walk(*keys).where(_jobs.status == status) for status in statuses]
    if which.sort == "ended" and which.roots_only:
        keys = [_jobs.ended_at, _jobs.id]
        return [
            walk(*keys).where(_jobs.status == status, schema.IS_ENDED_ROOT)
            if status in FINAL
            else walk(*keys, by=[_jobs.id]).where(_jobs.status == status)
            for status in statuses
        ]
    return [_with_status(walk(_ORDERS[which.sort], _jobs.id), which.statuses)]


def _with_status(
    statement: Select[*tuple[Any, ...]], statuses: Sequence[JobStatus]
) -> Select[*tuple[Any, ...]]:
    return statement.where(_jobs.status.in_(_texts(statuses))) if statuses else statement


SET_BACK_MS_MAX = DAY_MS
"""No clock is set back by more than this."""
_NEXT_ID = (
    select(_jobs.id, _jobs.queued_at)
    .where(_jobs.id > bindparam("id", type_=schema.Big))
    .order_by(_jobs.id)
    .limit(1)
)


def _bounded(connection: Connection, which: JobFilter) -> JobFilter:
    """The same filter, and where it says since when jobs were submitted, from which id on. Ids
    ascend with that time, but for a clock that is set back."""
    if which.submitted_after is None or which.parent is not None:
        return which
    since = which.submitted_after - SET_BACK_MS_MAX
    below, newest = 0, connection.execute(select(func.max(_jobs.id))).scalar() or 0
    while below < newest:
        middle = (below + newest) // 2
        after = fetch(connection, _NEXT_ID, id=middle)
        if after and after[0][1] < since:
            below = after[0][0]
        else:
            newest = middle
    return replace(which, after=JobId(max(below, which.after or 0)))


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
    everything = replace(_bounded(connection, which), before=None)
    statement = _filtered(select(_jobs.id), everything).limit(count_max)
    wanted = which.statuses or tuple(JobStatus)
    if which.parent is not None:
        # Few enough to be counted as they are, and no index has both the parent and the status.
        found = _filtered(select(_jobs.status), everything).limit(count_max).subquery()
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


_STANDING = (
    select(_jobs.id, _jobs.name, _jobs.status, _jobs.priority, _jobs.tasks_failed)
    .where(_jobs.id.in_(_IDS))
    .order_by(_jobs.id.desc())
)


def standings(
    connection: Connection, which: JobFilter | None, ids: Sequence[JobId] = ()
) -> list[JobStanding]:
    """Of the jobs that pass the filter, up to its limit, or of these; newest first."""
    chosen = ids if which is None else find_ids(connection, which)
    found = fetch(connection, _STANDING, ids=schema.as_list(chosen))
    return [JobStanding(row[0], row[1], JobStatus(row[2]), row[3], row[4]) for row in found]


def _filtered(statement: Select[*tuple[Any, ...]], which: JobFilter) -> Select[*tuple[Any, ...]]:
    """All of the filter but the statuses, the order and the limit."""
    newest = _jobs.id
    if which.parent is not None:
        newest = _edges.child
        of_parent = (_edges.child == _jobs.id) & (_edges.parent == which.parent)
        statement = statement.join_from(schema.jobs, schema.job_edges, of_parent)
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
    return statement


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
    return sorted(fetch_ids(connection, statement))


def ended_roots(
    connection: Connection, after: tuple[Moment, JobId], limit: int
) -> list[tuple[Moment, JobId, int]]:
    """Roots that are over, the first to end first: when, which, and how many jobs are in its tree.

    Begins behind the root that ended then and has that id.
    """
    which = tuple_(_jobs.ended_at, _jobs.id) > tuple_(*after)
    ended = _ended_roots(connection, which, limit, last_first=False)
    found = _of_jobs(connection, [job for _, job in ended], _jobs.tasks_total)
    tasks = {row[0]: row[1] for row in found}
    return [(at, job, tasks[job]) for at, job in ended]


def _ended_roots(
    connection: Connection, which: ColumnElement[bool], limit: int, *, last_first: bool
) -> list[tuple[Moment, JobId]]:
    """When they ended, and which, in that order. One statement for each final status, which their
    index has before the time."""
    keys = (_jobs.ended_at, _jobs.id)
    statement = (
        select(*keys)
        .where(schema.IS_ENDED_ROOT, which)
        .order_by(*(key.desc() if last_first else key for key in keys))
        .limit(limit)
    )
    found = [
        (at, job)
        for status in sorted(FINAL)
        for at, job in fetch(connection, statement.where(_jobs.status == status.value))
    ]
    return sorted(found, reverse=last_first)[:limit]


def _of_jobs(
    connection: Connection, ids: Sequence[JobId], *columns: ColumnElement[Any]
) -> list[Row]:
    """These columns of these jobs, after the id of each; in no order."""
    statement = select(_jobs.id, *columns).where(_jobs.id.in_(_IDS))
    return fetch(connection, statement, ids=schema.as_list(ids))


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
    """The notices that are still to be delivered, in their order."""
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
    latest = _ended_roots(connection, true(), roots_max, last_first=True)
    columns = (_jobs.name, _jobs.status, _jobs.started_at, _jobs.ended_at)
    found = _of_jobs(connection, [job for _, job in latest], *columns)
    totals: dict[str, list[int]] = {}
    for _, name, status, started_at, ended_at in found:
        total = totals.setdefault(_DIGITS.sub("#", name), [0, 0, 0, 0])
        total[0] += 1
        total[1] += status == JobStatus.FAILED.value
        if started_at is not None:
            total[2] += 1
            total[3] += ended_at - started_at
    kinds = [
        Kind(name, jobs, failed, ran_ms // max(ran, 1))
        for name, (jobs, failed, ran, ran_ms) in totals.items()
    ]
    return sorted(kinds, key=lambda kind: (-kind.jobs, kind.name))


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

    with_parents = Part.PARENTS in parts or Part.CONDITIONS in parts
    parents = parents_of(connection, ids) if with_parents else {}
    children = asked(Part.CHILDREN, _CHILDREN)
    events = asked(Part.EVENTS, _EVENTS)
    attempts = asked(Part.ATTEMPTS, _ATTEMPTS)
    notes = asked(Part.NOTES, _JOB_NOTES)
    changed = asked(Part.ATTRIBUTES, _ATTRIBUTES)
    if _needs_spec(parts):
        specs = [spec_of(row[-1]) for row in rows]
    else:
        specs = [JobSpec(name=row[1]) for row in rows]
    conditions: dict[JobId, tuple[Condition, ...]] = {}
    if Part.CONDITIONS in parts:
        own = {job: spec.conditions for job, spec in zip(ids, specs, strict=True)}
        conditions = _conditions_in_force(connection, own, parents)
    return [
        JobView(
            job_of(row, spec),
            rollup_of(row),
            parents.get(job, ()),
            tuple([row[1] for row in children.get(job, ())]),
            tuple(map(event_of, events.get(job, ()))),
            tuple(map(attempt_of, attempts.get(job, ()))),
            conditions=conditions.get(job, ()),
            latest_note=note_of(notes[job][0][1:]) if job in notes else None,
            attributes=_own_attributes(row, spec, changed.get(job, ()))
            if Part.ATTRIBUTES in parts
            else (),
        )
        for job, row, spec in zip(ids, rows, specs, strict=True)
    ]


def _by_first(
    connection: Connection, statement: Select[*tuple[Any, ...]], ids: Iterable[Id]
) -> dict[Id, list[Row]]:
    """The rows of a statement over `ids`, in its order, grouped by their first column."""
    groups: dict[Id, list[Row]] = {}
    for row in fetch(connection, statement, ids=schema.as_list(ids)):
        groups.setdefault(row[0], []).append(row)
    return groups


class _Conditions(msgspec.Struct, frozen=True):
    """The one field of a spec that others inherit; the decoder skips the rest."""

    conditions: tuple[Condition, ...] = ()


_CONDITIONS = msgspec.json.Decoder(_Conditions)


def _own_attributes(row: Row, spec: JobSpec, changed: Iterable[Row]) -> tuple[Attribute, ...]:
    if not spec.attributes and not changed:
        return ()
    job, queued_at = row[0], row[3]
    since = {attributes.fold(one.name): one for one in map(attribute_of, changed)}
    return tuple(attributes.own(job, spec.attributes, queued_at, since).values())


def _conditions_in_force(
    connection: Connection,
    own: dict[JobId, tuple[Condition, ...]],
    parents: dict[JobId, tuple[JobId, ...]],
) -> dict[JobId, tuple[Condition, ...]]:
    """A job's own conditions or else those of its root, by first parents (decision 13)."""
    roots = _roots_of(connection, [job for job, found in own.items() if not found], parents)
    texts = _by_first(connection, _SPECS, roots.values())
    inherited = {root: _CONDITIONS.decode(rows[0][1]).conditions for root, rows in texts.items()}
    return own | {job: inherited[root] for job, root in roots.items()}


def _roots_of(
    connection: Connection, ids: Iterable[JobId], parents: dict[JobId, tuple[JobId, ...]]
) -> dict[JobId, JobId]:
    """Follow first parents to the top. The parents of these jobs themselves are known; those of
    jobs above them are asked for once, with a statement per level."""
    wanted = list(ids)
    first = {job: above[0] for job, above in parents.items()}
    known = {*wanted, *parents}
    unknown = set(first.values()) - known
    while unknown:
        above = parents_of(connection, unknown)
        known |= unknown
        first.update((job, tops[0]) for job, tops in above.items())
        unknown = {tops[0] for tops in above.values()} - known
    roots: dict[JobId, JobId] = {}
    for job in wanted:
        path = []
        top = job
        while top in first and top not in roots:
            path.append(top)
            top = first[top]
        root = roots.get(top, top)
        roots.update(dict.fromkeys((*path, job), root))
    return {job: roots[job] for job in wanted}
