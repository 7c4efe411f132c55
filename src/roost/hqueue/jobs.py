"""HQueue's methods about jobs: submitting, acting, asking, output.

Knows the names, argument orders and answers of HQueue's Python API page and the shapes decided on
where the page is silent. Must not decide anything about a job: it turns calls into commands and
queries of the gateway, and views into dictionaries.

Always holds: an attribute named by the caller costs only what it needs (`ATTRIBUTES` says which
parts, and whether nodes have to be looked up), and a job read through here never lacks a
documented attribute unless the caller left it out. Arguments arrive already coerced by `dispatch`.
The first paragraph of each docstring is what `system.methodHelp` and the reference page show.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from roost.core import attributes, jobspec, lifecycle, matching
from roost.core.messages import (
    CancelJobs,
    DeleteJobs,
    EjectJobs,
    PauseJobs,
    RescheduleJobs,
    ResumeJobs,
    SetBlockedWarning,
    SetConditions,
    SetPriority,
)
from roost.core.records import MINUTE_MS, PROGRESS_UNIT, JobId, JobStatus, Moment, Node, NodeId
from roost.errors import Invalid, NotFound
from roost.gateway import ALL_PARTS, Gateway, JobView, Part
from roost.wire.xmlrpc import UtcTime, is_heavy

UTF8_BYTES_MAX = 4
"""A character takes at most this many bytes."""
SHAPED_INLINE_MAX = 50
"""Dictionaries for more jobs than this are made in a thread."""

RUNNING = frozenset({JobStatus.RUNNING, JobStatus.PAUSING, JobStatus.RESUMING})
UNFINISHED = frozenset(JobStatus) - lifecycle.FINISHED

# --- attributes ----------------------------------------------------------------------------------


class Background(Struct, frozen=True):
    """What attributes need besides the job itself."""

    now: Moment
    nodes: dict[NodeId, Node]


class Attribute(Struct, frozen=True):
    read: Callable[[JobView, Background], object]
    part: Part | None = None
    needs_nodes: bool = False


def _time(moment: Moment | None) -> UtcTime | None:
    return None if moment is None else UtcTime(moment)


def _eta(view: JobView, background: Background) -> int:
    """Seconds; -1 when nothing can be said."""
    remaining_ms = view.remaining_ms(background.now)
    return -1 if remaining_ms is None else round(remaining_ms / 1000)


def _clients(nodes: Iterable[NodeId], background: Background) -> list[dict[str, object]]:
    """The shape of decision 16. A node that has left keeps its id and loses its name."""
    shapes: list[dict[str, object]] = []
    for node_id in nodes:
        node = background.nodes.get(node_id)
        hostname, name, label, ip = ("", "", "", "")
        if node:
            facts = node.facts
            hostname, name, label, ip = facts.hostname, facts.name, facts.label, facts.ip
        shapes.append({"id": node_id, "hostname": hostname, "name": name, "label": label, "ip": ip})
    return shapes


def _logs(view: JobView, _background: Background) -> list[dict[str, object]]:
    """The shape of decision 15, oldest first."""
    return [
        {"date": UtcTime(event.at), "status": event.status, "message": event.message}
        for event in view.events
    ]


def _spec(read: Callable[[JobView], object]) -> Attribute:
    return Attribute(lambda view, _: read(view), Part.SPEC)


def _own(read: Callable[[JobView], object]) -> Attribute:
    return Attribute(lambda view, _: read(view))


ATTRIBUTES: dict[str, Attribute] = {
    # Documented on the API page.
    "children": Attribute(lambda view, _: view.children, Part.CHILDREN),
    "clients": Attribute(lambda view, b: _clients(view.job.nodes, b), None, True),
    "clientsOnHold": Attribute(lambda view, b: _clients(view.held_nodes, b), Part.HOLDS, True),
    "conditions": Attribute(
        lambda view, _: jobspec.conditions_as_dicts(view.conditions), Part.CONDITIONS
    ),
    "endTime": _own(lambda view: _time(view.job.ended_at)),
    "ETA": Attribute(_eta),
    "id": _own(lambda view: view.job.id),
    "latestNote": Attribute(
        lambda view, _: view.latest_note.text if view.latest_note else "", Part.NOTES
    ),
    "logs": Attribute(_logs, Part.EVENTS),
    "name": _own(lambda view: view.job.spec.name),
    "overallProgress": _own(lambda view: view.rollup.overall_progress / PROGRESS_UNIT),
    "parents": Attribute(lambda view, _: view.parents, Part.PARENTS),
    "priority": _own(lambda view: view.job.priority),
    "progress": _own(lambda view: view.job.progress / PROGRESS_UNIT),
    "queueTime": _own(lambda view: _time(view.job.queued_at)),
    "resources": _spec(lambda view: view.job.spec.resources or None),
    "showBlockedClientsWarning": _own(lambda view: view.job.blocked_warning),
    "startTime": _own(lambda view: _time(view.job.started_at)),
    "status": _own(lambda view: view.job.status.value),
    "tags": _spec(lambda view: view.job.spec.tags),
    "threadId": Attribute(
        lambda view, _: view.latest_note.thread if view.latest_note else None, Part.NOTES
    ),
    "triesLeft": _own(lambda view: view.job.tries_left),
    "uiStatus": _own(lambda view: view.rollup.ui_status),
    "waitingFor": Attribute(lambda view, _: view.waiting_for, Part.REASONS),
    # Roost's own (decision 21).
    "cpus": _spec(lambda view: view.job.spec.cpus),
    "submittedBy": _spec(lambda view: view.job.spec.submitted_by),
    "description": _spec(lambda view: view.job.spec.description),
    "command": _spec(lambda view: view.job.spec.command),
    "shell": _spec(lambda view: view.job.spec.shell),
    "environment": _spec(lambda view: view.job.spec.environment),
    "minHosts": _spec(lambda view: view.job.spec.min_hosts),
    "maxHosts": _spec(lambda view: view.job.spec.max_hosts),
    "maxTime": _spec(lambda view: jobspec.seconds_or_unlimited(view.job.spec.max_time_ms)),
    "attributes": Attribute(
        lambda view, _: {one.name: attributes.as_data(one.text) for one in view.attributes},
        Part.ATTRIBUTES,
    ),
    "submitDir": _spec(lambda view: view.job.spec.submit_dir),
    "runnableTime": _own(lambda view: _time(view.job.runnable_at)),
    "commandStartTime": _own(lambda view: _time(view.job.command_started_at)),
    "commandEndTime": _own(lambda view: _time(view.job.command_ended_at)),
}


async def _read(
    gateway: Gateway, ids: Sequence[JobId], attribs: Sequence[str] | None
) -> list[dict[str, object]]:
    """Attribute dictionaries in the order of `ids`; unknown ids and attributes are left out."""
    names = ATTRIBUTES if attribs is None else attribs
    chosen = {name: ATTRIBUTES[name] for name in names if name in ATTRIBUTES}
    parts = frozenset(each.part for each in chosen.values() if each.part is not None)
    return await _shape(gateway, await gateway.job_views(ids, parts), chosen)


async def _shape(
    gateway: Gateway, views: Sequence[JobView], chosen: dict[str, Attribute]
) -> list[dict[str, object]]:
    nodes: dict[NodeId, Node] = {}
    if views and any(each.needs_nodes for each in chosen.values()):
        nodes = {view.node.id: view.node for view in await gateway.nodes(with_former=True)}
    background = Background(gateway.now(), nodes)

    def shape() -> list[dict[str, object]]:
        return [
            {name: attribute.read(view, background) for name, attribute in chosen.items()}
            for view in views
        ]

    return shape() if len(views) <= SHAPED_INLINE_MAX else await asyncio.to_thread(shape)


def _no_job(job_id: JobId) -> NotFound:
    return NotFound(f"There is no job {job_id}; it may have been deleted.")


# --- asking --------------------------------------------------------------------------------------


async def get_job(gateway: Gateway, job_id: JobId, attribs: Sequence[str] | None) -> object:
    """Return a dictionary of attributes for the specified job.

    An unknown job is a fault (404), an unknown attribute is left out (decision 3).
    """
    for row in await _read(gateway, (job_id,), attribs):
        return row
    raise _no_job(job_id)


async def get_jobs(
    gateway: Gateway, job_ids: Sequence[JobId], attribs: Sequence[str] | None
) -> object:
    """Return a list of dictionaries of attributes, one for each specified job, in their order.

    Without attribs every attribute is returned. Unknown jobs are left out.
    """
    return await _read(gateway, job_ids, attribs)


async def getinfo(gateway: Gateway, job_id: JobId) -> object:
    """Return all attributes of a job together with the keys of its specification.

    An empty dictionary for an unknown job (decisions 3 and 20).
    """
    views = await gateway.job_views((job_id,), ALL_PARTS)
    for view, shape in zip(views, await _shape(gateway, views, ATTRIBUTES), strict=True):
        return {**jobspec.unparse(view.job, view.conditions), **shape}
    return {}


async def getstatus(gateway: Gateway, job_id: JobId) -> object:
    """Return the status of the specified job."""
    for view in await gateway.job_views((job_id,), frozenset()):
        return view.job.status.value
    raise _no_job(job_id)


async def get_job_output(gateway: Gateway, job_id: JobId, max_last_chars: int | None) -> object:
    """Return the output log of the job, or at most its last max_last_chars characters.

    Bytes that are no UTF-8, and characters that XML forbids, are replaced.
    """
    if max_last_chars is None or max_last_chars < 1:
        return (await gateway.output(job_id)).decode(errors="replace")
    end = await gateway.output(job_id, max_last_chars * UTF8_BYTES_MAX)
    return end.decode(errors="replace")[-max_last_chars:]


def _statuses(names: Iterable[str]) -> list[JobStatus]:
    statuses: set[JobStatus] = set()
    for name in names:
        try:
            statuses.add(JobStatus(name))
        except ValueError:
            known = ", ".join(sorted(JobStatus))
            raise Invalid(
                f"There is no job status {jobspec.show(name)}: it can be one of {known}."
            ) from None
    if JobStatus.WAITING in statuses:  # decision 10
        statuses.add(JobStatus.RUNNABLE)
    return sorted(statuses)


async def get_job_ids_by_status(gateway: Gateway, statuses: Sequence[str]) -> object:
    """Return a list of ids for jobs with a status found in the given list of statuses.

    `waiting` finds runnable jobs (decision 10); a word that is no status is a fault.
    """
    return await gateway.job_ids(_statuses(statuses))


async def get_finished_root_job_ids(gateway: Gateway) -> object:
    """Return a list of job ids for all finished root jobs: jobs that have no parent.

    Abandoned jobs count as finished here.
    """
    return await gateway.job_ids(sorted(lifecycle.FINISHED), roots_only=True)


async def get_unfinished_root_job_ids(gateway: Gateway) -> object:
    """Return a list of job ids for all unfinished root jobs: jobs that have no parent."""
    return await gateway.job_ids(sorted(UNFINISHED), roots_only=True)


async def get_running_job_ids(gateway: Gateway) -> object:
    """Return a list of ids for the jobs that are running, pausing or resuming."""
    return await gateway.job_ids(sorted(RUNNING))


async def get_num_waiting_jobs(
    gateway: Gateway, wait_time: float, min_priority: int, max_priority: int
) -> object:
    """Return the number of jobs that have waited for a machine for at least wait_time minutes.

    A wait_time of 0 or less counts all of them; a priority below 0 does not restrict.
    """
    before = Moment(max(gateway.now() - round(max(wait_time, 0) * MINUTE_MS), 0))
    return await gateway.count_waiting(
        before,
        min_priority if min_priority >= 0 else None,
        max_priority if max_priority >= 0 else None,
    )


# --- submitting ----------------------------------------------------------------------------------


async def newjob(
    gateway: Gateway, spec: object, parent_id: JobId | None, child_ids: Sequence[JobId]
) -> object:
    """Submit a job to the server. Return a list of ids for the new jobs.

    jobspec is a JSON string, a dictionary or a list of dictionaries. All created jobs are
    returned, breadth first, so that the first id is the first submitted job (decision 1).
    """
    if is_heavy(spec):
        command = await asyncio.to_thread(jobspec.parse, spec, parent_id, child_ids)
    else:
        command = jobspec.parse(spec, parent_id, child_ids)
    return await gateway.ask(command)


async def runcmd(gateway: Gateway, command: object) -> object:
    """Execute the given command on the farm, as a new anonymous job. Return its id."""
    ids = await gateway.ask(jobspec.anonymous(command))
    assert isinstance(ids, list | tuple)
    return ids[0]


# --- acting: each returns None, and does nothing to ids it does not know (decision 3) -------------


async def cancel_jobs(gateway: Gateway, job_ids: tuple[JobId, ...]) -> None:
    """Cancel the specified jobs and their descendants, where not yet finished."""
    await gateway.ask(CancelJobs(job_ids))


async def pause_jobs(gateway: Gateway, job_ids: tuple[JobId, ...]) -> None:
    """Pause the specified jobs and their descendants, where not yet finished."""
    await gateway.ask(PauseJobs(job_ids))


async def resume_jobs(gateway: Gateway, job_ids: tuple[JobId, ...]) -> None:
    """Resume the specified jobs and their descendants, where paused."""
    await gateway.ask(ResumeJobs(job_ids))


async def reschedule_jobs(gateway: Gateway, job_ids: tuple[JobId, ...]) -> None:
    """Queue the specified finished jobs again, with their parents and their failed children."""
    await gateway.ask(RescheduleJobs(job_ids))


async def delete_jobs(gateway: Gateway, job_ids: tuple[JobId, ...]) -> None:
    """Delete the specified finished jobs and their descendants for ever."""
    await gateway.ask(DeleteJobs(job_ids))


async def eject_jobs(gateway: Gateway, job_ids: tuple[JobId, ...]) -> None:
    """Take the specified jobs and their descendants off their clients and queue them again."""
    await gateway.ask(EjectJobs(job_ids))


async def eject_job_from_client(gateway: Gateway, job_id: JobId) -> None:
    """Take the job off its client and queue it again."""
    await gateway.ask(EjectJobs((job_id,)))


async def set_job_priority(gateway: Gateway, job_ids: tuple[JobId, ...], priority: int) -> None:
    """Set the priority of the specified jobs; below 0 means 0. Roost's own (decision 37)."""
    await gateway.ask(SetPriority(job_ids, max(priority, 0)))


