"""The clients: all of them as a table or as squares, and the page of each."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from roost.core import availability
from roost.core.messages import (
    AddNote,
    AddToGroup,
    RemoveFromGroup,
    RemoveNode,
    SetAvailability,
    SetNodeDescription,
    SetNodeDisabled,
)
from roost.core.records import GroupId, NodeId
from roost.errors import Invalid, NotFound
from roost.gateway import Gateway, NodeView, Part
from roost.web import presenters, week
from roost.web.site import Form, Site

ERRORS_SHOWN = 20
HISTORY_SHOWN = 30
STATES = ("available", "running", "draining", "disabled", "outside its hours", "offline")
TABS = (
    ("running", "Running"),
    ("history", "History"),
    ("hours", "Hours"),
    ("errors", "Errors"),
    ("notes", "Notes"),
)


def routes(site: Site) -> list[Route]:
    return [
        site.get("/nodes", show_nodes),
        site.post("/nodes/act", act),
        site.get("/nodes/{id:int}", show_node),
        site.post("/nodes/{id:int}/description", describe),
        site.post("/nodes/{id:int}/hours", set_hours),
        site.post("/nodes/{id:int}/groups", set_groups),
        site.post("/nodes/{id:int}/notes", add_note),
        site.post("/nodes/{id:int}/remove", remove),
    ]


async def show_nodes(site: Site, request: Request) -> Response:
    query = request.query_params
    state, words, group = query.get("state", ""), query.get("q", "").strip(), query.get("group", "")
    listed = await site.gateway.nodes()
    groups = await site.gateway.groups()
    shown = [
        each
        for each in listed
        if (not state or presenters.node_mark(each).word == state)
        and words.casefold() in f"{each.node.facts.label} {each.node.description}".casefold()
        and (not group or group in map(str, each.groups))
    ]
    order = query.get("sort", "")
    if order in _ORDERS:
        shown.sort(key=_ORDERS[order], reverse=order != "name")
    return await site.page(
        request,
        "nodes.html",
        title="Clients",
        nodes=shown,
        states=Counter(presenters.node_mark(each).word for each in listed),
        all_states=STATES,
        state=state,
        words=words,
        group=group,
        groups=groups,
        group_names={one.id: one.name for one in groups},
        look_at=query.get("look", "table"),
        total=len(listed),
        with_gpus=any(each.node.facts.gpus for each in listed),
        live="?watch=nodes,counts",
    )


_ORDERS: dict[str, Any] = {
    "name": lambda view: view.node.facts.label.casefold(),
    "load": lambda view: view.node.load / max(view.node.facts.cpus, 1),
    "cpus": lambda view: view.node.facts.cpus,
    "memory": lambda view: view.node.facts.memory_kb,
    "busy": lambda view: view.cpus_busy,
    "seen": lambda view: view.node.last_beat_at,
}


_OUTCOMES = {
    "drain": "drained: what runs there goes on, and nothing new begins.",
    "enable": "enabled.",
}


async def act(site: Site, request: Request, form: Form) -> Response:
    """Drain, enable, or put into a group: each ticked node."""
    ids = [NodeId(number) for number in form.numbers("ids")]
    if not ids:
        raise Invalid("No client is selected.")
    known = {each.node.id for each in await site.gateway.nodes()}
    if unknown := [node for node in ids if node not in known]:
        raise NotFound(f"There is no client {unknown[0]}; it may have been removed.")
    action = form.text("action")
    some = "1 client" if len(ids) == 1 else f"{presenters.count(len(ids))} clients"
    if action in _OUTCOMES:
        wishes = (SetNodeDisabled(node, action == "drain") for node in ids)
        await asyncio.gather(*map(site.gateway.ask, wishes))  # saved together
        said = f"{some} {_OUTCOMES[action]}"
    elif action == "upgrade":
        jobs = await site.gateway.upgrade_nodes(ids)
        said = f"{len(jobs)} upgrades submitted." if jobs else "They are up to date."
    elif action == "group":
        await site.gateway.ask(AddToGroup(GroupId(form.number("group")), tuple(ids)))
        said = f"{some} added to the group."
    else:
        raise Invalid(f"There is no action {action!r}.")
    return site.back(form, "/nodes", said)


# --- one node ------------------------------------------------------------------------------------


async def find_node(gateway: Gateway, request: Request) -> NodeView:
    """Raises `NotFound`."""
    number = int(request.path_params["id"])
    for view in await gateway.nodes(with_former=True):
        if view.node.id == number:
            return view
    raise NotFound(f"There is no client {number}; it may have been removed.")


async def show_node(site: Site, request: Request) -> Response:
    gateway = site.gateway
    view = await find_node(gateway, request)
    tab = request.query_params.get("tab", "running")
    if tab not in dict(TABS):
        tab = "running"
    shown: dict[str, Any] = {}
    row_parts = frozenset({Part.SPEC, Part.ATTEMPTS})
    if tab == "running":
        shown["jobs"] = await gateway.job_views(view.running, row_parts)
    elif tab == "history":
        ids = await gateway.job_history(view.node.id, HISTORY_SHOWN)
        shown["jobs"] = await gateway.job_views(ids, row_parts)
    elif tab == "hours":
        rules = view.node.availability
        shown["ticked"] = week.cells(rules) if rules else week.EVERYTHING
        shown["others"] = [
            (availability.show(rule), rule.enabled) for rule in rules if not week.fits(rule)
        ]
        shown["days"] = week.WEEK
    elif tab == "errors":
        total, failures = await gateway.start_failures(view.node.id, ERRORS_SHOWN)
        shown.update(total=total, failures=failures)
    elif tab == "notes":
        note = view.latest_note
        threads = await gateway.threads([note.thread]) if note else []
        shown["thread"] = threads[0] if threads else None
    return await site.page(
        request,
        "node.html",
        title=view.node.facts.label,
        view=view,
        tab=tab,
        tabs=[(key, text, f"/nodes/{view.node.id}?tab={key}") for key, text in TABS],
        groups=await gateway.groups(),
        nodes=gateway.node_labels(),
        live=f"?watch=nodes&jobs={','.join(map(str, view.running))}",
        **shown,
    )


def _id(request: Request) -> NodeId:
    return NodeId(int(request.path_params["id"]))


async def describe(site: Site, request: Request, form: Form) -> Response:
    await site.gateway.ask(SetNodeDescription(_id(request), form.text("description")))
    return site.back(form, f"/nodes/{_id(request)}", "The description is kept.")


async def set_hours(site: Site, request: Request, form: Form) -> Response:
    """What the grid says, besides rules that do not fit it; and idleness."""
    view = await find_node(site.gateway, request)
    ticked = [(cell // week.HOURS, cell % week.HOURS) for cell in form.numbers("cell")]
    kept = [rule for rule in view.node.availability if not week.fits(rule)]
    if "idle" in form:
        kept = [rule for rule in kept if rule.type != "idle"]
    texts = week.rules(ticked)
    if idle := form.number("idle", 0):
        texts.append(f"idle {idle}")
    if not texts and not any(rule.enabled for rule in kept):
        raise Invalid("No hour is ticked: to keep jobs away altogether, drain the client.")
    if texts == ["any"] and not kept:
        texts = []  # always, which is what no rule means
    new = tuple(availability.parse(text) for text in texts)
    await site.gateway.ask(SetAvailability(_id(request), (*kept, *new)))
    said = ", ".join(texts) or "always"
    return site.back(form, f"/nodes/{_id(request)}?tab=hours", f"It takes jobs: {said}.")


async def set_groups(site: Site, request: Request, form: Form) -> Response:
    wanted = set(form.numbers("groups"))
    node = (_id(request),)
    for group in await site.gateway.groups():
        is_member = node[0] in group.nodes
        if group.id in wanted and not is_member:
            await site.gateway.ask(AddToGroup(group.id, node))
        elif group.id not in wanted and is_member:
            await site.gateway.ask(RemoveFromGroup(group.id, node))
    return site.back(form, f"/nodes/{_id(request)}", "Its groups are changed.")


async def add_note(site: Site, request: Request, form: Form) -> Response:
    await site.gateway.ask(AddNote(form.text("text"), node=_id(request)))
    return site.back(form, f"/nodes/{_id(request)}?tab=notes", "The note is added.")


async def remove(site: Site, request: Request, form: Form) -> Response:
    """Asks first: what runs there is abandoned."""
    view = await find_node(site.gateway, request)
    if not form.text("sure"):
        return await site.page(
            request, "remove_node.html", title=f"Remove {view.node.facts.label}?", view=view
        )
    await site.gateway.ask(RemoveNode(_id(request)))
    return site.to("/nodes", f"{view.node.facts.label} is no longer of the farm.")
