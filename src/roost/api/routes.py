"""/api/v1 over HTTP, /healthz and /metrics: a table of operations, one short function each.

Knows paths, query strings and bodies, and turns them into commands and queries of the gateway.
Must not decide anything about a job or a node.

Always holds: an answer is a struct of `wire.rest` or a stream; whatever is refused, also an
unknown path or method, is answered as `{"error": {"status", "message"}}` with the refusal's
number as HTTP status. A POST must say `application/json`: a web page elsewhere cannot send that
without being asked first by the browser, so it cannot forge one. Streams wait for
`gateway.follow`, they do not poll, and end when nothing more can come.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar, cast
from urllib.parse import urlencode

import msgspec
import structlog
from msgspec import Struct
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from roost import __version__
from roost.api import metrics
from roost.api.openapi import Operation, Query, description
from roost.body import whole_body
from roost.core import actions, attributes, availability, jobspec, lifecycle, matching
from roost.core.messages import (
    AddNote,
    CreateGroup,
    DeleteGroup,
    RemoveNotes,
    RemoveResource,
    RemoveThreads,
    SetAttributes,
    SetAvailability,
    SetBlockedWarning,
    SetConditions,
    SetGroupNodes,
    SetNodeDescription,
    SetNodeGroups,
    SetResource,
)
from roost.core.records import (
    HOUR_MS,
    PROGRESS_UNIT,
    Attempt,
    GroupId,
    JobId,
    JobStatus,
    Moment,
    NodeId,
    NoteId,
    Reason,
    ThreadId,
)
from roost.errors import Conflict, Invalid, NotFound, Refused
from roost.gateway import (
    ALL_PARTS,
    NODE_STATES,
    Acted,
    Gateway,
    JobFilter,
    JobView,
    NodeFilter,
    NodesActed,
    NodeView,
    Part,
    Sample,
    ThreadView,
)
from roost.wire import rest

BODY_BYTES_MAX = 64 * 1024 * 1024
BODY_BYTES_INLINE_MAX = 64 * 1024
"""Larger submissions are parsed in a thread."""
PAGE_JOBS = 50
PAGE_JOBS_MAX = 1_000
OUTPUT_PART_BYTES_MAX = 4 * 1024 * 1024
LINES = 500
LINES_MAX = 2_000
"""Of an output log in one answer."""
HISTORY_JOBS = 50
HISTORY_JOBS_MAX = 1_000
ERRORS_MAX = 100
STATISTICS_HOURS_MAX = 90 * 24
STATISTICS_MOMENTS_MAX = 1_440
KIND_ROOTS_MAX = 1_000
"""Over so many of the jobs that ended last."""

ACTED_JOBS_MAX = 100_000
"""That a filter may choose at once."""

_log = structlog.get_logger(__name__)

# --- reading requests ----------------------------------------------------------------------------

T = TypeVar("T")


class UnsupportedMediaType(Refused):
    status = 415


class MethodNotAllowed(Refused):
    status = 405


def _require_json(request: Request) -> None:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise UnsupportedMediaType("The body must be sent as application/json.")


async def _decoded(request: Request, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(await whole_body(request, BODY_BYTES_MAX), type=type_)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Invalid(f"The body is not as described: {error}.") from None


def _query(request: Request, name: str, type_: type[T], default: T) -> T:
    """A parameter of the query string; raises `Invalid` naming it."""
    text = request.query_params.get(name)
    if text is None or text == "":
        return default
    try:
        value = msgspec.convert(text, type_, strict=False)
    except msgspec.MsgspecError as error:
        raise Invalid(f"{name}: {error}.") from None
    if isinstance(value, int) and abs(value) > jobspec.WHOLE_MAX:
        raise Invalid(f"{name}: must be a number up to {jobspec.WHOLE_MAX}.")
    return value


def _moment(request: Request, name: str) -> Moment | None:
    return Moment(value) if (value := _query(request, name, int, 0)) else None


def _words(request: Request, name: str) -> list[str]:
    """A list, written `?name=a,b` or `?name=a&name=b`."""
    texts = request.query_params.getlist(name)
    return [word.strip() for text in texts for word in text.split(",") if word.strip()]


def _id(request: Request) -> int:
    number = int(request.path_params["id"])
    if number > jobspec.WHOLE_MAX:
        raise NotFound(f"There is nothing with id {number}.")
    return number


def _no_job(ids: Sequence[int]) -> NotFound:
    return NotFound(f"There is no job {', '.join(map(str, ids))}; it may have been deleted.")


# --- views as structs ----------------------------------------------------------------------------


def _standing(view: JobView) -> dict[str, Any]:
    job, rollup = view.job, view.rollup
    return {
        "id": job.id,
        "status": job.status.value,
        "ui_status": rollup.ui_status,
        "progress": job.progress / PROGRESS_UNIT,
        "overall_progress": rollup.overall_progress / PROGRESS_UNIT,
        "tasks_total": rollup.tasks_total,
        "tasks_done": rollup.tasks_done,
        "tasks_failed": rollup.tasks_failed,
        "clients_assigned": rollup.clients_assigned,
        "finished": job.status in lifecycle.FINAL,
    }


def _row(view: JobView, now: Moment) -> dict[str, Any]:
    job = view.job
    return {
        **_standing(view),
        "name": job.spec.name,
        "priority": job.priority,
        "submitted_by": job.spec.submitted_by,
        "queued_at": job.queued_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "nodes": list(job.nodes),
        "sign_at": view.sign_at,
        "usual_ms": view.usual_ms,
        "silent": view.is_silent(now),
    }


_ROW_PARTS = frozenset({Part.SPEC, Part.SIGNS})


def _detail(view: JobView, now: Moment) -> rest.JobDetail:
    job = view.job
    return rest.JobDetail(
        **_row(view, now),
        spec=jobspec.unparse(job, job.spec.conditions),
        tries_left=job.tries_left,
        attempt=job.attempt,
        runnable_at=job.runnable_at,
        command_started_at=job.command_started_at,
        command_ended_at=job.command_ended_at,
        parents=list(view.parents),
        children=list(view.children),
        conditions=jobspec.conditions_as_dicts(view.conditions),
        held_nodes=list(view.held_nodes),
        events=[rest.JobEvent(e.at, e.status, e.message) for e in view.events],
        attempts=[_attempt(attempt) for attempt in view.attempts],
        reasons=_reasons(view.reasons),
        blocked_warning=job.blocked_warning,
        attributes={one.name: attributes.as_data(one.text) for one in view.attributes},
    )


def _attempt(attempt: Attempt) -> rest.JobAttempt:
    return rest.JobAttempt(
        number=attempt.number,
        purpose=attempt.purpose,
        nodes=list(attempt.nodes),
        assigned_at=attempt.assigned_at,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        cause=attempt.cause.value if attempt.cause else None,
        exit_code=attempt.exit_code,
        text=attempt.text,
    )


def _reasons(reasons: Sequence[Reason]) -> list[rest.JobReason]:
    return [rest.JobReason(reason.text, list(reason.nodes)) for reason in reasons]


def _node(view: NodeView) -> rest.NodeDetail:
    node, facts = view.node, view.node.facts
    return rest.NodeDetail(
        id=node.id,
        label=facts.label,
        hostname=facts.hostname,
        name=facts.name,
        ip=facts.ip,
        platform=facts.platform,
        version=facts.version,
        cpus=facts.cpus,
        cpus_busy=view.cpus_busy,
        cpu_speed_mhz=facts.cpu_speed_mhz,
        memory_kb=facts.memory_kb,
        gpus=list(facts.gpus),
        memory_used_kb=node.memory_used_kb,
        load=node.load,
        idle_minutes=node.idle_minutes,
        connected=view.connected,
        available=view.available,
        active=node.active,
        disabled=node.disabled,
        description=node.description,
        groups=list(view.groups),
        running=list(view.running),
        joined_at=node.joined_at,
        last_beat_at=node.last_beat_at,
        needs_upgrade=view.needs_upgrade,
        availability=[
            rest.AvailabilityRule(availability.show(rule), rule.enabled, rule.id)
            for rule in node.availability
        ],
        off_duty=view.off_duty,
        time_zone=view.time_zone,
        state=view.state,
    )


async def _view(gateway: Gateway, job_id: int, parts: frozenset[Part]) -> JobView:
    for view in await gateway.job_views((JobId(job_id),), parts):
        return view
    raise _no_job((job_id,))


# --- jobs ----------------------------------------------------------------------------------------


async def submit_jobs(gateway: Gateway, request: Request) -> rest.Ids:
    """Submit a job specification, or a list of them, in HQueue's form.

    All jobs are created or none. The answer holds their ids, breadth first.
    """
    body = await whole_body(request, BODY_BYTES_MAX)
    parent = _query(request, "parent", int, 0)
    arguments = (body, JobId(parent) if parent else None)
    if len(body) > BODY_BYTES_INLINE_MAX:
        command = await asyncio.to_thread(jobspec.parse, *arguments)
    else:
        command = jobspec.parse(*arguments)
    return rest.Ids(list(cast("Sequence[int]", await gateway.ask(command))))


async def list_jobs(gateway: Gateway, request: Request) -> rest.JobPage:
    """List jobs, newest first."""
    statuses = _statuses(_words(request, "status"))
    limit = _query(request, "limit", int, PAGE_JOBS)
    if not 1 <= limit <= PAGE_JOBS_MAX:
        raise Invalid(f"limit: must be between 1 and {PAGE_JOBS_MAX}.")
    parent, before = _query(request, "parent", int, 0), _query(request, "before", int, 0)
    which = JobFilter(
        statuses=statuses,
        roots_only=_query(request, "roots_only", bool, False),
        parent=JobId(parent) if parent else None,
        name_contains=_query(request, "name_contains", str, ""),
        name_excludes=_query(request, "name_excludes", str, ""),
        submitted_by=_query(request, "submitted_by", str, ""),
        submitted_after=_moment(request, "submitted_after"),
        ended_after=_moment(request, "ended_after"),
        before=JobId(before) if before else None,
        # One more than asked for tells whether there is a next page.
        limit=limit + 1,
    )
    views = await gateway.list_jobs(which, _ROW_PARTS)
    following = None
    if len(views) > limit:
        views = views[:limit]
        others = [(k, v) for k, v in request.query_params.multi_items() if k != "before"]
        following = f"{request.url.path}?{urlencode([*others, ('before', views[-1].job.id)])}"
    now = gateway.now()
    return rest.JobPage([rest.JobSummary(**_row(view, now)) for view in views], following)


async def get_job(gateway: Gateway, request: Request) -> rest.JobDetail:
    """All that is known of a job."""
    return _detail(await _view(gateway, _id(request), ALL_PARTS), gateway.now())


async def get_reasons(gateway: Gateway, request: Request) -> rest.Reasons:
    """Why a job does not run."""
    view = await _view(gateway, _id(request), frozenset({Part.REASONS}))
    return rest.Reasons(_reasons(view.reasons))


def _action(name: str, action: actions.Action) -> Operation:
    text = (action.command.__doc__ or "").strip()

    async def act(gateway: Gateway, request: Request) -> rest.Acted:
        chosen = await _decoded(request, rest.Selection)
        return _acted(await gateway.act(name, *_selection(chosen)))

    act.__name__ = f"{name}_jobs"
    act.__doc__ = (
        f"{name.replace('_', ' ').capitalize()} jobs and what is linked to them.\n\n"
        f"{text} Ids that are unknown, or in a state that does not allow it, are skipped."
    )
    return Operation("POST", f"{rest.PREFIX}/jobs/{name}", act, rest.Acted, rest.Selection)


def _selection(chosen: rest.Selection) -> tuple[JobFilter | None, Sequence[JobId]]:
    match = chosen.match
    if (chosen.ids is None) == (match is None):
        raise Invalid("Give either ids or match.")
    if match is None:
        return None, tuple(dict.fromkeys(map(JobId, chosen.ids or ())))
    which = JobFilter(
        statuses=_statuses(match.status),
        roots_only=match.roots_only,
        parent=JobId(match.parent) if match.parent else None,
        name_contains=match.name_contains,
        name_excludes=match.name_excludes,
        submitted_by=match.submitted_by,
        submitted_after=Moment(match.submitted_after) if match.submitted_after else None,
        ended_after=Moment(match.ended_after) if match.ended_after else None,
        limit=ACTED_JOBS_MAX,
    )
    return which, ()


def _statuses(words: Sequence[str]) -> tuple[JobStatus, ...]:
    known = list(JobStatus)
    for word in words:
        if word not in known:
            raise Invalid(f"status: there is no {word!r}; it can be one of {', '.join(known)}.")
    return tuple(JobStatus(word) for word in words)


def _acted(acted: Acted) -> rest.Acted:
    return rest.Acted(applied=list(acted.applied), skipped=list(acted.left_out), undo=acted.undo)


async def set_priority(gateway: Gateway, request: Request) -> rest.Acted:
    """Set the priority of jobs; unknown ids are skipped."""
    wish = await _decoded(request, rest.Priority)
    return _acted(await gateway.act("priority", *_selection(wish), priority=wish.priority))


async def get_permitted_nodes(gateway: Gateway, request: Request) -> rest.PermittedNodes:
    """The labels of those nodes that pass a job's conditions."""
    view = await _view(gateway, _id(request), frozenset({Part.CONDITIONS}))
    nodes = [each.node for each in await gateway.nodes()]
    found = matching.permitted(view.conditions, nodes, await gateway.groups())
    return rest.PermittedNodes([node.facts.label for node in found])


