"""All pages together, as routes for the server."""

from __future__ import annotations

from starlette.routing import BaseRoute

from roost.gateway import Gateway
from roost.web import job, jobs, live
from roost.web.site import Look, Site


def routes(gateway: Gateway, look: Look) -> list[BaseRoute]:
    site = Site(gateway, look)
    return [site.static(), *live.routes(site), *jobs.routes(site), *job.routes(site)]
