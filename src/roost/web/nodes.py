"""The clients: all of them as a table or as squares, and the page of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from roost.core import actions, availability
from roost.core.messages import (
    AddNote,
    SetAvailability,
    SetNodeDescription,
    SetNodeGroups,
)
from roost.core.records import GroupId, NodeId
from roost.errors import Invalid, NotFound
from roost.gateway import NODE_STATES, Gateway, NodeFilter, NodeView, Part
from roost.web import presenters, week
from roost.web.jobs import Button, Question, ask, fields_of, outcome, said
from roost.web.site import Form, Site, id_in_path

PAGE_NODES = 200
ERRORS_SHOWN = 20
HISTORY_SHOWN = 30
ACTIONS = ("drain", "enable", "upgrade", "remove")
ICONS = {
    "drain": "player-pause",
    "enable": "player-play",
    "upgrade": "arrow-up",
    "remove": "trash",
}
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
        site.post("/nodes/confirm", confirm),
        site.post("/nodes/act", act),
        site.get("/nodes/{id:int}", show_node),
        site.post("/nodes/{id:int}/description", describe),
        site.post("/nodes/{id:int}/hours", set_hours),
        site.post("/nodes/{id:int}/groups", set_groups),
        site.post("/nodes/{id:int}/notes", add_note),
    ]


class NodesView(Struct, frozen=True):
    """What an address of the page asks for."""

    which: NodeFilter
    ids: tuple[NodeId, ...]
    """Only these, if there are any."""

    def passes(self, view: NodeView) -> bool:
        return (not self.ids or view.node.id in self.ids) and self.which.passes(view)


def parse(query: Mapping[str, str]) -> NodesView:
    """Never fails."""
    state, group = query.get("state", ""), query.get("group", "")
    ids = (word for word in query.get("ids", "").split(",") if _is_whole(word))
    return NodesView(
        NodeFilter(
            (state,) if state in NODE_STATES else (),
            query.get("q", "").strip(),
            GroupId(int(group)) if _is_whole(group) else None,
        ),
        tuple(NodeId(int(word)) for word in ids),
    )


def _is_whole(word: str) -> bool:
    return word.isascii() and word.isdecimal() and len(word) < 16


async def show_nodes(site: Site, request: Request) -> Response:
    query = request.query_params
    asked = parse(query)
    listed = await site.gateway.nodes()
    groups = await site.gateway.groups()
    shown = [each for each in listed if asked.passes(each)]
    order = query.get("sort", "")
    if order in _ORDERS:
        shown.sort(key=_ORDERS[order], reverse=order != "name")
    skip = int(query["skip"]) if _is_whole(query.get("skip", "")) else 0
    return await site.page(
        request,
        "nodes.html",
        title="Clients",
        nodes=shown[skip : skip + PAGE_NODES],
        matching=len(shown),
        skip=skip,
        following=skip + PAGE_NODES if len(shown) > skip + PAGE_NODES else 0,
        order=order,
        states=Counter(each.state for each in listed),
        all_states=NODE_STATES,
        state="".join(asked.which.states),
        words=asked.which.words,
        group=asked.which.group,
        ids=",".join(map(str, asked.ids)),
        groups=groups,
        group_names={one.id: one.name for one in groups},
        look_at=query.get("look", "table"),
        total=len(listed),
        buttons=buttons(),
        with_gpus=any(each.node.facts.gpus for each in listed),
        live="?watch=nodes,counts",
    )


_ORDERS: dict[str, Any] = {
    "name": lambda view: view.node.facts.label.casefold(),
    "load": lambda view: view.node.load / max(view.node.facts.cpus, 1),
    "cpus": lambda view: view.node.facts.cpus,
    "memory": lambda view: (
        view.node.memory_used_kb / max(view.node.facts.memory_kb, 1),
        view.node.facts.memory_kb,
    ),
    "busy": lambda view: view.cpus_busy,
    "seen": lambda view: view.node.last_beat_at,
}


# --- acting --------------------------------------------------------------------------------------


def buttons() -> list[Button]:
    """To which clients each applies their rows tell."""
    known = actions.NODE_ACTIONS
    return [Button(name, said(name), ICONS[name], known[name].asks_first, "") for name in ACTIONS]


_WARNINGS = {
    "upgrade": "Each takes this server's Roost as soon as it has ended what it runs.",
    "remove": "What they run is abandoned at once: to let it end, drain them instead. "
    "An agent that still lives joins again.",
}


async def confirm(site: Site, request: Request, form: Form) -> Response:
    name = _action_of(form)
    found = await _chosen_views(site.gateway, form)
    apply = [view for view in found if view.allows(name)]
    states = Counter(view.state for view in found).most_common()
    question = Question(
        label=said(name),
        many=presenters.counted(len(apply), "client"),
        total=len(found),
        names=[view.node.facts.label for view in apply],
        statuses=[(state, presenters.NODE_TONES[state], n) for state, n in states],
        warning=_WARNINGS.get(name, ""),
        address="/nodes/act",
        fields=fields_of(form),
    )
    return await ask(site, request, form, question)


async def act(site: Site, request: Request, form: Form) -> Response:
    """Do something to each ticked client, or to all that match: all of it or nothing."""
    name = _action_of(form)
    which, ids = _chosen(form)
    group = GroupId(form.number("group")) if name.endswith("_group") else None
    try:
        acted = await site.gateway.act_on_nodes(name, which, ids, group)
    except NotFound:
        await _refuse_unknown(site.gateway, ids)
        raise
    many = presenters.counted(len(acted.applied), "client")
    told = outcome(f"{many} {actions.NODE_ACTIONS[name].done}.", acted, "/nodes?ids=")
    if name == "remove" and form.text("back").partition("?")[0] != "/nodes":
        return site.to("/nodes", told)  # the page it was on is that of a client no more
    return site.back(form, "/nodes", told)


def _action_of(form: Form) -> str:
    name = form.text("action")
    if name not in actions.NODE_ACTIONS:
        raise Invalid(f"There is no action {name!r}.")
    return name


def _chosen(form: Form) -> tuple[NodeFilter | None, tuple[NodeId, ...]]:
    """All that match the list the form was on, or the ticked ones. Raises `Invalid` for none."""
    if form.text("all"):
        asked = parse(form.query("view"))
        return (None, asked.ids) if asked.ids else (asked.which, ())
    ids = tuple(dict.fromkeys(map(NodeId, form.numbers("ids"))))
    if not ids:
        raise Invalid("No client is selected: tick some, or select all that match.")
    return None, ids


async def _chosen_views(gateway: Gateway, form: Form) -> list[NodeView]:
    which, ids = _chosen(form)
    return [
        view
        for view in await gateway.nodes()
        if (view.node.id in ids if which is None else which.passes(view))
    ]


# --- one node ------------------------------------------------------------------------------------


async def find_node(gateway: Gateway, request: Request) -> NodeView:
    """Raises `NotFound`."""
    number = id_in_path(request)
    for view in await gateway.nodes(with_former=True):
        if view.node.id == number:
            return view
    raise _unknown(number)


async def _refuse_unknown(gateway: Gateway, ids: Iterable[NodeId]) -> None:
    """In the words of the pages. Raises `NotFound` for the first of these that is not there."""
    listed = {view.node.id for view in await gateway.nodes()}
    for node in ids:
        if node not in listed:
            raise _unknown(node) from None


def _unknown(node: int) -> NotFound:
    return NotFound(f"There is no client {node}; it may have been removed.")


async def show_node(site: Site, request: Request) -> Response:
    gateway = site.gateway
    view = await find_node(gateway, request)
    tab = request.query_params.get("tab", "running")
    if tab not in dict(TABS):
        tab = "running"
    shown: dict[str, Any] = {}
    row_parts = frozenset({Part.SPEC, Part.ATTEMPTS, Part.SIGNS})
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
    return NodeId(id_in_path(request))


async def describe(site: Site, request: Request, form: Form) -> Response:
    await site.gateway.ask(SetNodeDescription(_id(request), form.text("description")))
    return site.back(form, f"/nodes/{_id(request)}", "The description is kept.")


async def set_hours(site: Site, request: Request, form: Form) -> Response:
    """What the grid says, besides rules that do not fit it; and idleness."""
    view = await find_node(site.gateway, request)
    ticked = {divmod(cell, week.HOURS) for cell in form.numbers("cell")}
    if not ticked <= week.EVERYTHING:
        raise Invalid(f"cell: the hours of a week are 0 to {len(week.EVERYTHING) - 1}.")
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
    groups = tuple(map(GroupId, form.numbers("groups")))
    await site.gateway.ask(SetNodeGroups(_id(request), groups))
    return site.back(form, f"/nodes/{_id(request)}", "Its groups are changed.")


async def add_note(site: Site, request: Request, form: Form) -> Response:
    await find_node(site.gateway, request)  # else the note would be one of the farm
    await site.gateway.ask(AddNote(form.text("text"), node=_id(request)))
    return site.back(form, f"/nodes/{_id(request)}?tab=notes", "The note is added.")
