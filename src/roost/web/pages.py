"""All pages together, as routes for the server."""

from __future__ import annotations

from starlette.routing import BaseRoute

from roost.web import drawings, farm, job, jobs, live, nodes, records, submit
from roost.web.site import Site

MODULES = (live, jobs, job, nodes, farm, records, submit)


def routes(site: Site) -> list[BaseRoute]:
    pages = (route for module in MODULES for route in module.routes(site))
    return [site.static(), *drawings.routes(site.gateway), *pages]