async def set_permitted_nodes(gateway: Gateway, request: Request) -> rest.Done:
    """Let only these nodes run a job, or any; all its own conditions are replaced.

    What runs already goes on. An empty list permits none.
    """
    nodes = (await _decoded(request, rest.PermittedNodes)).nodes
    conditions = () if nodes is None else (jobspec.permitted(nodes),)
    await gateway.ask(SetConditions(JobId(_id(request)), conditions))
    return rest.Done()


async def set_blocked_warning(gateway: Gateway, request: Request) -> rest.Done:
    """Show or hide the warning that some nodes get no more of a job's tree."""
    shown = (await _decoded(request, rest.BlockedWarning)).shown
    await gateway.ask(SetBlockedWarning(JobId(_id(request)), shown))
    return rest.Done()


async def get_attributes(gateway: Gateway, request: Request) -> rest.JobAttributes:
    """A job's own attributes, and the history of those that are numbers."""
    view = await _view(gateway, _id(request), frozenset({Part.ATTRIBUTES}))
    kept = await gateway.attribute_points(view.job.id)
    return rest.JobAttributes(
        [
            rest.JobAttribute(
                name=one.name,
                value=attributes.as_data(one.text),
                text=one.text,
                set_at=one.at,
                history=[*attributes.history(one, kept.get(attributes.fold(one.name), ()))],
            )
            for one in view.attributes
        ]
    )


