"""HQueue's methods about clients, which Roost calls nodes everywhere else.

Knows how callers name a client (`hostname` or `hostname:name`, without regard to case: decision
11) and the attributes of HQueue's API page. Must not decide what a node may do.

Always holds: a client is either found by one rule, `_find`, or answered with the documented
nothing of its method (`{}`, None, or left out of the list, decision 4). The answers hold every
documented attribute that was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from roost.core.matching import Hosts, short_name
from roost.core.messages import SetNodesDisabled
from roost.core.records import DAY_MINUTES, AvailabilityRule, NodeId
from roost.gateway import Gateway, NodeView
from roost.wire.xmlrpc import UtcTime

ERRORS_TOLD_MAX = 100

ALWAYS = AvailabilityRule()
"""What a client without rules shows: that it may take jobs at any time."""


def _rules(view: NodeView) -> list[dict[str, object]]:
    """The keys of decision 19. `day` is one of the farm's time zone, as the local times are."""
    ahead = view.utc_offset_minutes
    return [
        {
            "id": rule.id,
            "type": rule.type,
            "enabled": rule.enabled,
            "day": rule.day,
            **_span(rule, "start", "end", 0 if rule.anytime or rule.type == "idle" else -ahead),
            **_span(rule, "localStart", "localEnd", 0),
            "anytime": rule.anytime,
            "idleMinutes": rule.idle_minutes,
        }
        for rule in view.node.availability or (ALWAYS,)
    ]


def _span(rule: AvailabilityRule, start: str, end: str, shift: int) -> dict[str, object]:
    """When a rule begins and ends, so many minutes later; a day ends at 24:00."""
    first = divmod((rule.start + shift) % DAY_MINUTES, 60)
    last = divmod((rule.end + shift) % DAY_MINUTES or DAY_MINUTES, 60)
    return {
        f"{start}Hour": first[0],
        f"{start}Minute": first[1],
        f"{end}Hour": last[0],
        f"{end}Minute": last[1],
    }


ATTRIBUTES: dict[str, Callable[[NodeView], object]] = {
    "availabilityRules": _rules,
    "available": lambda view: view.available,
    "cpus": lambda view: view.node.facts.cpus,
    "cpuSpeed": lambda view: view.node.facts.cpu_speed_mhz,
    "description": lambda view: view.node.description,
    "disabled": lambda view: view.node.disabled,
    "groups": lambda view: view.groups,
    "hostname": lambda view: view.node.facts.hostname,
    "id": lambda view: view.node.id,
    "idleTime": lambda view: view.node.idle_minutes,
    "ip": lambda view: view.node.facts.ip,
    "label": lambda view: view.node.facts.label,
    "lastHeartbeat": lambda view: UtcTime(view.node.last_beat_at),
    "latestNote": lambda view: view.latest_note.text if view.latest_note else "",
    "load": lambda view: view.node.load,
    "memory": lambda view: view.node.facts.memory_kb,
    "name": lambda view: view.node.facts.name,
    "needsUpgrade": lambda view: view.needs_upgrade,
    "platform": lambda view: view.node.facts.platform,
    "runningJobs": lambda view: view.running,
    "threadId": lambda view: view.latest_note.thread if view.latest_note else None,
    "version": lambda view: view.node.facts.version,
}


def _shape(view: NodeView, attribs: Sequence[str] | None) -> dict[str, object]:
    names = ATTRIBUTES if attribs is None else attribs
    return {name: ATTRIBUTES[name](view) for name in names if name in ATTRIBUTES}


def _find(views: Iterable[NodeView], client_name: str) -> NodeView | None:
    """The client a caller means.

    `hostname:name` and `hostname:` mean exactly that client; `hostname` alone means the unnamed
    client of that host if there is one, else its first.
    """
    hostname, colon, name = client_name.strip().partition(":")
    hosts = Hosts((hostname,))
    on_host = [view for view in views if view.node.facts.hostname in hosts]
    for view in on_host:
        if view.node.facts.name.casefold() == name.casefold():
            return view
    return on_host[0] if on_host and not colon else None


