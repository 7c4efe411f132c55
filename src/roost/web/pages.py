"""All pages together, as routes for the server."""

from __future__ import annotations

from starlette.routing import BaseRoute

from roost.gateway import Gateway
from roost.web import farm, job, jobs, live, nodes, records, submit
from roost.web.site import Look, Site

MODULES = (live, jobs, job, nodes, farm, records, submit)


def routes(gateway: Gateway, look: Look) -> list[BaseRoute]:
    site = Site(gateway, look)
    return [site.static(), *(route for module in MODULES for route in module.routes(site))]