async def set_attributes(gateway: Gateway, request: Request) -> rest.Done:
    """Set attributes of a job; the others stay.

    `JobPrio` sets its priority and `Progress`, from 0 to 1, that of a running job. What tells
    about the job itself, such as `JobStatus`, cannot be set.
    """
    values = (await _decoded(request, rest.AttributeValues)).attributes
    texts = {name: attributes.text_of(name, value) for name, value in values.items()}
    await gateway.ask(SetAttributes(JobId(_id(request)), texts))
    return rest.Done()


async def get_output(gateway: Gateway, request: Request) -> Response:
    """A part of a job's output log, as stored.

    Headers tell the offset of the part, the total stored so far, and whether it is complete.
    """
    job = JobId(_id(request))
    offset = _query(request, "offset", int, 0)
    last = _query(request, "last", int, -1)
    size = min(_query(request, "limit", int, OUTPUT_PART_BYTES_MAX), OUTPUT_PART_BYTES_MAX)
    if offset < 0:
        raise Invalid("offset: must be 0 or more.")
    if size < 1:
        raise Invalid("limit: must be 1 or more.")
    if last >= 0:
        total = (await gateway.output_part(job, 0, 1)).total
        offset = max(total - last, offset)
    part = await gateway.output_part(job, offset, size)
    return Response(
        part.data,
        headers={
            **_OUTPUT_HEADERS,
            rest.HEADER_OFFSET: str(part.offset),
            rest.HEADER_TOTAL: str(part.total),
            rest.HEADER_COMPLETE: "true" if part.complete else "false",
        },
    )


async def get_output_lines(gateway: Gateway, request: Request) -> rest.OutputLines:
    """Lines of a job's output log by number, each with when it came.

    A negative `first` is so many from the end. Lines are cut after a few thousand bytes.
    """
    first, count = _query(request, "first", int, 1), _query(request, "count", int, LINES)
    if not 0 <= count <= LINES_MAX:
        raise Invalid(f"count: must be between 0 and {LINES_MAX}.")
    attempt = _query(request, "attempt", int, 0) or None
    found = await gateway.output_lines(JobId(_id(request)), first, count, attempt, timed=True)
    return rest.OutputLines(
        first=found.first,
        texts=found.texts,
        arrived_at=[second * 1000 if second else None for second in found.times],
        total=found.total,
        is_open=found.is_open,
        size=found.size,
        complete=found.complete,
    )