# --- permitted clients ---------------------------------------------------------------------------


async def get_permitted_clients_list(gateway: Gateway, job_id: JobId) -> object:
    """Return a list of the clients permitted to run the job: of those registered, the ones that
    pass its conditions.

    Each as `hostname`, or `hostname:name` if the client has a name. An unknown job is a fault.
    """
    views = await gateway.job_views((job_id,), frozenset({Part.CONDITIONS}))
    if not views:
        raise _no_job(job_id)
    nodes = [each.node for each in await gateway.nodes()]
    found = matching.permitted(views[0].conditions, nodes, await gateway.groups())
    return [node.facts.label for node in found]


async def save_permitted_clients_list(
    gateway: Gateway, job_id: JobId, clients: Sequence[str]
) -> None:
    """Let only the specified clients run the job; its previous conditions are replaced.

    `hostname` permits all clients of that host, `hostname:name` one, `hostname:` the one without
    a name. An empty list permits none. Clients that were blocked because too much of the job
    failed there may have it again, if they are permitted. An unknown job is a fault.
    """
    await gateway.ask(SetConditions(job_id, (jobspec.permitted(clients),)))


async def set_show_blocked_clients_warning(gateway: Gateway, job_id: JobId, state: bool) -> None:
    """Set the job's attribute showBlockedClientsWarning. An unknown job is a fault."""
    await gateway.ask(SetBlockedWarning(job_id, state))
