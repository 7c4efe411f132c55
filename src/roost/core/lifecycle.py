"""The thirteen statuses, the sets they form, and the moves between them.

Everything here is a table or a pure function of one or two words. `state.State.set_status`
asserts that a move is in `TRANSITIONS`, so an illegal one cannot pass silently. Nothing else in
Roost compares statuses one by one when a named set here says what is meant.
"""

from __future__ import annotations

from roost.core.records import JobStatus

S = JobStatus

FINAL = frozenset({S.SUCCEEDED, S.FAILED, S.CANCELLED})
"""The job is over for the core: only reschedule or delete move it on."""

FINISHED = FINAL | {S.ABANDONED, S.EJECTED}
"""What callers of the API count as finished: the core still waits for abandoned."""

FAILED = frozenset({S.FAILED, S.CANCELLED, S.ABANDONED})
"""What "reschedule failed" and the failed counters mean."""

ON_NODE = frozenset({S.RUNNING, S.PAUSING, S.RESUMING, S.EJECTING, S.ABANDONED})
"""The job has an attempt that is, or may be, alive. `paused` may have one too."""

MOVABLE = frozenset({S.RUNNING, S.PAUSING, S.PAUSED, S.RESUMING})
"""Eject takes a job off its nodes, if it has any: `paused` may not."""

TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    S.QUEUED: frozenset({S.RUNNABLE, S.SUCCEEDED, S.FAILED, S.PAUSED, S.CANCELLED}),
    S.RUNNABLE: frozenset({S.RUNNING, S.QUEUED, S.PAUSED, S.CANCELLED, S.SUCCEEDED, S.FAILED}),
    S.RUNNING: frozenset(
        {
            S.SUCCEEDED,
            S.FAILED,
            S.RUNNABLE,
            S.QUEUED,
            S.PAUSING,
            S.PAUSED,
            S.EJECTING,
            S.CANCELLED,
            S.ABANDONED,
        }
    ),
    S.PAUSING: frozenset(
        {
            S.RESUMING,
            S.PAUSED,
            S.SUCCEEDED,
            S.FAILED,
            S.RUNNABLE,
            S.QUEUED,
            S.CANCELLED,
            S.EJECTING,
            S.ABANDONED,
        }
    ),
    S.PAUSED: frozenset(
        {
            S.RESUMING,
            S.RUNNABLE,
            S.QUEUED,
            S.CANCELLED,
            S.EJECTING,
            S.ABANDONED,
            S.SUCCEEDED,
            S.FAILED,
        }
    ),
    S.RESUMING: frozenset(
        {
            S.PAUSING,
            S.RUNNING,
            S.SUCCEEDED,
            S.FAILED,
            S.RUNNABLE,
            S.QUEUED,
            S.CANCELLED,
            S.EJECTING,
            S.ABANDONED,
        }
    ),
    S.EJECTING: frozenset(
        {S.RUNNABLE, S.QUEUED, S.PAUSING, S.CANCELLED, S.ABANDONED, S.SUCCEEDED, S.FAILED}
    ),
    S.ABANDONED: frozenset(
        {
            S.RUNNING,
            S.PAUSED,
            S.SUCCEEDED,
            S.FAILED,
            S.RUNNABLE,
            S.QUEUED,
            S.CANCELLED,
        }
    ),
    S.SUCCEEDED: frozenset({S.RUNNABLE, S.QUEUED}),
    S.FAILED: frozenset({S.RUNNABLE, S.QUEUED}),
    S.CANCELLED: frozenset({S.RUNNABLE, S.QUEUED}),
    S.WAITING: frozenset(),
    S.EJECTED: frozenset(),
}
"""`waiting` and `ejected` are names in lists and logs (decisions 9, 10), never a job's status."""

INITIAL = frozenset({S.QUEUED, S.RUNNABLE, S.SUCCEEDED})


def ui_status(status: JobStatus, clients_assigned: int) -> str:
    """The status words of HQueue's web page."""
    if status is S.QUEUED and clients_assigned:
        return f"running ({clients_assigned} clients assigned)"
    if status is S.QUEUED or status is S.RUNNABLE:
        return "waiting for resources"
    return status.value