_OUTPUT_HEADERS = {
    "content-type": "text/plain; charset=utf-8",
    # Whatever a job prints, a browser must not take it for a page of this server.
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


async def follow_output(gateway: Gateway, request: Request) -> Response:
    """A job's output log as it grows, until it is complete."""
    job = JobId(_id(request))
    start = _query(request, "offset", int, 0)
    if start < 0:
        raise Invalid("offset: must be 0 or more.")
    await gateway.output_part(job, start, 1)  # refuse while there still is a status to send

    async def chunks() -> AsyncIterator[bytes]:
        offset = start
        async with aclosing(cast("Any", gateway.follow((job,)))) as changes:
            async for _ in changes:
                while True:
                    try:
                        part = await gateway.output_part(job, offset, OUTPUT_PART_BYTES_MAX)
                    except NotFound:
                        return  # deleted meanwhile
                    offset += len(part.data)
                    if part.data:
                        yield part.data
                    if part.complete and offset >= part.total:
                        return
                    if not part.data:
                        break

    return StreamingResponse(chunks(), headers=_OUTPUT_HEADERS)


async def follow_jobs(gateway: Gateway, request: Request) -> Response:
    """Server-sent events: a snapshot of each job that changes, until all are finished.

    `job` events carry a JobChange, beginning with the present state of all; an `end` event tells
    that all are finished. Changes are merged while the reader is slow. With `seconds` it ends
    after that time, without an `end` event.
    """
    seconds = _query(request, "seconds", float, math.inf)
    if not seconds >= 0:
        raise Invalid("seconds: must be 0 or more.")
    try:
        ids = list(dict.fromkeys(jobspec.job_id(word) for word in _words(request, "ids")))
    except Invalid as error:
        raise Invalid(f"ids: each {error}.") from None
    if not 1 <= len(ids) <= rest.FOLLOWED_JOBS_MAX:
        raise Invalid(f"ids: give between 1 and {rest.FOLLOWED_JOBS_MAX} job ids.")
    known = {view.job.id for view in await gateway.job_views(ids, frozenset())}
    if missing := [job_id for job_id in ids if job_id not in known]:
        raise _no_job(missing)

    async def events() -> AsyncIterator[ServerSentEvent]:
        unfinished = set(ids)
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        async with aclosing(cast("Any", gateway.follow(ids))) as changes:
            left: float | None = None  # the present state comes in any case
            while True:
                try:
                    changed = await asyncio.wait_for(anext(changes), left)
                except (StopAsyncIteration, TimeoutError):
                    return
                left = None if end == math.inf else max(end - loop.time(), 0)
                views = await gateway.job_views(changed, frozenset())
                for view in views:
                    data = msgspec.json.encode(rest.JobChange(**_standing(view))).decode()
                    yield ServerSentEvent(data, event=rest.EVENT_CHANGE)
                finished = {v.job.id for v in views if v.job.status in lifecycle.FINAL}
                deleted = set(changed) - {view.job.id for view in views}
                # An abandoned job may run again, so it can leave the set of the finished.
                unfinished = (unfinished | set(changed)) - finished - deleted
                if not unfinished:
                    yield ServerSentEvent("{}", event=rest.EVENT_END)
                    return

    return EventSourceResponse(events())


# --- nodes ---------------------------------------------------------------------------------------


async def list_nodes(gateway: Gateway, request: Request) -> rest.Nodes:
    """All nodes of the farm."""
    return rest.Nodes([_node(view) for view in await gateway.nodes()])


async def get_node(gateway: Gateway, request: Request) -> rest.NodeDetail:
    """All that is known of a node."""
    node_id = _id(request)
    for view in await gateway.nodes():
        if view.node.id == node_id:
            return _node(view)
    raise NotFound(f"There is no node with id {node_id}.")


async def set_availability(gateway: Gateway, request: Request) -> rest.Done:
    """Replace all rules by which a node takes jobs; what it runs goes on.

    Without rules it may always take jobs, with only disabled ones never.
    """
    rules = (await _decoded(request, rest.Availability)).rules
    command = SetAvailability(
        NodeId(_id(request)),
        tuple(
            msgspec.structs.replace(availability.parse(one.rule), enabled=one.enabled, id=one.id)
            for one in rules
        ),
    )
    await gateway.ask(command)
    return rest.Done()


async def describe_node(gateway: Gateway, request: Request) -> rest.Done:
    """Say what a node is, for people."""
    text = (await _decoded(request, rest.NodeDescription)).description
    await gateway.ask(SetNodeDescription(NodeId(_id(request)), text))
    return rest.Done()


async def disable_node(gateway: Gateway, request: Request) -> rest.NodesActed:
    """Drain a node: it finishes what it runs and gets nothing new."""
    return _nodes_acted(await gateway.act_on_nodes("drain", None, [NodeId(_id(request))]))


async def enable_node(gateway: Gateway, request: Request) -> rest.NodesActed:
    """Let a node take jobs again."""
    return _nodes_acted(await gateway.act_on_nodes("enable", None, [NodeId(_id(request))]))


async def remove_node(gateway: Gateway, request: Request) -> rest.NodesActed:
    """Take a node out of the farm; what it runs is abandoned."""
    return _nodes_acted(await gateway.act_on_nodes("remove", None, [NodeId(_id(request))]))


async def drain_nodes(gateway: Gateway, request: Request) -> rest.NodesActed:
    """Drain nodes, all of these or none: they finish what they run and get nothing new."""
    return await _act_on_nodes(gateway, request, "drain")


async def enable_nodes(gateway: Gateway, request: Request) -> rest.NodesActed:
    """Let nodes take jobs again, all of these or none."""
    return await _act_on_nodes(gateway, request, "enable")


async def upgrade_nodes(gateway: Gateway, request: Request) -> rest.NodesActed:
    """Give nodes the server's own Roost, each by a job that waits until it has nothing to do.

    Answers the ids of these jobs; nodes that are up to date have none.
    """
    return await _act_on_nodes(gateway, request, "upgrade")


async def remove_nodes(gateway: Gateway, request: Request) -> rest.NodesActed:
    """Take nodes out of the farm, all of these or none; what they run is abandoned."""
    return await _act_on_nodes(gateway, request, "remove")


async def _act_on_nodes(
    gateway: Gateway, request: Request, action: str, group: GroupId | None = None
) -> rest.NodesActed:
    chosen = await _decoded(request, rest.NodeSelection)
    match = chosen.match
    if (chosen.nodes is None) == (match is None):
        raise Invalid("Give either nodes or match.")
    which = None
    if match is not None:
        if unknown := [word for word in match.state if word not in NODE_STATES]:
            known = ", ".join(NODE_STATES)
            raise Invalid(f"state: {unknown[0]!r} is no state of a node; they are {known}.")
        which = NodeFilter(
            tuple(match.state), match.words, GroupId(match.group) if match.group else None
        )
    ids = [NodeId(node) for node in chosen.nodes or ()]
    return _nodes_acted(await gateway.act_on_nodes(action, which, ids, group))


def _nodes_acted(acted: NodesActed) -> rest.NodesActed:
    return rest.NodesActed(
        applied=list(acted.applied),
        skipped=list(acted.left_out),
        ids=list(acted.jobs),
        undo=acted.undo,
    )


async def set_node_groups(gateway: Gateway, request: Request) -> rest.Done:
    """Put a node into these client groups, and take it out of all others."""
    groups = tuple(map(GroupId, (await _decoded(request, rest.GroupIds)).groups))
    await gateway.ask(SetNodeGroups(NodeId(_id(request)), groups))
    return rest.Done()


async def undo(gateway: Gateway, request: Request) -> rest.Undone:
    """Take back what an action did: pause, resume, priority, drain, enable, groups.

    Exactly the jobs or nodes that it changed are put back to what they were; each `undo` is good
    once, for the last actions since the server was started.
    """
    undone = await gateway.undo((await _decoded(request, rest.Undo)).undo)
    return rest.Undone(jobs=list(undone.jobs), nodes=list(undone.nodes), undo=undone.undo)


async def get_node_history(gateway: Gateway, request: Request) -> rest.JobPage:
    """The jobs that most recently ended on a node, the latest first."""
    limit = _query(request, "limit", int, HISTORY_JOBS)
    if not 1 <= limit <= HISTORY_JOBS_MAX:
        raise Invalid(f"limit: must be between 1 and {HISTORY_JOBS_MAX}.")
    node = (await _node_view(gateway, _id(request))).node.id
    ids = await gateway.job_history(node, limit)
    views = await gateway.job_views(ids, frozenset({Part.SPEC}))
    now = gateway.now()
    return rest.JobPage([rest.JobSummary(**_row(view, now)) for view in views])


async def get_node_errors(gateway: Gateway, request: Request) -> rest.FarmErrors:
    """The runs that could not be started on a node, the latest first."""
    node = (await _node_view(gateway, _id(request))).node.id
    total, failures = await gateway.start_failures(node, ERRORS_MAX)
    errors = [
        rest.FarmError(
            at=attempt.ended_at or attempt.assigned_at,
            text=f"Job {attempt.job} could not be started: {attempt.text}",
            node=node,
            job=attempt.job,
        )
        for attempt in failures
    ]
    return rest.FarmErrors(total, errors)


async def _node_view(gateway: Gateway, number: int) -> NodeView:
    for view in await gateway.nodes(with_former=True):
        if view.node.id == number:
            return view
    raise NotFound(f"There is no node with id {number}.")


# --- notes ---------------------------------------------------------------------------------------


async def list_notes(gateway: Gateway, request: Request) -> rest.NoteThreads:
    """Threads of notes: all, that of a job or node, or one by its id.

    A job or node without notes has no thread, so the list is empty.
    """
    job, node = _query(request, "job", int, 0), _query(request, "node", int, 0)
    thread, latest_only = _query(request, "thread", int, 0), _query(request, "latest", bool, False)
    if sum(map(bool, (job, node, thread))) > 1:
        raise Invalid("Give one of job, node and thread.")
    ids: Sequence[ThreadId] | None = None
    if job or node:
        view = (
            await _view(gateway, job, frozenset({Part.NOTES}))
            if job
            else await _node_view(gateway, node)
        )
        ids = [view.latest_note.thread] if view.latest_note else []
    elif thread:
        ids = [ThreadId(thread)]
    threads = await gateway.threads(ids, latest_only=latest_only)
    if thread and not threads:
        raise NotFound(f"There is no thread {thread}.")
    return rest.NoteThreads([_thread(each) for each in threads])


def _thread(thread: ThreadView) -> rest.NoteThread:
    notes = [rest.NoteDetail(note.id, note.at, note.text) for note in thread.notes]
    return rest.NoteThread(thread.id, thread.job, thread.node, notes)


async def add_note(gateway: Gateway, request: Request) -> rest.NewId:
    """Add a note to the thread of a job or node, to a thread, or to a new one."""
    note = await _decoded(request, rest.NewNote)
    if sum(each is not None for each in (note.job, note.node, note.thread)) > 1:
        raise Invalid("A note is about one of job, node and thread.")
    # The farm puts a note about what it does not know into a new thread, as HQueue's callers
    # expect; whoever names one thing here wants it there or not at all.
    if note.job is not None:
        await _view(gateway, note.job, frozenset())
    elif note.node is not None:
        await _node_view(gateway, note.node)
    elif note.thread is not None and not await gateway.threads([ThreadId(note.thread)]):
        raise NotFound(f"There is no thread {note.thread}.")
    command = AddNote(
        note.text,
        thread=ThreadId(note.thread) if note.thread else None,
        job=JobId(note.job) if note.job else None,
        node=NodeId(note.node) if note.node else None,
    )
    return rest.NewId(cast("int", await gateway.ask(command)))


async def remove_note(gateway: Gateway, request: Request) -> rest.Done:
    """Remove a note. The first of a thread stays while it has replies."""
    note = NoteId(_id(request))
    if await gateway.ask(RemoveNotes((note,))):
        threads = await gateway.threads()
        if any(each.id == note for thread in threads for each in thread.notes):
            raise Conflict(f"Note {note} has replies: remove these first, or the whole thread.")
        raise NotFound(f"There is no note {note}.")
    return rest.Done()


async def remove_thread(gateway: Gateway, request: Request) -> rest.Done:
    """Remove a thread with all of its notes."""
    thread = ThreadId(_id(request))
    if await gateway.ask(RemoveThreads((thread,))):
        raise NotFound(f"There is no thread {thread}.")
    return rest.Done()


# --- groups and resources ------------------------------------------------------------------------


async def list_groups(gateway: Gateway, request: Request) -> rest.Groups:
    """All client groups."""
    groups = await gateway.groups()
    return rest.Groups([rest.GroupDetail(g.id, g.name, list(g.nodes)) for g in groups])


async def create_group(gateway: Gateway, request: Request) -> rest.NewId:
    """Make a new, empty client group."""
    name = (await _decoded(request, rest.NewGroup)).name
    return rest.NewId(cast("int", await gateway.ask(CreateGroup(name))))


async def delete_group(gateway: Gateway, request: Request) -> rest.Done:
    """Delete a client group; conditions of jobs that name it match no node from then on."""
    await gateway.ask(DeleteGroup(GroupId(_id(request))))
    return rest.Done()


async def add_to_group(gateway: Gateway, request: Request) -> rest.NodesActed:
    """Add nodes to a client group."""
    return await _act_on_nodes(gateway, request, "add_to_group", GroupId(_id(request)))


async def remove_from_group(gateway: Gateway, request: Request) -> rest.NodesActed:
    """Take nodes out of a client group; jobs that run there go on."""
    return await _act_on_nodes(gateway, request, "take_out_of_group", GroupId(_id(request)))


async def set_group_nodes(gateway: Gateway, request: Request) -> rest.Done:
    """Say which nodes are in a client group; all others are taken out."""
    nodes = tuple(map(NodeId, (await _decoded(request, rest.NodeIds)).nodes))
    await gateway.ask(SetGroupNodes(GroupId(_id(request)), nodes))
    return rest.Done()


async def list_resources(gateway: Gateway, request: Request) -> rest.Resources:
    """All resources that jobs may need, and how much of each is in use."""
    return rest.Resources(
        [
            rest.ResourceDetail(one.id, one.name, one.max, one.per_machine, view.in_use)
            for view in await gateway.resources()
            for one in (view.resource,)
        ]
    )


async def set_resource(gateway: Gateway, request: Request) -> rest.NewId:
    """Enter a resource, or change it.

    The maximum cannot go below what is in use, and `per_machine` cannot change while some is.
    """
    limit = await _decoded(request, rest.ResourceLimit)
    command = SetResource(request.path_params["name"], limit.max, limit.per_machine)
    return rest.NewId(cast("int", await gateway.ask(command)))


async def remove_resource(gateway: Gateway, request: Request) -> rest.Done:
    """Remove a resource that is not in use; jobs that need it wait from then on."""
    await gateway.ask(RemoveResource(request.path_params["name"]))
    return rest.Done()


# --- the server ----------------------------------------------------------------------------------


async def get_config(gateway: Gateway, request: Request) -> rest.ConfigValue:
    """A setting under HQueue's key name; its value is null when unknown or secret."""
    key = request.path_params["key"]
    return rest.ConfigValue(key, gateway.config(key))


async def get_server_errors(gateway: Gateway, request: Request) -> rest.FarmErrors:
    """What went wrong inside the server since it started, the latest first."""
    found = gateway.server_errors()
    return rest.FarmErrors(
        found.total, [rest.FarmError(at=each.at, text=each.text) for each in found.errors]
    )


async def get_statistics(gateway: Gateway, request: Request) -> rest.Statistics:
    """The farm's numbers over time; long times are folded into fewer moments.

    What was counted (`ended`, `failed`) is added up then, of waits the longest is kept and of
    `failed_an_hour` the most, and of everything else the mean.
    """
    hours = _query(request, "hours", float, 24.0)
    if not 0 < hours <= STATISTICS_HOURS_MAX:
        raise Invalid(f"hours: must be above 0, and {STATISTICS_HOURS_MAX} at most.")
    since = Moment(gateway.now() - round(hours * HOUR_MS))
    found = await gateway.samples(since, STATISTICS_MOMENTS_MAX)
    names = [name for name in Sample.__struct_fields__ if name != "at"]
    return rest.Statistics(
        at=[sample.at for sample in found],
        series={name: [getattr(sample, name) for sample in found] for name in names},
        kinds=[
            rest.JobKind(one.name, one.jobs, one.failed, one.run_ms)
            for one in await gateway.kinds(KIND_ROOTS_MAX)
        ],
    )


async def list_activity(gateway: Gateway, request: Request) -> rest.ActivityPage:
    """What people did to the farm, the latest first."""
    limit = _query(request, "limit", int, PAGE_JOBS)
    if not 1 <= limit <= PAGE_JOBS_MAX:
        raise Invalid(f"limit: must be between 1 and {PAGE_JOBS_MAX}.")
    before = _query(request, "before", int, 0) or None
    found = await gateway.activities(limit, before, _query(request, "words", str, ""))
    return rest.ActivityPage(
        [
            rest.Deed(
                id=number,
                at=one.at,
                by=one.by,
                action=one.action,
                text=one.text,
                jobs=list(one.jobs),
                jobs_total=one.jobs_total,
                node=one.node,
            )
            for number, one in found
        ]
    )


async def get_health(gateway: Gateway, request: Request) -> Response:
    """Whether the server takes work, and the numbers of the farm; 503 when it does not."""
    try:
        counts = await gateway.counts()
    except Refused as error:
        health = rest.Health(status="unavailable", version=__version__, message=str(error))
        return _json(health, 503)
    numbers = msgspec.structs.asdict(counts)
    return _json(rest.Health(status="ok", version=__version__, **numbers), 200)


async def get_metrics(gateway: Gateway, request: Request) -> Response:
    """The numbers of the farm in the text format of Prometheus."""
    text = metrics.text(await gateway.counts(), gateway.pace(), await gateway.nodes())
    return Response(text, media_type=metrics.CONTENT_TYPE)


async def get_openapi(gateway: Gateway, request: Request) -> Response:
    """This description."""
    return _json(description(OPERATIONS), 200)


# --- the table -----------------------------------------------------------------------------------

_JOBS, _NODES = f"{rest.PREFIX}/jobs", f"{rest.PREFIX}/nodes"
_GROUPS, _RESOURCES = f"{rest.PREFIX}/groups", f"{rest.PREFIX}/resources"
_NOTES = f"{rest.PREFIX}/notes"

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "POST",
        _JOBS,
        submit_jobs,
        rest.Ids,
        dict[str, Any] | list[dict[str, Any]],
        (Query("parent", int, "Existing job that becomes the parent."),),
        201,
    ),
    Operation(
        "GET",
        _JOBS,
        list_jobs,
        rest.JobPage,
        queries=(
            Query("status", list[str], "Only jobs with one of these statuses."),
            Query("roots_only", bool, "Only jobs without a parent."),
            Query("parent", int, "Only children of this job."),
            Query("name_contains", str, "Only jobs with this in their name."),
            Query("name_excludes", str, "Only jobs without this in their name."),
            Query("submitted_by", str, "Only jobs of this submitter."),
            Query("submitted_after", int, "Only jobs submitted since then."),
            Query("ended_after", int, "Only jobs that ended since then."),
            Query("before", int, "Only ids below this one; `next` of an answer sets it."),
            Query("limit", int, f"Jobs per page, {PAGE_JOBS} unless told, {PAGE_JOBS_MAX} at most"),
        ),
    ),
    *(_action(name, action) for name, action in actions.ACTIONS.items()),
    _action("reschedule_failed", actions.RESCHEDULE_FAILED),
    Operation("POST", f"{_JOBS}/priority", set_priority, rest.Acted, rest.Priority),
    Operation(
        "GET",
        f"{_JOBS}/events",
        follow_jobs,
        "text/event-stream",
        queries=(
            Query("ids", list[int], "The jobs to follow."),
            Query("seconds", float, "End after so long, whatever the jobs do."),
        ),
    ),
    Operation("GET", f"{_JOBS}/{{id:int}}", get_job, rest.JobDetail),
    Operation("GET", f"{_JOBS}/{{id:int}}/reasons", get_reasons, rest.Reasons),
    Operation("GET", f"{_JOBS}/{{id:int}}/permitted", get_permitted_nodes, rest.PermittedNodes),
    Operation(
        "PUT", f"{_JOBS}/{{id:int}}/permitted", set_permitted_nodes, rest.Done, rest.PermittedNodes
    ),
    Operation("GET", f"{_JOBS}/{{id:int}}/attributes", get_attributes, rest.JobAttributes),
    Operation(
        "PATCH", f"{_JOBS}/{{id:int}}/attributes", set_attributes, rest.Done, rest.AttributeValues
    ),
    Operation(
        "PUT",
        f"{_JOBS}/{{id:int}}/blocked-warning",
        set_blocked_warning,
        rest.Done,
        rest.BlockedWarning,
    ),
    Operation(
        "GET",
        f"{_JOBS}/{{id:int}}/output",
        get_output,
        "text/plain",
        queries=(
            Query("offset", int, "Where to begin, in bytes."),
            Query("limit", int, f"Bytes at most; {OUTPUT_PART_BYTES_MAX} is the most."),
            Query("last", int, "Begin this many bytes before the end."),
        ),
    ),
    Operation(
        "GET",
        f"{_JOBS}/{{id:int}}/output/lines",
        get_output_lines,
        rest.OutputLines,
        queries=(
            Query("first", int, "The number of the first line, 1 unless told."),
            Query("count", int, f"Lines at most, {LINES} unless told; {LINES_MAX} is the most."),
            Query("attempt", int, "Only what this attempt wrote."),
        ),
    ),
    Operation(
        "GET",
        f"{_JOBS}/{{id:int}}/output/follow",
        follow_output,
        "text/plain",
        queries=(Query("offset", int, "Where to begin, in bytes."),),
    ),
    Operation("GET", _NODES, list_nodes, rest.Nodes),
    Operation("GET", f"{_NODES}/{{id:int}}", get_node, rest.NodeDetail),
    Operation(
        "PUT", f"{_NODES}/{{id:int}}/availability", set_availability, rest.Done, rest.Availability
    ),
    Operation(
        "PUT", f"{_NODES}/{{id:int}}/description", describe_node, rest.Done, rest.NodeDescription
    ),
    Operation("PUT", f"{_NODES}/{{id:int}}/groups", set_node_groups, rest.Done, rest.GroupIds),
    Operation("POST", f"{_NODES}/drain", drain_nodes, rest.NodesActed, rest.NodeSelection),
    Operation("POST", f"{_NODES}/enable", enable_nodes, rest.NodesActed, rest.NodeSelection),
    Operation("POST", f"{_NODES}/upgrade", upgrade_nodes, rest.NodesActed, rest.NodeSelection),
    Operation("POST", f"{_NODES}/remove", remove_nodes, rest.NodesActed, rest.NodeSelection),
    Operation("POST", f"{_NODES}/{{id:int}}/disable", disable_node, rest.NodesActed),
    Operation("POST", f"{_NODES}/{{id:int}}/enable", enable_node, rest.NodesActed),
    Operation("DELETE", f"{_NODES}/{{id:int}}", remove_node, rest.NodesActed),
    Operation("POST", f"{rest.PREFIX}/undo", undo, rest.Undone, rest.Undo),
    Operation(
        "GET",
        f"{_NODES}/{{id:int}}/history",
        get_node_history,
        rest.JobPage,
        queries=(
            Query("limit", int, f"Jobs at most, {HISTORY_JOBS} unless told, {HISTORY_JOBS_MAX}."),
        ),
    ),
    Operation("GET", f"{_NODES}/{{id:int}}/errors", get_node_errors, rest.FarmErrors),
    Operation(
        "GET",
        _NOTES,
        list_notes,
        rest.NoteThreads,
        queries=(
            Query("job", int, "Only the thread of this job."),
            Query("node", int, "Only the thread of this node."),
            Query("thread", int, "Only this thread."),
            Query("latest", bool, "Of each thread only the latest note."),
        ),
    ),
    Operation("POST", _NOTES, add_note, rest.NewId, rest.NewNote, (), 201),
    Operation("DELETE", f"{_NOTES}/{{id:int}}", remove_note, rest.Done),
    Operation("DELETE", f"{rest.PREFIX}/threads/{{id:int}}", remove_thread, rest.Done),
    Operation("GET", _GROUPS, list_groups, rest.Groups),
    Operation("POST", _GROUPS, create_group, rest.NewId, rest.NewGroup, (), 201),
    Operation("DELETE", f"{_GROUPS}/{{id:int}}", delete_group, rest.Done),
    Operation(
        "POST", f"{_GROUPS}/{{id:int}}/add", add_to_group, rest.NodesActed, rest.NodeSelection
    ),
    Operation(
        "POST",
        f"{_GROUPS}/{{id:int}}/remove",
        remove_from_group,
        rest.NodesActed,
        rest.NodeSelection,
    ),
    Operation("PUT", f"{_GROUPS}/{{id:int}}/nodes", set_group_nodes, rest.Done, rest.NodeIds),
    Operation("GET", _RESOURCES, list_resources, rest.Resources),
    Operation("PUT", f"{_RESOURCES}/{{name:path}}", set_resource, rest.NewId, rest.ResourceLimit),
    Operation("DELETE", f"{_RESOURCES}/{{name:path}}", remove_resource, rest.Done),
    Operation("GET", f"{rest.PREFIX}/config/{{key}}", get_config, rest.ConfigValue),
    Operation("GET", f"{rest.PREFIX}/errors", get_server_errors, rest.FarmErrors),
    Operation(
        "GET",
        f"{rest.PREFIX}/statistics",
        get_statistics,
        rest.Statistics,
        queries=(Query("hours", float, "How far back, 24 unless told."),),
    ),
    Operation(
        "GET",
        f"{rest.PREFIX}/activity",
        list_activity,
        rest.ActivityPage,
        queries=(
            Query("limit", int, f"At most so many, {PAGE_JOBS} unless told."),
            Query("before", int, "Only those with ids below this one."),
            Query("words", str, "Only those that have these words."),
        ),
    ),
    Operation("GET", f"{rest.PREFIX}/openapi.json", get_openapi, dict[str, Any]),
    Operation("GET", "/healthz", get_health, rest.Health),
    Operation("GET", "/metrics", get_metrics, "text/plain"),
)