async def get_clients(
    gateway: Gateway, client_ids: Sequence[int] | None, attribs: Sequence[str] | None
) -> object:
    """Return a list of dictionaries of attributes, one for each specified client.

    Without client_ids all registered clients are returned; unknown ones are left out.
    """
    views = await gateway.nodes()
    if client_ids is not None:
        by_id = {view.node.id: view for view in views}
        views = [by_id[NodeId(each)] for each in client_ids if each in by_id]
    return [_shape(view, attribs) for view in views]


async def get_client(gateway: Gateway, client_id: int, attribs: Sequence[str] | None) -> object:
    """Return a dictionary of attributes for the specified client; empty if there is none."""
    for view in await gateway.nodes():
        if view.node.id == client_id:
            return _shape(view, attribs)
    return {}


async def get_client_by_name(
    gateway: Gateway, client_name: str, attribs: Sequence[str] | None
) -> object:
    """Return a dictionary of attributes for the client named `hostname` or `hostname:name`.

    An empty dictionary if there is none (decision 4).
    """
    view = _find(await gateway.nodes(), client_name)
    return _shape(view, attribs) if view else {}


async def get_clients_by_name(
    gateway: Gateway, client_names: Sequence[str], attribs: Sequence[str] | None
) -> object:
    """Return a list of dictionaries of attributes, one for each client that is found by name."""
    by_host: dict[str, list[NodeView]] = {}
    for view in await gateway.nodes():
        by_host.setdefault(short_name(view.node.facts.hostname), []).append(view)
    # Somebody may ask for all of a large farm: not every name is compared with every client.
    hosts = [name.strip().partition(":")[0] for name in client_names]
    found = [
        _find(by_host.get(short_name(host), ()), name)
        for host, name in zip(hosts, client_names, strict=True)
    ]
    return [_shape(view, attribs) for view in found if view]


async def setdisabled(gateway: Gateway, client_name: str, disabled: bool) -> object:
    """Disable or enable the given client. Return True, or None if there is no such client."""
    view = _find(await gateway.nodes(), client_name)
    if view is None:
        return None
    await gateway.ask(SetNodesDisabled((view.node.id,), disabled))
    return True


async def upgrade_clients(gateway: Gateway, client_ids: Sequence[int]) -> None:
    """Upgrade the clients associated with the list of client_ids.

    Each is given the server's own package by a job of its own, when it has ended what it runs.
    Those that are up to date or unknown are left out.
    """
    await gateway.upgrade_nodes([NodeId(each) for each in client_ids])


async def get_client_errors(gateway: Gateway, client_id: int) -> object:
    """Return the errors of the client: `total`, and `errors` with the latest.

    An error is a run that could not be started there. Each has id (which error of the client it
    is), date, text, clientId and jobId. An empty dictionary if there is none.
    """
    total, failures = await gateway.start_failures(NodeId(client_id), ERRORS_TOLD_MAX)
    errors = [
        {
            "id": total - place,
            "date": UtcTime(attempt.ended_at or attempt.assigned_at),
            "text": f"Job {attempt.job} could not be started: {attempt.text}",
            "clientId": client_id,
            "jobId": attempt.job,
        }
        for place, attempt in enumerate(failures)
    ]
    return {"total": total, "errors": errors} if total else {}


async def get_job_history(gateway: Gateway, client_id: int, limit: int) -> object:
    """Return a list of ids for jobs that recently ran on the client, the last to end first.

    At most limit of them; an empty list if the client does not exist.
    """
    return await gateway.job_history(NodeId(client_id), limit)


async def get_job_ids_assigned_to_client(gateway: Gateway, client_id: int) -> object:
    """Return a list of ids for jobs that are assigned to the client; empty if there is none."""
    for view in await gateway.nodes():
        if view.node.id == client_id:
            return view.running
    return []
