"""The jobs page: what is listed, what of it can be acted on, and what came of that."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Sequence

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from roost.core import actions
from roost.core.lifecycle import FAILED
from roost.core.records import Attempt, JobId, JobStatus
from roost.errors import Invalid, NotFound
from roost.gateway import Acted, Gateway, JobFilter, JobStanding, JobView, NodesActed, Part
from roost.web import presenters, views
from roost.web.site import Form, Said, Site, id_in_path, local
from roost.web.views import Column, JobsView

S = JobStatus

COUNT_MAX = 10_000
"""Where counting for a filter stops."""
ACTED_MAX = 100_000
NAMES_SHOWN = 5
GLANCE_JOBS = 3
GLANCE_BYTES = 4_000
GLANCE_LINES = 12
GLANCE_DEPTH = 8
LEFT_OUT_LINKED = 40

ROW_PARTS = frozenset({Part.SPEC, Part.REASONS, Part.NOTES, Part.ATTEMPTS})


def row_parts(columns: Sequence[Column]) -> frozenset[Part]:
    """What rows with these columns show."""
    wants_signs = any(column.key == "silent" for column in columns)
    return ROW_PARTS | {Part.SIGNS} if wants_signs else ROW_PARTS


BUTTONS = ("pause", "resume", "reschedule_failed", "reschedule", "eject", "cancel", "delete")
ICONS = {
    "pause": "player-pause",
    "resume": "player-play",
    "reschedule": "rotate-clockwise",
    "reschedule_failed": "rotate-clockwise",
    "eject": "player-eject",
    "cancel": "ban",
    "delete": "trash",
}


def routes(site: Site) -> list[Route]:
    return [
        site.get("/jobs", show_jobs),
        site.get("/jobs/{id:int}/glance", show_glance),
        site.post("/jobs/confirm", confirm),
        site.post("/jobs/act", act),
        site.post("/undo", undo),
    ]


class Button(Struct, frozen=True):
    """An action as it is offered."""

    name: str
    label: str
    icon: str
    asks_first: bool
    applies: str
    """Statuses with commas between, for the page to count to how many it applies."""


def buttons() -> list[Button]:
    return [
        Button(
            name,
            said(name),
            ICONS[name],
            actions.find(name).asks_first,
            ",".join(sorted(actions.find(name).applies)),
        )
        for name in BUTTONS
    ]


# --- the list ------------------------------------------------------------------------------------


async def show_jobs(site: Site, request: Request) -> Response:
    view = views.parse(request.query_params)
    if found := await _meant_by(site.gateway, view.q):
        return site.to(found)
    now = site.gateway.now()
    which = view.filter(now, views.PAGE_JOBS + 1)
    jobs = await _listed(site.gateway, view, which)
    following = ""
    if len(jobs) > views.PAGE_JOBS:
        jobs = jobs[: views.PAGE_JOBS]
        by_id = view.sort == "id" and not view.up
        following = (
            view.query(before=jobs[-1].job.id)
            if by_id
            else view.query(skip=view.skip + views.PAGE_JOBS)
        )
    every_status = JobFilter(roots_only=not view.every, limit=which.limit) if view.ids else which
    counts = await site.gateway.count_jobs(_of_any_status(every_status), COUNT_MAX)
    on_first_page = not (view.before or view.skip or view.ids)
    return await site.page(
        request,
        "jobs.html",
        title="Jobs",
        view=view,
        jobs=jobs,
        nodes=site.gateway.node_labels(),
        counts=counts,
        count_max=COUNT_MAX,
        matching=_matching(view, counts),
        following=following,
        buttons=buttons(),
        periods=views.PERIODS,
        all_columns=views.COLUMNS,
        live=live_query(jobs, view.query() if on_first_page else ""),
    )


async def _listed(gateway: Gateway, view: JobsView, which: JobFilter) -> list[JobView]:
    if view.ids:
        return await gateway.job_views(tuple(map(JobId, view.ids)), row_parts(view.shown))
    return await gateway.list_jobs(which, row_parts(view.shown))


async def _meant_by(gateway: Gateway, words: str) -> str:
    """The page of the one thing that a search can only mean: a job's id, a node's name."""
    if words.isascii() and words.isdecimal() and len(words) < 16:
        if await gateway.job_views((JobId(int(words)),), frozenset()):
            return f"/jobs/{words}"
    for node, label in gateway.node_labels().items():
        if label.casefold() == words.casefold():
            return f"/nodes/{node}"
    return ""


def _of_any_status(which: JobFilter) -> JobFilter:
    return JobFilter(
        roots_only=which.roots_only,
        name_contains=which.name_contains,
        name_excludes=which.name_excludes,
        submitted_by=which.submitted_by,
        submitted_after=which.submitted_after,
        ended_after=which.ended_after,
        limit=which.limit,
    )


def _matching(view: JobsView, counts: dict[JobStatus, int]) -> int:
    if view.ids:
        return len(view.ids)
    return sum(n for status, n in counts.items() if not view.status or status in view.status)


def live_query(jobs: Sequence[JobView], listing: str = "") -> str:
    """What the stream of a page with these jobs is asked for; see `live`."""
    ids = ",".join(str(each.job.id) for each in jobs)
    newest = max((each.job.id for each in jobs), default=0)
    listed = f"&newest={newest}&{listing.removeprefix('?')}" if listing else ""
    return f"?rows={ids}{listed}"


# --- why it failed, without leaving the list ------------------------------------------------------


class Failure(Struct, frozen=True):
    """A job that failed, how, and the last that it printed."""

    job: JobView
    attempt: Attempt | None
    lines: str


async def show_glance(site: Site, request: Request) -> Response:
    job = await find_job(site.gateway, request, frozenset({Part.REASONS, Part.ATTEMPTS, Part.SPEC}))
    return site.html(
        "glance.html",
        job=job,
        failures=await failures(site.gateway, job),
        nodes=site.gateway.node_labels(),
    )


async def find_job(gateway: Gateway, request: Request, parts: frozenset[Part]) -> JobView:
    """Raises `NotFound`."""
    for view in await gateway.job_views((JobId(id_in_path(request)),), parts):
        return view
    raise NotFound(f"There is no job {request.path_params['id']}; it may have been deleted.")


async def failures(gateway: Gateway, job: JobView) -> list[Failure]:
    """The first of its jobs that failed by themselves, not because of what is below them."""
    wanted = frozenset({Part.ATTEMPTS, Part.SPEC})
    culprits = [job] if job.job.status in FAILED else []
    parent = job
    for _ in range(GLANCE_DEPTH):
        if not parent.rollup.tasks_failed or parent.rollup.tasks_total <= 1:
            break
        which = JobFilter(
            statuses=(S.FAILED, S.ABANDONED),
            parent=parent.job.id,
            descending=False,
            limit=GLANCE_JOBS,
        )
        below = await gateway.list_jobs(which, wanted)
        if not below:
            break
        culprits, parent = below, below[0]
    found = []
    for culprit in culprits:
        attempt = presenters.last_run(culprit)
        printed = await gateway.output(culprit.job.id, GLANCE_BYTES) if attempt else b""
        lines = printed.decode(errors="replace").splitlines()[-GLANCE_LINES:]
        found.append(Failure(culprit, attempt, "\n".join(lines)))
    return found


# --- acting --------------------------------------------------------------------------------------


class Question(Struct, frozen=True):
    """What an action that cannot be undone would do, to be said yes to."""

    label: str
    many: str
    """`3 jobs`: how many it applies to."""
    total: int
    names: list[str]
    """Of all it applies to."""
    statuses: list[tuple[str, str, int]]
    """Word, tone, and how many of the chosen ones are so."""
    warning: str
    address: str
    """Where the answer goes."""
    fields: list[tuple[str, str]]
    """What the answer says besides."""


def ask(site: Site, request: Request, form: Form, question: Question) -> Awaitable[Response]:
    """The page with the question, which a browser shows as a dialog."""
    return site.page(
        request,
        "confirm.html",
        title=f"{question.label} {question.many}?",
        question=question,
        back=local(form.text("back")) or "/",
        names_shown=NAMES_SHOWN,
    )


_WARNINGS = {
    "delete": "What is below them and their output goes too. This cannot be undone.",
    "cancel": "What is below them is cancelled too, and what runs is stopped.",
    "eject": "They leave their clients and start again elsewhere.",
    "reschedule": "They run again, with what failed below them.",
}


async def confirm(site: Site, request: Request, form: Form) -> Response:
    name = _action_of(form)
    found = await site.gateway.standings(*_chosen(site.gateway, form))
    applies = actions.find(name).applies
    apply = [one for one in found if one.status in applies or _has_failed_below(name, one)]
    by_status = Counter(one.status for one in found).most_common()
    question = Question(
        label=said(name),
        many=presenters.counted(len(apply), "job"),
        total=len(found),
        names=[one.name or str(one.id) for one in apply],
        statuses=[(status.value, presenters.tone(status), n) for status, n in by_status],
        warning=_WARNINGS.get(name, _WARNINGS["reschedule"]),
        address="/jobs/act",
        fields=fields_of(form),
    )
    return await ask(site, request, form, question)


def fields_of(form: Form) -> list[tuple[str, str]]:
    """What is to be said again with the answer to a question: what to do, and to which."""
    left_out = {"back", *(["ids"] if form.text("all") else [])}
    return [(name, value) for name, value in form.multi_items() if name not in left_out]


def _has_failed_below(name: str, job: JobStanding) -> bool:
    return name == "reschedule_failed" and bool(job.tasks_failed)


async def act(site: Site, request: Request, form: Form) -> Response:
    name = _action_of(form)
    priority = form.number("priority") if name == "priority" else None
    if priority is not None and priority < 0:
        raise Invalid("A priority is 0 or more; higher goes first.")
    which, ids = _chosen(site.gateway, form)
    acted = await site.gateway.act(name, which, ids, priority)
    done = f"{presenters.counted(len(acted.applied), 'job')} {actions.find(name).done}."
    told = outcome(done, acted, "/jobs?every=1&ids=")
    if name == "delete" and await _is_gone(site.gateway, form.text("back")):
        return site.to("/jobs", told)
    return site.back(form, "/jobs", told)


async def _is_gone(gateway: Gateway, address: str) -> bool:
    """Whether the page at this address is that of a job that is no more."""
    found = re.match(r"/jobs/(\d{1,15})\b", address)
    return found is not None and not await gateway.job_views((JobId(int(found[1])),), frozenset())


def outcome(done: str, acted: Acted | NodesActed, listing: str) -> Said:
    """What is said afterwards; `listing` is the address of the page of those left out."""
    link = ""
    if acted.left_out:
        done += f" {presenters.count(len(acted.left_out))} left out, as it does not apply to them."
        link = listing + ",".join(map(str, acted.left_out[:LEFT_OUT_LINKED]))
    return Said(done, "done" if acted.applied else "refused", link, acted.undo)


async def undo(site: Site, request: Request, form: Form) -> Response:
    """Take back what the message before told of, also if that was an undoing."""
    undone = await site.gateway.undo(form.text("undo"))
    many = [
        presenters.counted(len(found), noun)
        for found, noun in ((undone.jobs, "job"), (undone.nodes, "client"))
        if found
    ]
    text = f"Undone: {' and '.join(many)} as before."
    return site.back(form, "/", Said(text, undo=undone.undo))


def _action_of(form: Form) -> str:
    name = form.text("action")
    try:
        actions.find(name)
    except KeyError:
        raise Invalid(f"There is no action {name!r}.") from None
    return name


def said(name: str) -> str:
    """An action as its button says it."""
    return name.replace("_", " ").capitalize()


def _chosen(gateway: Gateway, form: Form) -> tuple[JobFilter | None, tuple[JobId, ...]]:
    """All that match the list the form was on, or the ticked ones. Raises `Invalid` for none."""
    if form.text("all"):
        view = views.parse(form.query("view"))
        if view.ids:
            return None, tuple(map(JobId, view.ids))
        return view.filter(gateway.now(), ACTED_MAX), ()
    ids = tuple(dict.fromkeys(map(JobId, form.numbers("ids"))))
    if not ids:
        raise Invalid("No job is selected: tick some, or select all that match.")
    return None, ids