# --- serving it ----------------------------------------------------------------------------------


def _json(value: object, status: int) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _error(status: int, message: str) -> Response:
    return _json(rest.ErrorBody(rest.ErrorDetail(status, message)), status)


def _endpoint(
    gateway: Gateway, operations: dict[str, Operation]
) -> Callable[[Request], Awaitable[Response]]:
    """Serve the operations of one path, by HTTP method."""
    allowed = ", ".join(sorted(operations))

    async def endpoint(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        try:
            operation = operations.get(method)
            if operation is None:
                raise MethodNotAllowed(f"{request.method} is not possible here, only {allowed}.")
            if method == "POST":
                _require_json(request)
            answer = await operation.function(gateway, request)
        except Refused as error:
            response = _error(error.status, str(error))
            if isinstance(error, MethodNotAllowed):
                response.headers["allow"] = allowed
            return response
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is left to read it
        except Exception:
            error_id = uuid.uuid4().hex[:12]
            _log.exception("request failed", path=request.url.path, error_id=error_id)
            where = f"failed inside the server; its log tells more under error id {error_id}."
            gateway.note_error(f"{method} {request.url.path} {where}")
            return _error(500, f"The request {where}")
        return _json(answer, operation.status) if isinstance(answer, Struct) else answer

    return endpoint


def routes(gateway: Gateway) -> list[Route]:
    """All operations, and last a 404 in JSON for every other path under /api/v1.

    Other routes beneath /api/v1 therefore go before these.
    """
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in OPERATIONS:
        by_path.setdefault(operation.path, {})[operation.method] = operation

    async def nothing_here(request: Request) -> Response:
        description_path = f"{rest.PREFIX}/openapi.json"
        return _error(404, f"There is no {request.url.path}; {description_path} tells what is.")

    every = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    served = [
        Route(path, _endpoint(gateway, operations), methods=every)
        for path, operations in by_path.items()
    ]
    return [*served, Route(f"{rest.PREFIX}/{{rest:path}}", nothing_here, methods=every)]
