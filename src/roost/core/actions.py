"""What people can do to jobs and to nodes: the words for it, the command behind it, and to which
jobs it applies (to which nodes, `gateway.NodeView.allows` tells).

The handlers in `jobs` decide what really happens; a job to which an action does not apply is left
alone by them. What is said here lets a front end tell beforehand to how many of a selection it
applies, and afterwards which were left out.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from roost.core.lifecycle import FAILED, FINAL, MOVABLE
from roost.core.messages import (
    CancelJobs,
    Command,
    DeleteJobs,
    EjectJobs,
    PauseJobs,
    RemoveNodes,
    RescheduleJobs,
    ResumeJobs,
    SetNodesDisabled,
    SetPriority,
)
from roost.core.records import JobStatus

S = JobStatus

_IS_OVER = FINAL | {S.ABANDONED}
_POSSIBLE = frozenset(JobStatus) - {S.WAITING, S.EJECTED}


class Action(Struct, frozen=True):
    command: Callable[..., Command]
    """Takes the ids, and for the priority its new value."""
    applies: frozenset[JobStatus]
    """To jobs of these statuses. What is below a job may be another matter."""
    done: str
    """What has happened to a job then: `cancelled`."""
    asks_first: bool = False
    """It cannot be undone."""


ACTIONS: dict[str, Action] = {
    "pause": Action(
        PauseJobs,
        frozenset({S.RUNNABLE, S.QUEUED, S.RUNNING, S.RESUMING, S.EJECTING}),
        "paused",
    ),
    "resume": Action(ResumeJobs, frozenset({S.PAUSED, S.PAUSING}), "resumed"),
    "reschedule": Action(RescheduleJobs, _IS_OVER, "rescheduled", asks_first=True),
    # What waits may wait for running ones below it.
    "eject": Action(EjectJobs, MOVABLE | {S.QUEUED}, "ejected", asks_first=True),
    "cancel": Action(CancelJobs, _POSSIBLE - FINAL, "cancelled", asks_first=True),
    "delete": Action(DeleteJobs, _IS_OVER, "deleted", asks_first=True),
}
"""Those that need nothing but the jobs, by the name they have in the API."""

PRIORITY = Action(SetPriority, _POSSIBLE, "given another priority")

RESCHEDULE_FAILED = Action(RescheduleJobs, FAILED, "rescheduled")
"""As `reschedule`, for those that failed; what succeeded stays as it is."""


class NodeAction(Struct, frozen=True):
    done: str
    """What has happened to a node then: `drained`."""
    command: Callable[..., Command] | None = None
    """Takes the ids. None where it is more than a command, or needs to know more."""
    asks_first: bool = False
    """It cannot be undone."""


NODE_ACTIONS: dict[str, NodeAction] = {
    "drain": NodeAction("drained", lambda ids: SetNodesDisabled(ids, True)),
    "enable": NodeAction("enabled", lambda ids: SetNodesDisabled(ids, False)),
    "upgrade": NodeAction("to be upgraded", asks_first=True),
    "remove": NodeAction("removed", RemoveNodes, asks_first=True),
    "add_to_group": NodeAction("added to the group"),
    "take_out_of_group": NodeAction("taken out of the group"),
}
"""By the name they have in the API; the last two need the group."""


def find(name: str) -> Action:
    """Raises `KeyError`."""
    return {**ACTIONS, "priority": PRIORITY, "reschedule_failed": RESCHEDULE_FAILED}[name]
