"""What was: who did what, and how the farm did over time."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from roost.gateway import Kind
from roost.web.site import Site

PAGE_DEEDS = 100
KIND_ROOTS_MAX = 1_000
KINDS_SHOWN = 10
HOURS = ((1, "1 hour"), (24, "1 day"), (7 * 24, "1 week"), (30 * 24, "30 days"))


def routes(site: Site) -> list[Route]:
    return [site.get("/activity", show_activity), site.get("/statistics", show_statistics)]


async def show_activity(site: Site, request: Request) -> Response:
    words = request.query_params.get("q", "").strip()
    before = request.query_params.get("before", "")
    start = int(before) if before.isdecimal() and len(before) < 16 else None
    deeds = await site.gateway.activities(PAGE_DEEDS + 1, start, words)
    return await site.page(
        request,
        "activity.html",
        title="Activity",
        deeds=[deed for _, deed in deeds[:PAGE_DEEDS]],
        more=deeds[PAGE_DEEDS - 1][0] if len(deeds) > PAGE_DEEDS else 0,
        before=start,
        words=words,
        nodes=site.gateway.node_labels(),
        live="?watch=nodes,counts" if start is None else "",
    )


async def show_statistics(site: Site, request: Request) -> Response:
    asked = request.query_params.get("hours", "")
    hours = int(asked) if asked in {str(number) for number, _ in HOURS} else 24
    kinds = await site.gateway.kinds(KIND_ROOTS_MAX)
    return await site.page(
        request,
        "statistics.html",
        title="Statistics",
        hours=hours,
        all_hours=HOURS,
        pace=site.gateway.pace(),
        slowest=sorted(kinds, key=lambda kind: -kind.run_ms)[:KINDS_SHOWN],
        failing=_failing(kinds),
        roots_max=KIND_ROOTS_MAX,
        live="?watch=counts",
    )


def _failing(kinds: list[Kind]) -> list[Kind]:
    found = [kind for kind in kinds if kind.failed]
    return sorted(found, key=lambda kind: (-kind.failed, -kind.failed / kind.jobs))[:KINDS_SHOWN]
