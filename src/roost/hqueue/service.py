"""HQueue's methods about the server itself, and its lists of names.

Knows the twelve lists of names that submitters fill their check boxes for mail from. Must not hold
state; the clock is the gateway's.

Always holds: every name in a list is one of the thirteen statuses or of the three event names, so
that each can be given as a mail reason; finished and unfinished divide the thirteen.
"""

from __future__ import annotations

from roost import __version__
from roost.core import lifecycle
from roost.core.records import JobStatus
from roost.gateway import Gateway
from roost.hqueue.jobs import RUNNING, UNFINISHED
from roost.wire.xmlrpc import UtcTime


async def ping(gateway: Gateway) -> object:
    """Test whether the server is active. Always returns True."""
    return True


async def get_version(gateway: Gateway) -> object:
    """Return the server version."""
    return __version__


async def get_server_time(gateway: Gateway) -> object:
    """Return the current time reported by the server, in UTC."""
    return UtcTime(gateway.now())


async def get_server_errors(gateway: Gateway) -> object:
    """Return the errors of the server since it started: `total`, and `errors` with the latest.

    Each error has id, date, text and clientId. An empty dictionary if there is none.
    """
    found = gateway.server_errors()
    errors = [
        {"id": error.id, "date": UtcTime(error.at), "text": error.text, "clientId": None}
        for error in found.errors
    ]
    return {"total": found.total, "errors": errors} if found.total else {}


async def get_config(gateway: Gateway, key: str) -> object:
    """Return the configuration value for the given key, or None if there is none.

    Keys are those of HQueue's `hqserver.ini`; secrets are not told (decision 44).
    """
    return gateway.config(key)


def _names(statuses: frozenset[JobStatus]) -> list[str]:
    """In the order of `JobStatus`, so that every answer lists them alike."""
    return [status.value for status in JobStatus if status in statuses]


async def get_all_job_status_names(gateway: Gateway) -> object:
    """Return a list of all the possible job statuses."""
    return _names(frozenset(JobStatus))


async def get_succeeded_status_names(gateway: Gateway) -> object:
    """Return a list of the statuses that denote a succeeded job."""
    return _names(frozenset({JobStatus.SUCCEEDED}))


async def get_failed_job_status_names(gateway: Gateway) -> object:
    """Return a list of the statuses that denote a failed job."""
    return _names(lifecycle.FAILED)


async def get_finished_job_status_names(gateway: Gateway) -> object:
    """Return a list of the statuses that denote a finished job."""
    return _names(lifecycle.FINISHED)


async def get_unfinished_job_status_names(gateway: Gateway) -> object:
    """Return a list of the statuses that denote an unfinished job."""
    return _names(UNFINISHED)


async def get_running_job_status_names(gateway: Gateway) -> object:
    """Return a list of the statuses that denote a running job."""
    return _names(RUNNING)


async def get_paused_job_status_names(gateway: Gateway) -> object:
    """Return a list of the statuses that denote a paused job."""
    return _names(frozenset({JobStatus.PAUSED}))


async def get_waiting_job_status_names(gateway: Gateway) -> object:
    """Return a list of the statuses that denote a waiting job."""
    return _names(frozenset({JobStatus.RUNNABLE, JobStatus.WAITING}))


async def get_started_job_event_names(gateway: Gateway) -> object:
    """Return a list of the names of what is considered a start job event."""
    return _names(frozenset({JobStatus.RUNNING}))


async def get_rescheduled_event_names(gateway: Gateway) -> object:
    """Return a list of the names of the reschedule events."""
    return ["rescheduled"]


async def get_resumed_event_names(gateway: Gateway) -> object:
    """Return a list of the names of the resume events."""
    return ["resumed"]


async def get_priority_changed_event_names(gateway: Gateway) -> object:
    """Return a list of the names of the priority change events."""
    return ["priority changed"]
