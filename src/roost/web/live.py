"""What keeps a shown page fresh: one stream of server-sent events for each page.

Asked with the ids of the rows that are shown, it sends those that change, as they are to be
shown; with the ids of jobs or with words that a page shows, it says that there is something new
and the page fetches those parts again. In between it says every two seconds that it is there, so
that a page can tell when it is not. Changes are merged while a page waits: what happens fifty
times a second is sent once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

from msgspec import Struct
from msgspec.structs import replace
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from roost import package
from roost.core.records import JobId
from roost.gateway import FarmChange, JobFilter
from roost.web import views
from roost.web.jobs import row_parts
from roost.web.site import Site
from roost.web.views import JobsView

BEAT_S = 2.0
PAUSE_S = 1.0
"""Between two updates of one page; each makes the browser paint it anew."""
FOLLOWED_MAX = 1_000
NEW_MAX = 100
"""Where counting new jobs stops."""


def routes(site: Site) -> list[Route]:
    return [site.get("/live", follow)]


class Wish(Struct, frozen=True):
    """What a page wants to be told."""

    rows: tuple[JobId, ...] = ()
    """Jobs whose rows are to be sent."""
    jobs: tuple[JobId, ...] = ()
    """Jobs whose change is to be said."""
    nodes: bool = False
    counts: bool = False
    view: JobsView = JobsView()
    seen: int = 0
    """The revision of the farm that the page was made from."""
    newest: int | None = None
    """Of the jobs in the list; new ones that belong to it are counted."""


def wish_of(request: Request) -> Wish:
    query = request.query_params
    watched = query.get("watch", "").split(",")
    newest, seen = query.get("newest", ""), query.get("seen", "")
    return Wish(
        rows=_ids(query.get("rows", "")),
        jobs=_ids(query.get("jobs", "")),
        nodes="nodes" in watched,
        counts="counts" in watched,
        view=views.parse(query),
        seen=int(seen) if seen.isdecimal() and len(seen) < 16 else 0,
        newest=int(newest) if newest.isdecimal() and len(newest) < 16 else None,
    )


def _ids(text: str) -> tuple[JobId, ...]:
    words = (word for word in text.split(",") if word.isdecimal() and len(word) < 16)
    return tuple(JobId(int(word)) for word in words)[:FOLLOWED_MAX]


async def follow(site: Site, request: Request) -> Response:
    return EventSourceResponse(_events(site, wish_of(request)), ping=3600)


async def _events(site: Site, wish: Wish) -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent(package.version(), event="hello")
    headline = ""
    # Begins with what happened since the page was made, when nobody was there to tell it.
    watching = site.gateway.watch((*wish.rows, *wish.jobs), wish.seen)
    async with aclosing(cast("Any", watching)) as changes:
        coming = asyncio.ensure_future(anext(changes))
        try:
            while True:
                await asyncio.wait({coming}, timeout=BEAT_S)
                if coming.done():
                    try:
                        change = coming.result()
                    except StopAsyncIteration:
                        return
                    async for event in _told(site, wish, change):
                        yield event
                    coming = asyncio.ensure_future(anext(changes))
                    await asyncio.sleep(PAUSE_S)
                else:
                    yield ServerSentEvent("", event="beat")
                fresh = await site.headline()
                if fresh != headline:
                    headline = fresh
                    yield ServerSentEvent(fresh, event="counts")
        finally:
            coming.cancel()
            await asyncio.wait({coming})


async def _told(site: Site, wish: Wish, change: FarmChange) -> AsyncIterator[ServerSentEvent]:
    changed = set(change.jobs)
    rows = [job for job in wish.rows if job in changed]
    if rows:
        columns = wish.view.shown
        jobs = await site.gateway.job_views(rows, row_parts(columns))
        html = site.part(
            "job_rows.html", jobs=jobs, columns=columns, nodes=site.gateway.node_labels()
        )
        yield ServerSentEvent(html, event="rows")
        gone = set(rows) - {each.job.id for each in jobs}
        if gone:
            yield ServerSentEvent(",".join(map(str, sorted(gone))), event="gone")
    is_news = (wish.nodes and change.nodes) or (wish.counts and change.counts)
    if is_news or not changed.isdisjoint(wish.jobs):
        yield ServerSentEvent("", event="changed")
    if wish.newest is not None and change.submitted:
        counts = await site.gateway.count_jobs(_newer(site, wish, wish.newest), NEW_MAX)
        yield ServerSentEvent(str(min(sum(counts.values()), NEW_MAX)), event="new")


def _newer(site: Site, wish: Wish, newest: int) -> JobFilter:
    return replace(wish.view.filter(site.gateway.now()), after=JobId(newest), before=None)
