"""Pages about the farm as a whole: home, groups, resources, notes, settings, old addresses."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime
from xml.etree import ElementTree

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from roost.core.messages import (
    AddNote,
    CreateGroup,
    DeleteGroup,
    RemoveNotes,
    RemoveResource,
    RemoveThreads,
    SetGroupNodes,
    SetResource,
)
from roost.core.records import (
    DAY_MS,
    GroupId,
    JobStatus,
    Moment,
    NodeId,
    NoteId,
    ThreadId,
)
from roost.errors import Conflict, Invalid
from roost.gateway import (
    Gateway,
    JobFilter,
    JobView,
    NodeView,
    Part,
    ResourceView,
    ServerError,
    ThreadView,
)
from roost.web import views
from roost.web.jobs import Question, ask, fields_of
from roost.web.presenters import counted
from roost.web.site import Form, Site, id_in_path

HOME_JOBS = 12
HOME_NODES = 12
FEED_NOTES = 50
THREADS_SHOWN = 100


def routes(site: Site) -> list[Route]:
    return [
        site.get("/", show_home),
        site.get("/groups", show_groups),
        site.post("/groups/create", create_group),
        site.post("/groups/{id:int}", change_group),
        site.get("/resources", show_resources),
        site.post("/resources/set", set_resource),
        site.post("/resources/remove", remove_resource),
        site.get("/notes", show_notes),
        site.get("/notes.rss", feed),
        site.post("/notes/add", add_note),
        site.post("/notes/remove", remove_note),
        site.get("/settings", show_settings),
        # HQueue's own addresses, which mails, bookmarks and scripts contain.
        site.get("/jobs/view/{id:int}", old_job),
        site.get("/jobs/view", old_jobs),
        site.get("/jobs/list", old_jobs),
        site.get("/clients", old_nodes),
        site.get("/clients/view/{id:int}", old_node),
        site.get("/clientgroups", old_groups),
        site.get("/resources/view", old_resources),
    ]


# --- home ----------------------------------------------------------------------------------------


class Concerns(Struct, frozen=True):
    """What needs a person; all empty when nothing does."""

    failed: list[JobView]
    abandoned: list[JobView]
    stuck: list[JobView]
    blocked: list[JobView]
    silent: list[NodeView]
    exhausted: list[ResourceView]
    errors: list[ServerError]

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__struct_fields__)


async def show_home(site: Site, request: Request) -> Response:
    concerns = await _concerns(site.gateway)
    return await site.page(
        request,
        "home.html",
        title="Home",
        concerns=concerns,
        nodes=site.gateway.node_labels(),
        latest=await site.gateway.list_jobs(
            JobFilter(roots_only=True, limit=6), frozenset({Part.SPEC})
        ),
        live="?watch=nodes,counts",
    )


async def _concerns(gateway: Gateway) -> Concerns:
    now = gateway.now()
    parts = frozenset({Part.SPEC, Part.ATTEMPTS})

    async def roots(status: JobStatus, since: Moment | None = None) -> list[JobView]:
        which = JobFilter(
            statuses=(status,),
            roots_only=since is not None,
            ended_after=since,
            limit=HOME_JOBS,
        )
        return await gateway.list_jobs(which, parts)

    running = await gateway.list_jobs(
        JobFilter(statuses=(JobStatus.RUNNING,), descending=False, limit=200),
        frozenset({Part.SIGNS}),
    )
    stuck = [view for view in running if view.is_silent(now)][:HOME_JOBS]
    open_roots = await gateway.list_jobs(
        JobFilter(
            statuses=(JobStatus.QUEUED, JobStatus.RUNNABLE, JobStatus.RUNNING),
            roots_only=True,
            limit=200,
        ),
        frozenset(),
    )
    listed = await gateway.nodes()
    return Concerns(
        failed=await roots(JobStatus.FAILED, Moment(now - DAY_MS)),
        abandoned=await roots(JobStatus.ABANDONED),
        stuck=stuck,
        blocked=[view for view in open_roots if view.job.blocked_warning][:HOME_JOBS],
        silent=[view for view in listed if not view.node.active][:HOME_NODES],
        exhausted=[
            one
            for one in await gateway.resources()
            if one.resource.max is not None and one.in_use >= one.resource.max > 0
        ],
        errors=list(gateway.server_errors().errors[:5]),
    )


def _ask_about(
    site: Site, request: Request, form: Form, label: str, noun: str, name: str, warning: str
) -> Awaitable[Response]:
    """Whether one thing is really to be done away with: the same form, with `sure`."""
    fields = [*fields_of(form), ("sure", "1")]
    address = request.url.path
    question = Question(label, f"1 {noun}", 1, [name], [], warning, address, fields)
    return ask(site, request, form, question)


# --- groups --------------------------------------------------------------------------------------


async def show_groups(site: Site, request: Request) -> Response:
    return await site.page(
        request,
        "groups.html",
        title="Client groups",
        groups=await site.gateway.groups(),
        # A box for each client in the form of each group would be millions of them.
        changing=views.whole(request.query_params.get("change", "")),
        nodes={view.node.id: view for view in await site.gateway.nodes()},
        live="?watch=nodes",
    )


async def create_group(site: Site, request: Request, form: Form) -> Response:
    await site.gateway.ask(CreateGroup(form.text("name")))
    return site.back(form, "/groups", f"The group {form.text('name')} is made.")


async def change_group(site: Site, request: Request, form: Form) -> Response:
    group = GroupId(id_in_path(request))
    if form.text("action") == "delete":
        if not form.text("sure"):
            name = next((one.name for one in await site.gateway.groups() if one.id == group), "")
            warning = "Its clients stay. Jobs that ask for it wait until there is one of that name."
            return await _ask_about(site, request, form, "Delete", "group", name, warning)
        await site.gateway.ask(DeleteGroup(group))
        return site.back(form, "/groups", "The group is deleted.")
    nodes = tuple(map(NodeId, form.numbers("nodes")))
    await site.gateway.ask(SetGroupNodes(group, nodes))
    return site.back(form, "/groups", f"The group has {counted(len(nodes), 'client')} now.")


# --- resources -----------------------------------------------------------------------------------


async def show_resources(site: Site, request: Request) -> Response:
    return await site.page(
        request,
        "resources.html",
        title="Resources",
        resources=await site.gateway.resources(),
        live="?watch=nodes,counts",
    )


async def set_resource(site: Site, request: Request, form: Form) -> Response:
    text = form.text("max")
    limit = form.number("max") if text else None
    if limit is not None and limit < 0:
        raise Invalid("max: a resource cannot have fewer than 0.")
    name = form.text("name")
    await site.gateway.ask(SetResource(name, limit, bool(form.text("per_machine"))))
    return site.back(form, "/resources", f"There are {text or 'any number of'} {name} now.")


async def remove_resource(site: Site, request: Request, form: Form) -> Response:
    if not form.text("sure"):
        warning = "Jobs that need it wait until it is entered again."
        return await _ask_about(
            site, request, form, "Remove", "resource", form.text("name"), warning
        )
    await site.gateway.ask(RemoveResource(form.text("name")))
    said = f"{form.text('name')} is removed; jobs that need it wait."
    return site.back(form, "/resources", said)


# --- notes ---------------------------------------------------------------------------------------


async def show_notes(site: Site, request: Request) -> Response:
    threads = await _latest_threads(site.gateway, THREADS_SHOWN)
    jobs = [each.job for each in threads if each.job is not None]
    views = await site.gateway.job_views(jobs, frozenset())
    return await site.page(
        request,
        "notes.html",
        title="Notes",
        threads=threads,
        jobs={view.job.id: view for view in views},
        nodes=site.gateway.node_labels(),
        live="?watch=nodes",
    )


async def _latest_threads(gateway: Gateway, limit: int) -> list[ThreadView]:
    newest = await gateway.threads(latest_only=True)
    newest.sort(key=lambda thread: thread.notes[-1].at, reverse=True)
    return await gateway.threads([thread.id for thread in newest[:limit]])


async def add_note(site: Site, request: Request, form: Form) -> Response:
    thread = form.number("thread", 0)
    await site.gateway.ask(AddNote(form.text("text"), thread=ThreadId(thread) if thread else None))
    return site.back(form, "/notes", "The note is added.")


async def remove_note(site: Site, request: Request, form: Form) -> Response:
    if thread := form.number("thread", 0):
        if not form.text("sure"):
            found = await site.gateway.threads([ThreadId(thread)])
            first = found[0].notes[0].text if found else ""
            warning = "All notes of the thread go, whoever wrote them. This cannot be undone."
            return await _ask_about(site, request, form, "Remove", "thread", first, warning)
        await site.gateway.ask(RemoveThreads((ThreadId(thread),)))
        return site.back(form, "/notes", "The thread is removed.")
    if await site.gateway.ask(RemoveNotes((NoteId(form.number("note")),))):
        raise Conflict("The note has replies, or is gone already: remove the whole thread.")
    return site.back(form, "/notes", "The note is removed.")


async def feed(site: Site, request: Request) -> Response:
    """The latest notes as RSS 2.0."""
    base = str(request.base_url).rstrip("/")
    labels = site.gateway.node_labels()
    rss = ElementTree.Element("rss", version="2.0")
    channel = ElementTree.SubElement(rss, "channel")
    _text(channel, "title", f"Notes of {site.look.name or 'Roost'}")
    _text(channel, "link", f"{base}/notes")
    _text(channel, "description", "What people say of jobs and clients")
    threads = await _latest_threads(site.gateway, FEED_NOTES)
    notes = [(note, thread) for thread in threads for note in thread.notes]
    notes.sort(key=lambda pair: (pair[0].at, pair[0].id), reverse=True)
    for note, thread in notes[:FEED_NOTES]:
        item = ElementTree.SubElement(channel, "item")
        _text(item, "title", _about(thread, labels))
        _text(item, "link", base + _address(thread))
        _text(item, "guid", f"{base}/notes#note-{note.id}")
        _text(item, "pubDate", _http_date(note.at))
        _text(item, "description", note.text)
    return Response(ElementTree.tostring(rss, "utf-8", xml_declaration=True), media_type=RSS)


RSS = "application/rss+xml; charset=utf-8"


def _text(parent: ElementTree.Element, name: str, text: str) -> None:
    # Control characters cannot be written in XML at all.
    kept = "".join(c for c in text if c >= " " or c in "\n\t")
    ElementTree.SubElement(parent, name).text = kept


def _about(thread: ThreadView, labels: dict[NodeId, str]) -> str:
    if thread.job is not None:
        return f"Job {thread.job}"
    if thread.node is not None:
        return f"Client {labels.get(thread.node, thread.node)}"
    return "The farm"


def _address(thread: ThreadView) -> str:
    if thread.job is not None:
        return f"/jobs/{thread.job}?tab=notes"
    return f"/nodes/{thread.node}?tab=notes" if thread.node is not None else "/notes"


def _http_date(at: Moment) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")


# --- settings ------------------------------------------------------------------------------------


async def show_settings(site: Site, request: Request) -> Response:
    errors = site.gateway.server_errors()
    return await site.page(
        request, "settings.html", title="Settings", settings=site.look.settings, errors=errors
    )


# --- old addresses -------------------------------------------------------------------------------


async def old_job(site: Site, request: Request) -> Response:
    return RedirectResponse(f"/jobs/{request.path_params['id']}", 301)


async def old_jobs(site: Site, request: Request) -> Response:
    return RedirectResponse("/jobs", 301)


async def old_nodes(site: Site, request: Request) -> Response:
    return RedirectResponse("/nodes", 301)


async def old_node(site: Site, request: Request) -> Response:
    return RedirectResponse(f"/nodes/{request.path_params['id']}", 301)


async def old_groups(site: Site, request: Request) -> Response:
    return RedirectResponse("/groups", 301)


async def old_resources(site: Site, request: Request) -> Response:
    return RedirectResponse("/resources", 301)
