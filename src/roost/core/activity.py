"""What people did to the farm, told in a line each: the words of the audit.

Pure. What running jobs ask for is not in it: a job's own record and story tell of that. A
submission is one line, however many jobs it made.
"""

from __future__ import annotations

from roost.core import actions
from roost.core.messages import (
    AddNote,
    AddToGroup,
    CancelJobs,
    CreateGroup,
    DeleteGroup,
    DeleteJobs,
    EjectJobs,
    Message,
    PauseJobs,
    RemoveFromGroup,
    RemoveNodes,
    RemoveNotes,
    RemoveResource,
    RemoveThreads,
    RescheduleJobs,
    ResumeJobs,
    SetAttributes,
    SetAvailability,
    SetBlockedWarning,
    SetConditions,
    SetGroupNodes,
    SetNodeDescription,
    SetNodeGroups,
    SetNodesDisabled,
    SetPriorities,
    SetPriority,
    SetResource,
    SubmitJobs,
)
from roost.core.records import Activity, JobId, Moment, NodeId

JOBS_KEPT = 50
"""How many of the jobs of one action are named; the others are only counted."""

_BY_COMMAND: dict[object, str] = {each.command: name for name, each in actions.ACTIONS.items()}


def told(message: Message, by: str, at: Moment, reply: object = None) -> Activity | None:
    """None for what is not of this kind. `reply` is what the handler has answered."""
    match message:
        case SubmitJobs(jobs=new) if isinstance(reply, list) and new:
            roots = [job for job, one in zip(reply, new, strict=True) if not one.parents]
            name = new[0].spec.name[:200]
            below = len(new) - len(roots)
            text = f"{name}, with {below} below" if below else name
            return Activity(at, by, "submit", text, tuple(roots[:JOBS_KEPT]), len(roots))
        case (
            CancelJobs()
            | PauseJobs()
            | ResumeJobs()
            | RescheduleJobs()
            | DeleteJobs()
            | EjectJobs()
        ):
            return _of_jobs(message.ids, by, at, _BY_COMMAND[type(message)])
        case SetPriority(ids=ids, priority=priority):
            return _of_jobs(ids, by, at, "set priority", f"to {priority}")
        case SetPriorities(priorities=priorities):
            ids = tuple(job for job, _ in priorities)
            return _of_jobs(ids, by, at, "set priority", "each to what it was before")
        case SetConditions(id=id, conditions=conditions):
            text = "; ".join(f"{one.name} {one.op} {one.value}" for one in conditions)
            return _of_jobs((id,), by, at, "set conditions", text or "none")
        case SetBlockedWarning(id=id, shown=shown):
            return _of_jobs((id,), by, at, "show warning" if shown else "hide warning")
        case SetAttributes(id=id, attributes=attributes):
            # Values may be secrets; the names tell what was changed.
            return _of_jobs((id,), by, at, "set attributes", ", ".join(attributes))
        case SetNodesDisabled(ids=nodes, disabled=disabled):
            return _of_nodes(nodes, by, at, "drain" if disabled else "enable")
        case SetAvailability(id=node):
            return Activity(at, by, "set hours", node=node)
        case SetNodeDescription(id=node, description=text):
            return Activity(at, by, "describe", text, node=node)
        case RemoveNodes(ids=nodes):
            return _of_nodes(nodes, by, at, "remove client")
        case AddNote(job=job, node=node, text=text):
            jobs = () if job is None or node is not None else (job,)
            return Activity(at, by, "add note", text[:200], jobs, len(jobs), node)
        case RemoveNotes():
            return Activity(at, by, "remove notes")
        case RemoveThreads():
            return Activity(at, by, "remove notes")
    return _of_tables(message, by, at)


def _of_tables(message: Message, by: str, at: Moment) -> Activity | None:
    match message:
        case CreateGroup(name=name):
            return Activity(at, by, "create group", name)
        case DeleteGroup(id=group):
            return Activity(at, by, "delete group", f"group {group}")
        case AddToGroup(id=group, nodes=nodes):
            return _of_nodes(nodes, by, at, "add to group", f"group {group}")
        case RemoveFromGroup(id=group, nodes=nodes):
            return _of_nodes(nodes, by, at, "take out of group", f"group {group}")
        case SetGroupNodes(id=group, nodes=nodes):
            return Activity(at, by, "set group", f"group {group}: {_counted(nodes)}")
        case SetNodeGroups(id=node, groups=groups):
            text = ", ".join(f"group {one}" for one in groups) or "none"
            return Activity(at, by, "set groups", text, node=node)
        case SetResource(name=name, max=most):
            limit = "no limit" if most is None else str(most)
            return Activity(at, by, "set resource", f"{name}: {limit}")
        case RemoveResource(name=name):
            return Activity(at, by, "remove resource", name)
    return None


def _of_jobs(
    ids: tuple[JobId, ...], by: str, at: Moment, action: str, text: str = ""
) -> Activity | None:
    return Activity(at, by, action, text, ids[:JOBS_KEPT], len(ids)) if ids else None


def _of_nodes(
    ids: tuple[NodeId, ...], by: str, at: Moment, action: str, text: str = ""
) -> Activity | None:
    if len(ids) > 1:
        text = f"{text}: {_counted(ids)}" if text else _counted(ids)
    return Activity(at, by, action, text, node=ids[0] if len(ids) == 1 else None) if ids else None


def _counted(nodes: tuple[NodeId, ...]) -> str:
    """`3 clients: 4, 7, 12`, the first of them by their ids."""
    many = "1 client" if len(nodes) == 1 else f"{len(nodes)} clients"
    shown = ", ".join(map(str, nodes[:JOBS_KEPT]))
    return f"{many}: {shown}" if nodes else "no clients"
