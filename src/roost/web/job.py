"""One job's page: where it stands and why, what is below it, what it printed, its story.

Each tab is an address of its own, and only what a tab shows is asked for.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from roost.core import actions, attributes, jobspec, matching
from roost.core.messages import (
    AddNote,
    SetAttributes,
    SetBlockedWarning,
    SetConditions,
)
from roost.core.records import JobId, Moment, NodeId
from roost.errors import Invalid
from roost.gateway import Gateway, JobFilter, JobStanding, JobView, NodeView, Part
from roost.web import presenters, views
from roost.web.jobs import (
    COUNT_MAX,
    Button,
    buttons,
    failures,
    find_job,
    live_query,
    row_parts,
)
from roost.web.site import Form, Site, id_in_path

CHILDREN_SHOWN = 200
SQUARES_SHOWN = 5_000
CHILD_COLUMNS = ("id", "name", "priority", "status", "progress", "tasks", "time", "eta", "silent",
                 "about")  # fmt: skip
TABS = (
    ("children", "Children"),
    ("output", "Output"),
    ("properties", "Properties"),
    ("history", "History"),
    ("attributes", "Attributes"),
    ("notes", "Notes"),
    ("nodes", "Clients"),
)
PARTS = {
    "children": frozenset({Part.SPEC, Part.REASONS, Part.PARENTS, Part.ATTEMPTS}),
    "output": frozenset({Part.SPEC, Part.REASONS, Part.PARENTS, Part.ATTEMPTS}),
    "properties": frozenset({Part.SPEC, Part.REASONS, Part.PARENTS, Part.CONDITIONS}),
    "history": frozenset({Part.SPEC, Part.REASONS, Part.PARENTS, Part.ATTEMPTS, Part.EVENTS}),
    "attributes": frozenset({Part.SPEC, Part.REASONS, Part.PARENTS, Part.ATTRIBUTES}),
    "notes": frozenset({Part.SPEC, Part.REASONS, Part.PARENTS, Part.NOTES}),
    "nodes": frozenset({Part.SPEC, Part.REASONS, Part.PARENTS, Part.CONDITIONS, Part.HOLDS}),
}
BREADCRUMB_MAX = 12
OUTPUT_END_BYTES = 12_000
"""More than a screenful."""


def routes(site: Site) -> list[Route]:
    return [
        site.get("/jobs/{id:int}", show_job),
        site.get("/jobs/{id:int}/output", show_output),
        site.post("/jobs/{id:int}/permitted", set_permitted),
        site.post("/jobs/{id:int}/warning", hide_warning),
        site.post("/jobs/{id:int}/attributes", set_attribute),
        site.post("/jobs/{id:int}/notes", add_note),
    ]


async def show_job(site: Site, request: Request) -> Response:
    asked = request.query_params.get("tab", "")
    return await _show(site, request, asked)


async def show_output(site: Site, request: Request) -> Response:
    return await _show(site, request, "output")


async def _show(site: Site, request: Request, asked: str) -> Response:
    gateway = site.gateway
    tab = asked if asked in PARTS else ""
    parts = PARTS[tab or "children"] | {Part.CHILDREN}
    job = await find_job(gateway, request, parts)
    if not tab:
        tab = "children" if job.children else "output"
    shown: dict[str, Any] = await _TABS[tab](gateway, request, job)
    return await site.page(
        request,
        "job.html",
        title=f"{job.job.spec.name or 'Job'} · {job.job.id}",
        job=job,
        tab=tab,
        tabs=[
            (key, _with_count(text, key, job), f"/jobs/{job.job.id}?tab={key}")
            for key, text in TABS
            if key != "children" or job.children
        ],
        crumbs=await _crumbs(gateway, job),
        parents=await gateway.job_views(job.parents, frozenset()),
        nodes=gateway.node_labels(),
        failures=await failures(gateway, job) if tab != "output" and _has_failed(job) else [],
        buttons=_buttons(job),
        buttons_all=buttons(),
        live=shown.pop("live", f"?jobs={job.job.id}"),
        **shown,
    )


def _has_failed(job: JobView) -> bool:
    return bool(job.rollup.tasks_failed) or job.job.status.value in ("failed", "abandoned")


def _with_count(text: str, key: str, job: JobView) -> str:
    return f"{text} {len(job.children):,}" if key == "children" else text


def _buttons(job: JobView) -> list[Button]:
    """Those that apply to the job or to what is below it."""
    return [
        one
        for one in buttons()
        if job.job.status in actions.find(one.name).applies
        or (one.name == "reschedule_failed" and job.rollup.tasks_failed)
    ]


async def _crumbs(gateway: Gateway, job: JobView) -> list[JobView]:
    """The way down to it by first parents, the root first."""
    way: list[JobView] = []
    above = job.parents
    while above and len(way) < BREADCRUMB_MAX:
        found = await gateway.job_views(above[:1], frozenset({Part.PARENTS}))
        way = [*found, *way]
        above = found[0].parents if found else ()
    return way


# --- tabs ----------------------------------------------------------------------------------------


async def _children(gateway: Gateway, request: Request, job: JobView) -> dict[str, object]:
    view = msgspec.structs.replace(views.parse(request.query_params), columns=CHILD_COLUMNS)
    now = gateway.now()
    which = msgspec.structs.replace(
        view.filter(now, CHILDREN_SHOWN + 1),
        parent=job.job.id,
        roots_only=False,
        # Frames are looked for in their order, and the failed ones first.
        descending=view.up if view.sort == "id" else not view.up,
    )
    children = await gateway.list_jobs(which, row_parts(view.shown))
    counts = await gateway.count_jobs(JobFilter(parent=job.job.id, limit=COUNT_MAX), COUNT_MAX)
    as_grid = request.query_params.get("look") == "grid"
    squares: list[JobStanding] = []
    if as_grid:
        every = JobFilter(parent=job.job.id, statuses=which.statuses, limit=SQUARES_SHOWN)
        squares = (await gateway.standings(every))[::-1]
    return {
        "as_grid": as_grid,
        "squares": squares,
        "children": children[:CHILDREN_SHOWN],
        "view": view,
        "counts": counts,
        "count_max": COUNT_MAX,
        "total": sum(counts.values()),
        "more": len(children) > CHILDREN_SHOWN,
        "next_skip": view.skip + CHILDREN_SHOWN,
        "live": f"{live_query(children[:CHILDREN_SHOWN])}&jobs={job.job.id}"
        f"&columns={','.join(CHILD_COLUMNS)}",
    }


async def _output(gateway: Gateway, request: Request, job: JobView) -> dict[str, object]:
    attempt = request.query_params.get("attempt", "")
    number = int(attempt) if attempt.isdecimal() and len(attempt) < 9 else 0
    last_lines, size = await gateway.output_end(job.job.id, OUTPUT_END_BYTES, number or None)
    return {"attempt": number, "output_size": size, "last_lines": last_lines}


async def _properties(gateway: Gateway, request: Request, job: JobView) -> dict[str, object]:
    spec = jobspec.unparse(job.job, job.job.spec.conditions)
    return {"spec": spec, "conditions": job.conditions, "spec_json": _pretty(spec)}


def _pretty(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


async def _history(gateway: Gateway, request: Request, job: JobView) -> dict[str, object]:
    shown = [one for one in job.attempts if presenters.has_begun(one) or one.ended_at is None]
    return {"story": job.events, "attempts": shown}


class Shown(Struct, frozen=True):
    name: str
    text: str
    at: Moment
    is_number: bool


async def _attributes(gateway: Gateway, request: Request, job: JobView) -> dict[str, object]:
    points = await gateway.attribute_points(job.job.id)
    shown = [
        Shown(one.name, one.text, one.at, len(points.get(attributes.fold(one.name), ())) > 1)
        for one in job.attributes
    ]
    return {"attributes": sorted(shown, key=lambda one: (not one.is_number, one.name.casefold()))}


async def _notes(gateway: Gateway, request: Request, job: JobView) -> dict[str, object]:
    note = job.latest_note
    threads = await gateway.threads([note.thread]) if note else []
    return {"thread": threads[0] if threads else None}


class Obstacle(Struct, frozen=True):
    """A node and what stands between it and a job; nothing when it could run it."""

    node: NodeView
    reasons: tuple[str, ...]
    failed: int
    is_permitted: bool


async def _nodes(gateway: Gateway, request: Request, job: JobView) -> dict[str, object]:
    listed = await gateway.nodes()
    groups = await gateway.groups()
    permitted = {n.id for n in matching.permitted(job.conditions, [v.node for v in listed], groups)}
    reasons: dict[NodeId, list[str]] = {}
    for reason in job.reasons:
        for node in reason.nodes:
            reasons.setdefault(node, []).append(reason.text)
    failed = dict(job.job.failures)
    found = [
        Obstacle(
            each,
            tuple(reasons.get(each.node.id, ())),
            failed.get(each.node.id, 0),
            each.node.id in permitted,
        )
        for each in listed
    ]
    return {
        "obstacles": found,
        "general": [reason.text for reason in job.reasons if not reason.nodes],
        "held": job.held_nodes,
        "ran_on": job.job.nodes,
    }


_TABS = {
    "children": _children,
    "output": _output,
    "properties": _properties,
    "history": _history,
    "attributes": _attributes,
    "notes": _notes,
    "nodes": _nodes,
}


# --- changing it ---------------------------------------------------------------------------------


def _id(request: Request) -> JobId:
    return JobId(id_in_path(request))


async def set_permitted(site: Site, request: Request, form: Form) -> Response:
    """Only the ticked nodes may run it, or any."""
    if form.text("any"):
        await site.gateway.ask(SetConditions(_id(request), ()))
        said = "Any client may run it now."
    else:
        wanted = set(form.numbers("nodes"))
        labels = [f.node for f in await site.gateway.nodes() if f.node.id in wanted]
        names = [f"{n.facts.hostname}:{n.facts.name}" for n in labels]
        if not names:
            raise Invalid("No client is ticked: tick some, or let any client run it.")
        await site.gateway.ask(SetConditions(_id(request), (jobspec.permitted(names),)))
        said = f"{presenters.count(len(names))} of the clients may run it now."
    return site.back(form, f"/jobs/{_id(request)}?tab=nodes", said)


async def hide_warning(site: Site, request: Request, form: Form) -> Response:
    await site.gateway.ask(SetBlockedWarning(_id(request), False))
    return site.back(form, f"/jobs/{_id(request)}", "The warning is hidden.")


async def set_attribute(site: Site, request: Request, form: Form) -> Response:
    name, text = form.text("name"), form.text("text")
    if not name:
        raise Invalid("An attribute needs a name.")
    await site.gateway.ask(SetAttributes(_id(request), {name: text}))
    return site.back(form, f"/jobs/{_id(request)}?tab=attributes", f"{name} is set.")


async def add_note(site: Site, request: Request, form: Form) -> Response:
    await find_job(site.gateway, request, frozenset())  # else the note would be one of the farm
    await site.gateway.ask(AddNote(form.text("text"), job=_id(request)))
    return site.back(form, f"/jobs/{_id(request)}?tab=notes", "The note is added.")
